"""A background run that no worker has acknowledged becomes CANCELLED at once instead of CANCELLING."""

from collections.abc import Sequence
from typing import Any

import pytest

from db.connection import Connection
from db.enums import TERMINAL, StateType
from db.runtime.timestamps import seconds_after
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.policy import FORCED, IN_BACKGROUND, IN_FLOW_RUN
from resolvers.orchestration.rules.task_runs.cancel_unheld_task_runs_immediately import (
    cancel_unheld_task_runs_immediately,
)
from resolvers.orchestration.transition import OrchestrationStatus
from resolvers.transitions.set_states import StateChange, set_task_run_states
from tests.builders.api_runs import (
    create_flow_run,
    create_task_run,
    read_slot_holders,
    read_state_names,
    set_states_in_turn,
    set_task_run_state,
)
from tests.builders.queued_runs import create_scheduled, run_ids, run_under_lease
from tests.builders.transitions import propose, task_run, transition
from tests.client import Client
from tests.serving import RunningServer

UNFINISHED = [None, *(each for each in StateType if each not in TERMINAL)]
REASON = "No worker has acknowledged the task run, which is cancelled immediately."


@pytest.mark.parametrize("leaving", UNFINISHED)
def test_a_run_without_a_worker_is_cancelled_immediately(leaving: StateType | None) -> None:
    proposed = propose(StateType.CANCELLING, message="stop", data="1")

    decision = decide([cancel_unheld_task_runs_immediately], transition(task_run(leaving), proposed))

    cancelled = propose(StateType.CANCELLED, message="stop", data="1")
    assert decision == Decision(OrchestrationStatus.REJECT, cancelled, REASON)


@pytest.mark.parametrize("leaving", UNFINISHED)
def test_the_worker_of_a_run_is_asked_to_cancel_it(leaving: StateType | None) -> None:
    decision = decide(
        [cancel_unheld_task_runs_immediately], transition(task_run(leaving), StateType.CANCELLING, has_worker=True)
    )

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.CANCELLING))


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.CANCELLING])
def test_other_states_are_not_affected(entering: StateType) -> None:
    decision = decide([cancel_unheld_task_runs_immediately], transition(task_run(StateType.SCHEDULED), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


def test_only_background_runs_are_governed() -> None:
    assert cancel_unheld_task_runs_immediately in IN_BACKGROUND
    assert cancel_unheld_task_runs_immediately not in (*IN_FLOW_RUN, *FORCED)


async def cancel(client: Client, id: str, *, force: bool = False) -> tuple[Any, ...]:
    """Propose CANCELLING. Return the status, the type of the resulting state, and that of the run."""
    result = await set_task_run_state(client, id, "CANCELLING", force=force, message="stop")
    return result["status"], result["state"]["type"], result["taskRun"]["stateType"]


AT_ONCE = ("REJECT", "CANCELLED", "CANCELLED")


async def test_a_queued_run_is_cancelled_and_leaves_the_queue(client: Client) -> None:
    id, other = [await create_scheduled(client) for _ in range(2)]

    assert await cancel(client, id) == AT_ONCE

    assert await read_state_names(client, id) == ["Scheduled", "Cancelled"]
    assert (await client.execute("GetTaskRun", id=id))["queueEntry"] is None
    assert run_ids((await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=10))["deliveries"]) == [other]


async def test_a_delivered_run_is_cancelled_and_its_unacknowledged_lease_is_lost(client: Client) -> None:
    id = await create_scheduled(client)
    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]

    assert await cancel(client, id) == AT_ONCE

    (lease,) = (await client.execute("AcknowledgeTaskRuns", leaseIds=[delivery["leaseId"]]))["leases"]
    assert lease["status"] == "LOST"
    result = await set_task_run_state(client, id, "RUNNING", lease_id=delivery["leaseId"])
    assert (result["status"], await read_state_names(client, id)) == ("ABORT", ["Scheduled", "Cancelled"])


async def test_a_run_that_awaits_its_retry_is_cancelled(client: Client) -> None:
    id = await create_scheduled(client, retryPolicy={"retries": 1, "retryDelaySeconds": [60]})
    _, lease = await run_under_lease(client, "RUNNING")
    await set_task_run_state(client, id, "FAILED", lease_id=lease)

    assert await cancel(client, id) == AT_ONCE

    assert await read_state_names(client, id) == ["Scheduled", "Running", "AwaitingRetry", "Cancelled"]
    assert (await client.execute("GetTaskRun", id=id))["queueEntry"] is None


@pytest.mark.parametrize("states", [("PENDING",), ("RUNNING",), ("RUNNING", "PAUSED")])
@pytest.mark.parametrize("force", [False, True])
async def test_a_run_without_a_lease_is_cancelled_and_frees_its_slot(
    client: Client, states: tuple[str, ...], force: bool
) -> None:
    await client.execute("SetConcurrencyLimit", tag="x", limit=1)
    id = await create_task_run(client, "SCHEDULED", tags=["x"])
    await set_states_in_turn(client, id, *states)

    cancelled = await cancel(client, id, force=force)

    assert cancelled == (("ACCEPT", "CANCELLED", "CANCELLED") if force else AT_ONCE)
    names = [each.capitalize() for each in ("SCHEDULED", *states, *(["CANCELLING"] if force else []), "CANCELLED")]
    assert await read_state_names(client, id) == names
    assert await read_slot_holders(client, "x") == []


async def test_an_automatically_acknowledged_run_is_cancelled(client: Client) -> None:
    id = await create_scheduled(client)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], autoAcknowledge=True)
        assert run_ids(await socket.deliveries(1)) == [id]
        await set_task_run_state(client, id, "RUNNING")

        assert await cancel(client, id) == AT_ONCE


def cancel_after_a_minute(connection: Connection, ids: Sequence[str]) -> list[Any]:
    """Propose CANCELLING one minute from now, before the sweeper finds the expired leases."""
    connection.now = seconds_after(connection.now, 60)
    return set_task_run_states(connection, [StateChange(id, propose(StateType.CANCELLING)) for id in ids])


async def test_a_run_whose_lease_has_expired_is_cancelled_before_the_sweep(server: RunningServer) -> None:
    id = await create_scheduled(server.client)
    await run_under_lease(server.client, "RUNNING")

    result = await server.services.database.write(cancel_after_a_minute, id)

    assert (result.status, result.state.type) == (OrchestrationStatus.REJECT, StateType.CANCELLED)
    assert (await server.client.execute("GetTaskRun", id=id))["queueEntry"] is None


@pytest.mark.parametrize("states", [(), ("PENDING",), ("RUNNING",), ("PAUSED",)])
@pytest.mark.parametrize("force", [False, True])
async def test_the_worker_with_an_acknowledged_lease_is_asked_to_stop(
    client: Client, states: tuple[str, ...], force: bool
) -> None:
    id = await create_scheduled(client)
    _, lease = await run_under_lease(client, *states)

    assert await cancel(client, id, force=force) == ("ACCEPT", "CANCELLING", "CANCELLING")

    (renewed,) = (await client.execute("RenewTaskRunLeases", leaseIds=[lease]))["leases"]
    assert (renewed["status"], renewed["cancelRequested"]) == ("HELD", True)
    result = await set_task_run_state(client, id, "CANCELLED", lease_id=lease)
    assert result["status"] == "ACCEPT"


@pytest.mark.parametrize("force", [False, True])
async def test_a_task_run_of_a_flow_run_becomes_cancelling(client: Client, force: bool) -> None:
    id = await create_task_run(client, flowRunId=await create_flow_run(client, "RUNNING"))

    assert await cancel(client, id, force=force) == ("ACCEPT", "CANCELLING", "CANCELLING")


async def test_a_background_run_created_as_cancelling_is_cancelled(client: Client) -> None:
    id = await create_task_run(client, "CANCELLING")

    assert await read_state_names(client, id) == ["Cancelled"]


@pytest.mark.parametrize("force", [False, True])
async def test_repeating_a_cancellation_sets_no_further_state(client: Client, force: bool) -> None:
    id = await create_scheduled(client)
    details = {"transitionId": "00000000-0000-4000-8000-000000000001"}
    first = await set_task_run_state(client, id, "CANCELLING", force=force, details=details)

    again = await set_task_run_state(client, id, "CANCELLING", force=force, details=details)

    recorded = "CANCELLING" if force else "CANCELLED"
    assert (again["stateCreated"], again["state"]["type"], again["status"]) == (False, recorded, first["status"])
    assert again["taskRun"]["stateType"] == "CANCELLED"
    assert await read_state_names(client, id) == ["Scheduled", *(["Cancelling"] if force else []), "Cancelled"]

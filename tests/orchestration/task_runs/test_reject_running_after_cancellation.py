"""A background run that has been cancelled does not become RUNNING."""

import pytest

from db.enums import StateType
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.policy import FORCED, IN_BACKGROUND, IN_FLOW_RUN
from resolvers.orchestration.rules.task_runs.reject_running_after_cancellation import reject_running_after_cancellation
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.api_runs import create_flow_run, create_task_run, read_state_names, set_task_run_state
from tests.builders.queued_runs import create_scheduled, run_ids, run_under_lease
from tests.builders.transitions import propose, task_run, transition
from tests.client import Client

CANCELLATIONS = [StateType.CANCELLED, StateType.CANCELLING]


@pytest.mark.parametrize("leaving", CANCELLATIONS)
def test_a_cancelled_run_does_not_start(leaving: StateType) -> None:
    decision = decide([reject_running_after_cancellation], transition(task_run(leaving), StateType.RUNNING))

    reason = f"The task run is {leaving}. To run it again, set SCHEDULED."
    assert decision == Decision(OrchestrationStatus.REJECT, None, reason)


@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each not in CANCELLATIONS)])
def test_any_other_run_may_start(leaving: StateType | None) -> None:
    decision = decide([reject_running_after_cancellation], transition(task_run(leaving), StateType.RUNNING))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING))


@pytest.mark.parametrize("leaving", CANCELLATIONS)
@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.RUNNING])
def test_a_cancelled_run_may_enter_other_states(leaving: StateType, entering: StateType) -> None:
    decision = decide([reject_running_after_cancellation], transition(task_run(leaving), entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


def test_only_background_runs_are_governed() -> None:
    assert reject_running_after_cancellation in IN_BACKGROUND
    assert reject_running_after_cancellation not in (*IN_FLOW_RUN, *FORCED)


@pytest.mark.parametrize("type", ["CANCELLED", "CANCELLING"])
async def test_an_automatically_acknowledged_run_does_not_start_after_a_cancellation(client: Client, type: str) -> None:
    id = await create_scheduled(client)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], autoAcknowledge=True)
        assert run_ids(await socket.deliveries(1)) == [id]
    await set_task_run_state(client, id, type)

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["status"], result["stateCreated"], result["state"]["type"]) == ("REJECT", False, "CANCELLED")
    assert await read_state_names(client, id) == ["Scheduled", "Cancelled"]


async def test_a_worker_cannot_withdraw_a_cancellation(client: Client) -> None:
    id = await create_scheduled(client)
    _, lease = await run_under_lease(client, "RUNNING")
    await set_task_run_state(client, id, "CANCELLING")

    result = await set_task_run_state(client, id, "RUNNING", lease_id=lease)

    assert (result["status"], result["stateCreated"]) == ("REJECT", False)
    assert await read_state_names(client, id) == ["Scheduled", "Running", "Cancelling"]


async def test_a_cached_result_does_not_complete_a_cancelled_run(client: Client) -> None:
    cached = await create_task_run(client, "RUNNING")
    await set_task_run_state(client, cached, "COMPLETED", data=1, details={"cacheKey": "k"})
    id = await create_task_run(client, "CANCELLED")

    result = await set_task_run_state(client, id, "RUNNING", details={"cacheKey": "k"})

    assert (result["status"], result["stateCreated"]) == ("REJECT", False)


async def test_a_cancelled_run_runs_again_after_it_is_scheduled_on_purpose(client: Client) -> None:
    id = await create_task_run(client, "CANCELLED")

    scheduled = await set_task_run_state(client, id, "SCHEDULED")
    await run_under_lease(client, "RUNNING")

    assert scheduled["status"] == "ACCEPT"
    assert await read_state_names(client, id) == ["Cancelled", "Scheduled", "Running"]


async def test_a_cancelled_task_run_of_a_flow_run_may_start(client: Client) -> None:
    id = await create_task_run(client, "CANCELLED", flowRunId=await create_flow_run(client, "RUNNING"))

    assert (await set_task_run_state(client, id, "RUNNING"))["status"] == "ACCEPT"

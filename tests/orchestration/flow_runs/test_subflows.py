"""The parent task run of a subflow mirrors the states of the subflow."""

from typing import Any

import pytest

from tests.builders.api_runs import (
    create_flow,
    create_flow_run,
    create_task_run,
    read_slot_holders,
    read_state_names,
    set_flow_run_state,
    set_task_run_state,
)
from tests.builders.ids import TRANSITION_ID
from tests.client import Client
from tests.serving import RunningServer

REFERENCE = {"type": "reference"}


async def create_subflow(client: Client, parent_id: str, state: str = "PENDING", **fields: Any) -> str:
    flow_id = await create_flow(client, "child")
    return await create_flow_run(client, {"type": state, **fields}, flowId=flow_id, parentTaskRunId=parent_id)


@pytest.fixture(params=["in_a_flow_run", "in_the_background"])
async def parent_id(client: Client, request: pytest.FixtureRequest) -> str:
    """The id of a PENDING task run."""
    if request.param == "in_the_background":
        return await create_task_run(client, "PENDING")
    return await create_task_run(client, "PENDING", flowRunId=await create_flow_run(client, "RUNNING"))


async def test_a_running_subflow_makes_its_parent_task_run_running(server: RunningServer, parent_id: str) -> None:
    client = server.client
    subflow_id = await create_subflow(client, parent_id)
    server.clock.advance(5)

    result = await set_flow_run_state(client, subflow_id, "RUNNING", name="Mine", message="Off we go", data=[1])

    run = await client.execute("GetTaskRun", id=parent_id)
    assert (run["stateType"], run["stateName"], run["runCount"]) == ("RUNNING", "Mine", 1)
    assert (run["state"]["message"], run["state"]["data"]) == ("Off we go", [1])
    assert run["startTime"] == run["state"]["timestamp"] == "2030-01-01T12:00:05.000000Z"
    assert run["state"]["id"] != result["state"]["id"]
    assert (run["state"]["details"]["taskRunId"], run["state"]["details"]["flowRunId"]) == (parent_id, run["flowRunId"])
    assert (run["childFlowRun"], run["flowRunRunCount"]) == ({"id": subflow_id}, 0)


async def test_the_parent_task_run_mirrors_every_subflow_state(server: RunningServer, parent_id: str) -> None:
    client = server.client
    subflow_id = await create_subflow(client, parent_id, "SCHEDULED")

    for type in ("PENDING", "RUNNING", "PAUSED", "RUNNING", "COMPLETED"):
        await set_flow_run_state(client, subflow_id, type)

    names = ["Scheduled", "Pending", "Running", "Paused", "Running", "Completed"]
    assert await read_state_names(client, parent_id) == ["Pending", *names]
    subflow = await client.execute("GetFlowRun", id=subflow_id)
    assert [state["name"] for state in subflow["states"]] == names


@pytest.mark.parametrize("state", ["SCHEDULED", "RUNNING", "COMPLETED"])
async def test_the_parent_task_run_mirrors_the_subflows_initial_state(
    client: Client, parent_id: str, state: str
) -> None:
    await create_subflow(client, parent_id, state, name="Mine")

    run = await client.execute("GetTaskRun", id=parent_id)
    assert (run["stateType"], run["stateName"], len(run["states"])) == (state, "Mine", 2)


async def test_creating_the_subflow_again_changes_nothing(client: Client, parent_id: str) -> None:
    flow_id = await create_flow(client, "child")
    input = {"flowId": flow_id, "parentTaskRunId": parent_id, "idempotencyKey": "k"}
    await client.execute("CreateFlowRun", input=input)
    before = await client.execute("GetTaskRun", id=parent_id)

    again = await client.execute("CreateFlowRun", input={**input, "state": {"type": "RUNNING"}})

    assert again["created"] is False
    assert await client.execute("GetTaskRun", id=parent_id) == before


async def test_a_substitute_state_is_mirrored(client: Client, parent_id: str) -> None:
    subflow_id = await create_subflow(client, parent_id, "SCHEDULED")

    result = await set_flow_run_state(client, subflow_id, "CANCELLING")

    assert result["status"] == "REJECT"
    assert await read_state_names(client, parent_id) == ["Pending", "Scheduled", "Cancelled"]


async def test_a_state_that_the_subflow_did_not_enter_is_not_mirrored(client: Client, parent_id: str) -> None:
    subflow_id = await create_subflow(client, parent_id)
    before = await client.execute("GetTaskRun", id=parent_id)

    result = await set_flow_run_state(client, subflow_id, "PENDING")

    assert result["status"] == "ABORT"
    assert await client.execute("GetTaskRun", id=parent_id) == before


async def test_a_repeated_subflow_transition_is_mirrored_once(client: Client, parent_id: str) -> None:
    subflow_id = await create_subflow(client, parent_id)
    details = {"transitionId": TRANSITION_ID}

    for _ in range(2):
        await set_flow_run_state(client, subflow_id, "RUNNING", details=details)

    assert await read_state_names(client, parent_id) == ["Pending", "Pending", "Running"]


async def test_a_forced_subflow_state_is_mirrored(client: Client, parent_id: str) -> None:
    subflow_id = await create_subflow(client, parent_id, "CANCELLED")

    await client.execute("SetFlowRunState", id=subflow_id, state={"type": "RUNNING"}, force=True)

    assert await read_state_names(client, parent_id) == ["Pending", "Cancelled", "Running"]


async def test_mirrored_states_bypass_the_task_runs_rules(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="x", limit=0)
    flow_run_id = await create_flow_run(client, "CANCELLED")
    id = await create_task_run(client, "PENDING", flowRunId=flow_run_id, tags=["x"], retryPolicy={"retries": 3})
    subflow_id = await create_subflow(client, id)

    for type in ("RUNNING", "FAILED"):
        await set_flow_run_state(client, subflow_id, type)

    assert await read_state_names(client, id) == ["Pending", "Pending", "Running", "Failed"]
    assert await read_slot_holders(client, "x") == []


async def test_a_parent_with_a_persisted_result_still_mirrors_its_subflow(client: Client, parent_id: str) -> None:
    await set_task_run_state(client, parent_id, "COMPLETED", data=REFERENCE)

    await create_subflow(client, parent_id, "RUNNING")

    assert await read_state_names(client, parent_id) == ["Pending", "Completed", "Running"]


async def test_a_scheduled_subflow_does_not_queue_its_parent_task_run(client: Client) -> None:
    id = await create_task_run(client, "PENDING")

    await create_subflow(client, id, "SCHEDULED")

    run = await client.execute("GetTaskRun", id=id)
    assert (run["stateType"], run["queueEntry"]) == ("SCHEDULED", None)


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETED"])
async def test_a_queued_parent_leaves_the_queue_when_its_subflow_runs_or_completes(client: Client, state: str) -> None:
    id = await create_task_run(client, "SCHEDULED")

    await create_subflow(client, id, state)

    run = await client.execute("GetTaskRun", id=id)
    assert (run["stateType"], run["queueEntry"]) == (state, None)


async def test_the_parents_lease_ends_when_the_subflow_completes(client: Client) -> None:
    id = await create_task_run(client, "SCHEDULED")
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)
        await set_task_run_state(client, id, "RUNNING", lease_id=delivery["leaseId"])

        await create_subflow(client, id, "COMPLETED")

        (lease,) = (await client.execute("RenewTaskRunLeases", leaseIds=[delivery["leaseId"]]))["leases"]
    assert (lease["status"], (await client.execute("GetTaskRun", id=id))["queueEntry"]) == ("LOST", None)


async def test_a_subflow_whose_parent_was_deleted_still_changes_state(client: Client, parent_id: str) -> None:
    subflow_id = await create_subflow(client, parent_id)
    await client.execute("DeleteTaskRun", id=parent_id)

    result = await set_flow_run_state(client, subflow_id, "RUNNING")

    assert (result["status"], result["stateCreated"]) == ("ACCEPT", True)

"""A task run that stands for a subflow follows it."""

from typing import Any

import pytest

from tests.client import Client
from tests.orchestration.test_rules_through_the_api import ask, create, create_flow_run, history
from tests.serving import Serving

REFERENCE = {"type": "reference"}


async def create_subflow(client: Client, parent_id: str, state: str = "PENDING", **fields: Any) -> str:
    flow = (await client.ask("CreateFlow", input={"name": "child"}))["flow"]
    payload = await client.ask(
        "CreateFlowRun",
        input={"flowId": flow["id"], "parentTaskRunId": parent_id, "state": {"type": state, **fields}},
    )
    return payload["flowRun"]["id"]


async def move(client: Client, id: str, type: str, **state: Any) -> dict[str, Any]:
    return await client.ask("SetFlowRunState", id=id, state={"type": type, **state})


@pytest.fixture(params=["in_a_flow_run", "in_the_background"])
async def parent_id(client: Client, request: pytest.FixtureRequest) -> str:
    """A PENDING task run."""
    if request.param == "in_the_background":
        return await create(client, "PENDING")
    return await create(client, "PENDING", flowRunId=await create_flow_run(client, "RUNNING"))


async def test_a_subflow_that_runs_lets_its_task_run_run(server: Serving, parent_id: str) -> None:
    client = server.client
    subflow_id = await create_subflow(client, parent_id)
    server.clock.advance(5)

    answer = await move(client, subflow_id, "RUNNING", name="Mine", message="Off we go", data=[1])

    run = await client.ask("GetTaskRun", id=parent_id)
    assert (run["stateType"], run["stateName"], run["runCount"]) == ("RUNNING", "Mine", 1)
    assert (run["state"]["message"], run["state"]["data"]) == ("Off we go", [1])
    assert run["startTime"] == run["state"]["timestamp"] == "2030-01-01T12:00:05.000000Z"
    assert run["state"]["id"] != answer["state"]["id"]
    assert (run["state"]["details"]["taskRunId"], run["state"]["details"]["flowRunId"]) == (parent_id, run["flowRunId"])
    assert (run["childFlowRun"], run["flowRunRunCount"]) == ({"id": subflow_id}, 0)


async def test_a_task_run_goes_wherever_its_subflow_goes(server: Serving, parent_id: str) -> None:
    client = server.client
    subflow_id = await create_subflow(client, parent_id, "SCHEDULED")

    for type in ("PENDING", "RUNNING", "PAUSED", "RUNNING", "COMPLETED"):
        await move(client, subflow_id, type)

    names = ["Scheduled", "Pending", "Running", "Paused", "Running", "Completed"]
    assert await history(client, parent_id) == ["Pending", *names]
    subflow = await client.ask("GetFlowRun", id=subflow_id)
    assert [state["name"] for state in subflow["states"]] == names


@pytest.mark.parametrize("state", ["SCHEDULED", "RUNNING", "COMPLETED"])
async def test_a_task_run_follows_from_the_creation_of_its_subflow(client: Client, parent_id: str, state: str) -> None:
    await create_subflow(client, parent_id, state, name="Mine")

    run = await client.ask("GetTaskRun", id=parent_id)
    assert (run["stateType"], run["stateName"], len(run["states"])) == (state, "Mine", 2)


async def test_creating_the_subflow_again_moves_nothing(client: Client, parent_id: str) -> None:
    flow = (await client.ask("CreateFlow", input={"name": "child"}))["flow"]
    input = {"flowId": flow["id"], "parentTaskRunId": parent_id, "idempotencyKey": "k"}
    await client.ask("CreateFlowRun", input=input)
    before = await client.ask("GetTaskRun", id=parent_id)

    again = await client.ask("CreateFlowRun", input={**input, "state": {"type": "RUNNING"}})

    assert again["created"] is False
    assert await client.ask("GetTaskRun", id=parent_id) == before


async def test_a_state_that_takes_another_s_place_is_followed_too(client: Client, parent_id: str) -> None:
    subflow_id = await create_subflow(client, parent_id, "SCHEDULED")

    answer = await move(client, subflow_id, "CANCELLING")

    assert answer["status"] == "REJECT"
    assert await history(client, parent_id) == ["Pending", "Scheduled", "Cancelled"]


async def test_a_state_that_the_subflow_did_not_take_is_not_followed(client: Client, parent_id: str) -> None:
    subflow_id = await create_subflow(client, parent_id)
    before = await client.ask("GetTaskRun", id=parent_id)

    answer = await move(client, subflow_id, "PENDING")

    assert answer["status"] == "ABORT"
    assert await client.ask("GetTaskRun", id=parent_id) == before


async def test_a_transition_of_the_subflow_that_is_sent_again_moves_its_task_run_once(
    client: Client, parent_id: str
) -> None:
    subflow_id = await create_subflow(client, parent_id)
    details = {"transitionId": "0d0c3f3e-5d43-4a58-8f7c-6f2b8c0e9a11"}

    for _ in range(2):
        await move(client, subflow_id, "RUNNING", details=details)

    assert await history(client, parent_id) == ["Pending", "Pending", "Running"]


async def test_a_forced_state_of_the_subflow_is_followed(client: Client, parent_id: str) -> None:
    subflow_id = await create_subflow(client, parent_id, "CANCELLED")

    await client.ask("SetFlowRunState", id=subflow_id, state={"type": "RUNNING"}, force=True)

    assert await history(client, parent_id) == ["Pending", "Cancelled", "Running"]


async def test_no_rule_holds_the_task_run_back(client: Client) -> None:
    await client.ask("CreateConcurrencyLimit", tag="x", limit=0)
    flow_run_id = await create_flow_run(client, "CANCELLED")
    id = await create(client, "PENDING", flowRunId=flow_run_id, tags=["x"], empiricalPolicy={"retries": 3})
    subflow_id = await create_subflow(client, id)

    for type in ("RUNNING", "FAILED"):
        await move(client, subflow_id, type)

    assert await history(client, id) == ["Pending", "Pending", "Running", "Failed"]
    assert (await client.ask("GetConcurrencyLimit", tag="x"))["activeSlots"] == []


async def test_a_task_run_with_a_kept_result_follows_all_the_same(client: Client, parent_id: str) -> None:
    await ask(client, parent_id, "COMPLETED", data=REFERENCE)

    await create_subflow(client, parent_id, "RUNNING")

    assert await history(client, parent_id) == ["Pending", "Completed", "Running"]


async def test_a_scheduled_subflow_does_not_queue_its_task_run(client: Client) -> None:
    id = await create(client, "PENDING")

    await create_subflow(client, id, "SCHEDULED")

    run = await client.ask("GetTaskRun", id=id)
    assert (run["stateType"], run["queueEntry"]) == ("SCHEDULED", None)


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETED"])
async def test_a_queued_task_run_whose_subflow_goes_ahead_is_given_to_no_worker(client: Client, state: str) -> None:
    id = await create(client, "SCHEDULED")

    await create_subflow(client, id, state)

    run = await client.ask("GetTaskRun", id=id)
    assert (run["stateType"], run["queueEntry"]) == (state, None)


async def test_a_worker_s_lease_ends_with_the_subflow_that_it_carried_out(client: Client) -> None:
    id = await create(client, "SCHEDULED")
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)
        await ask(client, id, "RUNNING", leaseId=delivery["leaseId"])

        await create_subflow(client, id, "COMPLETED")

        (lease,) = await client.ask("RenewTaskRunLeases", leaseIds=[delivery["leaseId"]])
    assert (lease["status"], (await client.ask("GetTaskRun", id=id))["queueEntry"]) == ("LOST", None)


async def test_a_subflow_whose_task_run_is_gone_goes_on_alone(client: Client, parent_id: str) -> None:
    subflow_id = await create_subflow(client, parent_id)
    await client.ask("DeleteTaskRun", id=parent_id)

    answer = await move(client, subflow_id, "RUNNING")

    assert (answer["status"], answer["created"]) == ("ACCEPT", True)

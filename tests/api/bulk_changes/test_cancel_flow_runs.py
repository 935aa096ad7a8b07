"""cancelFlowRuns: cancels the flow runs that match a filter and have not ended."""

import pytest

from tests.builders.api_runs import create_flow, create_flow_run, create_task_run, set_flow_run_state
from tests.builders.bulk_changes import ALL, change_all_pages, change_runs, changed, read_states
from tests.client import Client
from tests.serving import RunningServer

PAUSED_UNTIL = "2030-01-01T12:00:01Z"


async def read_flow_run_states(client: Client, *ids: str) -> list[str]:
    return [(await client.execute("GetFlowRun", id=id))["stateType"] for id in ids]


async def test_flow_runs_are_cancelled_as_far_as_they_have_started(client: Client) -> None:
    states = ["SCHEDULED", "PENDING", "RUNNING", "PAUSED"]
    ids = [await create_flow_run(client, state) for state in states]

    payload = await change_runs(client, "CancelFlowRuns", message="Stop")

    assert payload == changed(4)
    assert await read_flow_run_states(client, *ids) == ["CANCELLED", "CANCELLING", "CANCELLING", "CANCELLED"]
    last_states = [(await client.execute("GetFlowRun", id=id))["states"][-1] for id in ids]
    assert [each["message"] for each in last_states] == ["Stop"] * 4


async def test_flow_runs_that_have_ended_are_not_examined(client: Client) -> None:
    states = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
    ids = [await create_flow_run(client, state) for state in states]

    assert await change_runs(client, "CancelFlowRuns") == changed(0)
    assert await read_flow_run_states(client, *ids) == states


async def test_a_flow_run_that_is_already_cancelling_is_rejected(client: Client) -> None:
    id = await create_flow_run(client, "RUNNING")
    await change_runs(client, "CancelFlowRuns")
    reason = (await set_flow_run_state(client, id, "CANCELLING"))["reason"]

    payload = await change_runs(client, "CancelFlowRuns")

    assert payload == changed(0, {"flowRunId": id, "status": "REJECT", "reason": reason})
    assert [each["type"] for each in (await client.execute("GetFlowRun", id=id))["states"]] == ["RUNNING", "CANCELLING"]


async def test_a_pause_that_has_timed_out_becomes_failed(server: RunningServer) -> None:
    client = server.client
    id = await create_flow_run(client, {"type": "PAUSED", "details": {"pauseTimeoutAt": PAUSED_UNTIL}})
    # The flow run sweeper does not sweep in the first 3 seconds.
    server.clock.advance(2)

    assert await change_runs(client, "CancelFlowRuns", dryRun=True) == changed(1)
    assert await change_runs(client, "CancelFlowRuns") == changed(1)
    assert await read_flow_run_states(client, id) == ["FAILED"]


async def test_the_task_run_of_a_subflow_is_cancelled_with_it(client: Client) -> None:
    parent = await create_task_run(client)
    await create_flow_run(client, "SCHEDULED", parentTaskRunId=parent)

    assert await change_runs(client, "CancelFlowRuns") == changed(1)
    assert await read_states(client, [parent]) == ["CANCELLED"]


async def test_only_flow_runs_that_match_the_filter_are_cancelled(client: Client) -> None:
    other_flow = await create_flow(client, "other")
    matching = await create_flow_run(client, "RUNNING")
    other = await create_flow_run(client, "RUNNING", flowId=other_flow)

    assert await change_runs(client, "CancelFlowRuns", filter={"flow": {"name": {"in": ["etl"]}}}) == changed(1)
    assert await read_flow_run_states(client, matching, other) == ["CANCELLING", "RUNNING"]


async def test_pages_continue_after_the_cursor(client: Client) -> None:
    ids = [await create_flow_run(client, "RUNNING") for _ in range(5)]

    payloads = await change_all_pages(client, "CancelFlowRuns", filter=ALL, limit=2)

    assert [(each["matched"], each["changed"], each["hasMore"]) for each in payloads] == [
        (2, 2, True),
        (2, 2, True),
        (1, 1, False),
    ]
    assert await read_flow_run_states(client, *ids) == ["CANCELLING"] * 5


async def test_a_dry_run_predicts_the_result_and_writes_nothing(client: Client) -> None:
    ids = [await create_flow_run(client, state) for state in ("SCHEDULED", "PAUSED", "CANCELLING", "COMPLETED")]
    before = [await client.execute("GetFlowRun", id=id) for id in ids]

    predicted = await client.execute("CancelFlowRuns", filter=ALL, dryRun=True)

    unchanged = [await client.execute("GetFlowRun", id=id) for id in ids]
    assert [each["states"] for each in unchanged] == [each["states"] for each in before]
    assert predicted["changed"] == 2
    assert await client.execute("CancelFlowRuns", filter=ALL) == predicted


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_filter_without_a_condition_is_refused(client: Client, dry_run: bool) -> None:
    id = await create_flow_run(client, "RUNNING")

    error = await client.execute_refused("CancelFlowRuns", filter={"name": {}}, dryRun=dry_run)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "filter")
    assert await read_flow_run_states(client, id) == ["RUNNING"]

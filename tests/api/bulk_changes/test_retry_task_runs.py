"""retryTaskRuns: runs failed, crashed and cancelled background runs again."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.builders.api_runs import create_flow_run, create_task_run, set_states_in_turn, set_task_run_state
from tests.builders.bulk_changes import change_runs, changed, read_states, rejection
from tests.builders.queued_runs import create_many, create_scheduled, run_ids
from tests.client import Client
from tests.clock import START
from tests.serving import RunningServer, run_server
from tests.tables import read_rows

IN_FLOW_RUN = "The task run belongs to a flow run, whose process starts it. It cannot be queued for workers."
REPRESENTS_SUBFLOW = "The task run represents a subflow, which sets its state. It cannot be queued for workers."
QUEUE_FULL = "The queue of task key 't' has reached the limit of 2 waiting runs on its scheduled side. Retry later."


@pytest.fixture
async def small_server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server with a limit of two scheduled runs per task key."""
    async with run_server(tmp_path, database_url=database_url, max_scheduled_per_key=2) as running:
        yield running


async def create_ended(client: Client, state: str) -> str:
    """Create a run that has run once and ended in this state."""
    id = await create_scheduled(client)
    await set_states_in_turn(client, id, "RUNNING", state)
    return id


async def test_ended_runs_are_queued_again_with_a_run_count_of_0(client: Client) -> None:
    ids = [await create_ended(client, state) for state in ("FAILED", "CRASHED", "CANCELLED")]

    payload = await change_runs(client, "RetryTaskRuns", message="Fixed")

    assert payload == changed(3)
    for id in ids:
        run = await client.execute("GetTaskRun", id=id)
        assert (run["stateName"], run["state"]["message"], run["runCount"]) == ("Scheduled", "Fixed", 0)
        assert run["endTime"] is None
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=5)
        assert sorted(run_ids(await socket.deliveries(3))) == sorted(ids)


async def test_a_delay_postpones_the_delivery(server: RunningServer) -> None:
    client = server.client
    id = await create_ended(client, "FAILED")

    await change_runs(client, "RetryTaskRuns", delaySeconds=90)

    run = await client.execute("GetTaskRun", id=id)
    assert run["nextScheduledStartTime"] == f"{START:%Y-%m-%dT%H}:01:30.000000Z"
    assert run["queueEntry"]["availableAt"] == run["nextScheduledStartTime"]


async def test_runs_in_other_states_are_not_examined(client: Client) -> None:
    completed = await create_ended(client, "COMPLETED")
    running = await create_scheduled(client)
    await set_states_in_turn(client, running, "RUNNING")
    scheduled, pending = await create_scheduled(client), await create_task_run(client)

    assert await change_runs(client, "RetryTaskRuns") == changed(0)
    states = await read_states(client, [completed, running, scheduled, pending])
    assert states == ["COMPLETED", "RUNNING", "SCHEDULED", "PENDING"]


async def test_task_runs_of_flow_runs_are_rejected(client: Client) -> None:
    flow_run = await create_flow_run(client, "RUNNING")
    id = await create_task_run(client, flowRunId=flow_run)
    await set_states_in_turn(client, id, "FAILED")

    assert await change_runs(client, "RetryTaskRuns") == changed(0, rejection(id, IN_FLOW_RUN))
    assert await read_states(client, [id]) == ["FAILED"]


async def test_a_background_run_that_represents_a_subflow_is_rejected(client: Client) -> None:
    id = await create_task_run(client)
    await create_flow_run(client, "FAILED", parentTaskRunId=id)

    assert await change_runs(client, "RetryTaskRuns") == changed(0, rejection(id, REPRESENTS_SUBFLOW))
    assert await read_states(client, [id]) == ["FAILED"]


async def test_runs_beyond_the_capacity_of_their_queue_are_rejected(small_server: RunningServer) -> None:
    client = small_server.client
    ids = await create_many(client, 2)
    await change_runs(client, "CancelTaskRuns")
    ids += await create_many(client, 1)
    await set_task_run_state(client, ids[2], "CANCELLED")
    waiting = await create_many(client, 1)

    payload = await change_runs(client, "RetryTaskRuns")

    error = {"code": "QUEUE_FULL", "message": QUEUE_FULL, "argument": "filter"}
    assert payload == changed(1, *(rejection(id, QUEUE_FULL, error=error) for id in ids[1:]))
    assert await read_states(client, ids + waiting) == ["SCHEDULED", "CANCELLED", "CANCELLED", "SCHEDULED"]
    await set_task_run_state(client, waiting[0], "COMPLETED")
    assert (await change_runs(client, "RetryTaskRuns"))["changed"] == 1


async def test_a_run_whose_unique_key_another_run_holds_is_rejected(client: Client) -> None:
    first = await create_scheduled(client, uniqueKey="k")
    await set_task_run_state(client, first, "CANCELLED")
    second = await create_scheduled(client, uniqueKey="k")
    await set_task_run_state(client, second, "CANCELLED")

    payload = await change_runs(client, "RetryTaskRuns")

    (found,) = payload["rejections"]
    assert (payload["changed"], found["taskRunId"], found["status"], found["error"]) == (1, second, "REJECT", None)
    assert await read_states(client, [first, second]) == ["SCHEDULED", "CANCELLED"]


async def test_a_retried_run_no_longer_expires(client: Client, database_url: str) -> None:
    expiring = await create_scheduled(client, expiresAt="2099-01-01T00:00:00Z")
    assert "2099" in str(await read_rows(database_url, ["queue_entry"]))
    await set_task_run_state(client, expiring, "CANCELLED")

    assert await change_runs(client, "RetryTaskRuns") == changed(1)
    assert (await client.execute("GetTaskRun", id=expiring))["expiresAt"] is None
    assert "2099" not in str(await read_rows(database_url, ["queue_entry"]))


async def test_a_rejected_run_keeps_its_expiry(small_server: RunningServer) -> None:
    client = small_server.client
    expiring = await create_scheduled(client, expiresAt="2099-01-01T00:00:00Z")
    await set_task_run_state(client, expiring, "CANCELLED")
    await create_many(client, 2)

    assert (await change_runs(client, "RetryTaskRuns"))["rejected"] == 1
    assert (await client.execute("GetTaskRun", id=expiring))["expiresAt"] == "2099-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("seconds", [-1, 86_401])
async def test_a_delay_out_of_range_is_refused(client: Client, seconds: float) -> None:
    id = await create_ended(client, "FAILED")

    error = await client.execute_refused("RetryTaskRuns", filter={"id": {"in": [id]}}, delaySeconds=seconds)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "delaySeconds")
    assert await read_states(client, [id]) == ["FAILED"]

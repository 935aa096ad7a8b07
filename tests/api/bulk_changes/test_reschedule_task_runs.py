"""rescheduleTaskRuns: moves background runs that have not started to another time."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.builders.api_runs import create_flow_run, create_task_run, set_states_in_turn, set_task_run_state
from tests.builders.bulk_changes import change_runs, changed, read_states, rejection
from tests.builders.queued_runs import create_many, create_scheduled, run_ids, run_under_lease
from tests.client import Client
from tests.clock import START
from tests.serving import RunningServer, run_server

IN_FLOW_RUN = "The task run belongs to a flow run, whose process starts it. It cannot be queued for workers."


def iso(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S.%f}Z"


LATER = iso(START + timedelta(hours=1))


@pytest.fixture
async def small_server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server with a limit of one scheduled run per task key."""
    async with run_server(tmp_path, database_url=database_url, max_scheduled_per_key=1) as running:
        yield running


async def test_scheduled_and_paused_runs_are_due_at_the_new_time(server: RunningServer) -> None:
    client = server.client
    scheduled = await create_scheduled(client, at=iso(START + timedelta(days=1)))
    paused = await create_task_run(client)
    await set_task_run_state(client, paused, "PAUSED")

    assert await change_runs(client, "RescheduleTaskRuns", scheduledTime=LATER) == changed(2)

    for id in (scheduled, paused):
        run = await client.execute("GetTaskRun", id=id)
        assert (run["stateName"], run["nextScheduledStartTime"]) == ("Scheduled", LATER)
        assert run["queueEntry"]["availableAt"] == LATER
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=5)
        server.clock.advance(3600)
        assert sorted(run_ids(await socket.deliveries(2))) == sorted([scheduled, paused])


async def test_a_past_time_makes_runs_due_at_once(client: Client) -> None:
    id = await create_scheduled(client, at=LATER)

    assert await change_runs(client, "RescheduleTaskRuns", scheduledTime="2020-01-01T00:00:00Z") == changed(1)

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        assert run_ids(await socket.deliveries(1)) == [id]


@pytest.mark.parametrize("acknowledges", [False, True])
async def test_a_lease_on_a_rescheduled_run_is_lost(client: Client, acknowledges: bool) -> None:
    id = await create_scheduled(client)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)
        lease = delivery["leaseId"]
        if acknowledges:
            await client.execute("AcknowledgeTaskRuns", leaseIds=[lease])

        assert await change_runs(client, "RescheduleTaskRuns", scheduledTime=LATER) == changed(1)

        (renewed,) = (await client.execute("RenewTaskRunLeases", leaseIds=[lease]))["leases"]
        assert renewed["status"] == "LOST"
        assert (await set_task_run_state(client, id, "RUNNING", lease_id=lease))["status"] == "ABORT"
        assert await read_states(client, [id]) == ["SCHEDULED"]


async def test_runs_that_have_started_or_ended_are_not_examined(client: Client) -> None:
    running = await create_scheduled(client)
    await run_under_lease(client, "RUNNING")
    pending, ended = await create_task_run(client), await create_task_run(client)
    await set_states_in_turn(client, ended, "FAILED")

    assert await change_runs(client, "RescheduleTaskRuns", scheduledTime=LATER) == changed(0)
    assert await read_states(client, [running, pending, ended]) == ["RUNNING", "PENDING", "FAILED"]


async def test_task_runs_of_flow_runs_are_rejected(client: Client) -> None:
    flow_run = await create_flow_run(client, "RUNNING")
    id = await create_task_run(client, "SCHEDULED", flowRunId=flow_run)
    before = (await client.execute("GetTaskRun", id=id))["states"]

    payload = await change_runs(client, "RescheduleTaskRuns", scheduledTime=LATER)

    assert payload == changed(0, rejection(id, IN_FLOW_RUN))
    assert (await client.execute("GetTaskRun", id=id))["states"] == before


async def test_only_runs_that_enter_a_full_queue_are_rejected(small_server: RunningServer) -> None:
    client = small_server.client
    waiting = await create_many(client, 1)
    paused = await create_task_run(client)
    await set_task_run_state(client, paused, "PAUSED")

    payload = await change_runs(client, "RescheduleTaskRuns", scheduledTime=LATER)

    assert (payload["changed"], [each["taskRunId"] for each in payload["rejections"]]) == (1, [paused])
    assert [each["error"]["code"] for each in payload["rejections"]] == ["QUEUE_FULL"]
    assert await read_states(client, [*waiting, paused]) == ["SCHEDULED", "PAUSED"]


async def test_runs_that_wait_for_a_slot_are_rescheduled(server: RunningServer) -> None:
    client = server.client
    await client.execute("SetConcurrencyLimit", tag="none", limit=0)
    id = await create_scheduled(client, tags=["none"])
    assert await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=1, leaseSeconds=60) == {"deliveries": []}

    assert await change_runs(client, "RescheduleTaskRuns", scheduledTime=LATER) == changed(1)

    await client.execute("DeleteConcurrencyLimit", tag="none")
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        server.clock.advance(3600)
        assert run_ids(await socket.deliveries(1)) == [id]

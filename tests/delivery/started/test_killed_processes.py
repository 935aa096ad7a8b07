"""Workers and servers that are killed with SIGKILL around the confirmation of a started run."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from db.runtime.clock import SystemClock
from tests.builders.api_runs import read_state_names, set_task_run_state
from tests.builders.queued_runs import create_many, create_scheduled, run_ids
from tests.client import TIMEOUT_SECONDS
from tests.clock import ManualClock
from tests.serving import SQLITE_ONLY, RunningServer, ServerProcess, run_server

ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def worker_process(url: str, *arguments: str) -> AsyncGenerator[str]:
    """Run a worker until it has received a run, and yield the id of the run. Kill the worker when the block ends."""
    command = (sys.executable, "-m", "tests.delivery.started.worker_process", url, *arguments)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 3 * TIMEOUT_SECONDS)
        yield line.decode().strip()
    finally:
        process.kill()
        await process.wait()


async def test_a_run_whose_worker_is_killed_before_confirming_starts_again(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client)

    async with worker_process(client.url) as received:
        assert received == id

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], start=True)
        (again,) = await socket.deliveries(1)
    assert (again["taskRun"]["id"], again["attempt"], again["taskRun"]["runCount"]) == (id, 2, 1)
    states = await read_state_names(client, id)
    assert states[:4] == ["Scheduled", "Running", "AwaitingRedelivery", "Running"]


async def test_a_run_whose_worker_is_killed_after_confirming_has_lost_its_worker(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client)

    async with worker_process(client.url, "confirm") as received:
        assert received == id
    server.clock.advance(59)
    await server.sweep()
    before = await read_state_names(client, id)
    server.clock.advance(1)
    await server.sweep()

    assert before == ["Scheduled", "Running"]
    assert await read_state_names(client, id) == ["Scheduled", "Running", "WorkerLost"]


async def test_a_server_killed_around_a_confirmation_loses_no_run(
    server_process: ServerProcess, database_url: str, tmp_path: Path
) -> None:
    client = await server_process.start(RUNYARD_ACKNOWLEDGE_SECONDS="1")
    confirmed, unconfirmed = await create_many(client, 2)
    arguments = {"taskKeys": ["t"], "limit": 2, "start": True}
    first, _ = (await client.execute("ClaimTaskRuns", **arguments))["deliveries"]
    await client.execute("AcknowledgeTaskRuns", leaseIds=[first["leaseId"]])
    await server_process.kill()

    # The clock of the next server is past the expiry of the unconfirmed lease, and it allows 30 seconds more on SQLite.
    clock = ManualClock(datetime.now(UTC) + timedelta(seconds=2))
    async with run_server(tmp_path, clock, database_url=database_url) as other:
        clock.advance(30)
        await other.sweep()
        # The server's own sweep may be recovering the run meanwhile.
        while (requeued := await other.client.execute("GetTaskRun", id=unconfirmed))["stateType"] == "RUNNING":
            continue
        (again,) = (await other.client.execute("ClaimTaskRuns", **arguments))["deliveries"]
        (renewed,) = (await other.client.execute("RenewTaskRunLeases", leaseIds=[first["leaseId"]]))["leases"]
        outcome = await set_task_run_state(other.client, confirmed, "COMPLETED", lease_id=first["leaseId"])

        assert (requeued["stateName"], requeued["runCount"]) == ("AwaitingRedelivery", 0)
        assert (run_ids([again]), again["attempt"], again["taskRun"]["runCount"]) == ([unconfirmed], 2, 1)
        assert (renewed["status"], outcome["status"]) == ("HELD", "ACCEPT")
        assert await read_state_names(other.client, confirmed) == ["Scheduled", "Running", "Completed"]


@SQLITE_ONLY
async def test_a_worker_confirms_its_started_run_after_a_restart(server_process: ServerProcess) -> None:
    client = await server_process.start(RUNYARD_ACKNOWLEDGE_SECONDS="1")
    id = await create_scheduled(client)
    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["t"], start=True))["deliveries"]
    await server_process.kill()

    # The lease has expired by the time of the restart.
    expires_at = datetime.fromisoformat(delivery["leaseExpiresAt"])
    await SystemClock().wait(asyncio.Event(), expires_at)
    client = await server_process.start()
    (renewed,) = (await client.execute("RenewTaskRunLeases", leaseIds=[delivery["leaseId"]]))["leases"]
    outcome = await set_task_run_state(client, id, "COMPLETED", lease_id=delivery["leaseId"])

    assert (renewed["status"], outcome["status"]) == ("HELD", "ACCEPT")
    assert await read_state_names(client, id) == ["Scheduled", "Running", "Completed"]

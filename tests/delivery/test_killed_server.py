"""Crash recovery: nothing is lost when the server is killed with SIGKILL and another one starts."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_ids
from tests.client import Client
from tests.clock import START, ManualClock
from tests.serving import POSTGRESQL_ONLY, SQLITE_ONLY, ServerProcess, run_server


@SQLITE_ONLY
async def test_after_a_restart_all_but_the_acknowledged_runs_are_delivered(
    server_process: ServerProcess,
) -> None:
    client = await server_process.start()
    ids = await create_many(client, 1000)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=100)
        leased = await socket.deliveries(100)
        results = (await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids(leased)[:50]))["leases"]
        await server_process.kill()
    assert [result["status"] for result in results] == ["HELD"] * 50
    acknowledged = set(run_ids(leased)[:50])

    client = await server_process.start()

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1000)
        delivered = await socket.deliveries(950)
        newer = await create_scheduled(client)
        last = await socket.deliveries(1)
    assert sorted(run_ids(delivered)) == sorted(set(ids) - acknowledged)
    assert run_ids(last) == [newer]
    attempts = {delivery["taskRun"]["id"]: delivery["attempt"] for delivery in delivered}
    assert [attempts[id] for id in run_ids(leased)[50:]] == [2] * 50


async def test_a_lease_that_expired_without_a_server_is_extended_by_its_duration(
    tmp_path: Path,
) -> None:
    async with run_server(tmp_path) as before, before.client.socket() as socket:
        renewed_run, silent_run = await create_many(before.client, 2)
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        renewed, silent = await socket.deliveries(2)
        for delivery in (renewed, silent):
            lease, id = delivery["leaseId"], delivery["taskRun"]["id"]
            await before.client.execute("SetTaskRunState", id=id, leaseId=lease, state={"type": "RUNNING"})

    async with run_server(tmp_path, ManualClock(START + timedelta(seconds=3600))) as after:
        await after.sweep()
        (result,) = (await after.client.execute("RenewTaskRunLeases", leaseIds=[renewed["leaseId"]]))["leases"]
        assert (result["status"], result["leaseExpiresAt"]) == ("HELD", "2030-01-01T13:01:00.000000Z")
        after.clock.advance(59)
        await after.client.execute("RenewTaskRunLeases", leaseIds=[renewed["leaseId"]])
        after.clock.advance(1)
        await after.sweep()
        states = [(await after.client.execute("GetTaskRun", id=id))["stateName"] for id in (renewed_run, silent_run)]
        assert states == ["Running", "WorkerLost"]


@POSTGRESQL_ONLY
async def test_workers_of_a_killed_server_continue_at_another_with_unacknowledged_runs_redelivered(
    server_process: ServerProcess, database_url: str, tmp_path: Path
) -> None:
    client = await server_process.start(RUNYARD_ACKNOWLEDGE_SECONDS="1")
    acknowledged, unacknowledged = await create_many(client, 2)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        first, second = await socket.deliveries(2)
        await client.execute("AcknowledgeTaskRuns", leaseIds=[first["leaseId"]])
        await server_process.kill()

    # The other server's clock is set past the expiry of the unacknowledged lease.
    clock = ManualClock(datetime.now(UTC) + timedelta(seconds=2))
    async with run_server(tmp_path, clock, database_url=database_url) as other, other.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        (again,) = await socket.deliveries(1)
        (renewed,) = (await other.client.execute("RenewTaskRunLeases", leaseIds=[first["leaseId"]]))["leases"]
        state = {"type": "RUNNING"}
        outcome = await other.client.execute("SetTaskRunState", id=acknowledged, leaseId=first["leaseId"], state=state)

    assert (second["taskRun"]["id"], again["taskRun"]["id"], again["attempt"]) == (unacknowledged, unacknowledged, 2)
    assert (renewed["status"], outcome["status"]) == ("HELD", "ACCEPT")


async def test_confirmed_writes_survive_a_kill_during_writes(
    server_process: ServerProcess,
) -> None:
    client = await server_process.start()
    confirmed: list[str] = []
    enough = asyncio.Event()

    async def create_until_killed(client: Client) -> None:
        while True:
            try:
                id = await create_scheduled(client)
                confirmed.append(id)
                outcome = await client.execute("SetTaskRunState", id=id, state={"type": "PENDING"})
            except httpx.HTTPError:
                return
            assert outcome["status"] == "ACCEPT"
            moved.append(id)
            if len(moved) == 100:
                enough.set()

    moved: list[str] = []
    writers = [asyncio.create_task(create_until_killed(client)) for _ in range(8)]
    await asyncio.wait_for(enough.wait(), 30)
    await server_process.kill()
    await asyncio.gather(*writers)

    client = await server_process.start()

    page = await client.execute("ListTaskRuns", filter={"id": {"in": confirmed}}, first=1000)
    found = {node["id"]: node["stateType"] for node in page["nodes"]}
    assert set(found) == set(confirmed)
    assert {found[id] for id in moved} == {"PENDING"}

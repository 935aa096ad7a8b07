"""Nothing is lost when the server is killed: kill -9, and a new start on the same file."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_ids
from tests.client import Client
from tests.clock import START, ManualClock
from tests.serving import ON_SQLITE, ServerProcess, serving


@ON_SQLITE
async def test_every_run_is_delivered_after_a_restart_and_the_taken_ones_are_not_delivered_again(
    server_process: ServerProcess,
) -> None:
    client = await server_process.start()
    ids = await create_many(client, 1000)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=100)
        leased = await socket.deliveries(100)
        results = await client.ask("AcknowledgeTaskRuns", leaseIds=lease_ids(leased)[:50])
        await server_process.kill()
    assert [result["status"] for result in results] == ["HELD"] * 50
    taken = set(run_ids(leased)[:50])

    client = await server_process.start()

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1000)
        delivered = await socket.deliveries(950)
        newer = await create_scheduled(client)
        last = await socket.deliveries(1)
    assert sorted(run_ids(delivered)) == sorted(set(ids) - taken)
    assert run_ids(last) == [newer]
    attempts = {delivery["taskRun"]["id"]: delivery["attempt"] for delivery in delivered}
    assert [attempts[id] for id in run_ids(leased)[50:]] == [2] * 50


async def test_a_lease_that_ran_out_while_no_server_ran_is_still_its_worker_s_for_one_lease_time(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as before, before.client.socket() as socket:
        renewed_run, silent_run = await create_many(before.client, 2)
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        renewed, silent = await socket.deliveries(2)
        for delivery in (renewed, silent):
            lease, id = delivery["leaseId"], delivery["taskRun"]["id"]
            await before.client.ask("SetTaskRunState", id=id, leaseId=lease, state={"type": "RUNNING"})

    async with serving(tmp_path, ManualClock(START + timedelta(seconds=3600))) as after:
        await after.sweep()
        (result,) = await after.client.ask("RenewTaskRunLeases", leaseIds=[renewed["leaseId"]])
        assert (result["status"], result["leaseExpiresAt"]) == ("HELD", "2030-01-01T13:01:00.000000Z")
        after.clock.advance(59)
        await after.client.ask("RenewTaskRunLeases", leaseIds=[renewed["leaseId"]])
        after.clock.advance(1)
        await after.sweep()
        states = [(await after.client.ask("GetTaskRun", id=id))["stateName"] for id in (renewed_run, silent_run)]
        assert states == ["Running", "WorkerLost"]


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
async def test_a_worker_of_a_killed_server_goes_on_at_another_one_and_what_it_had_not_taken_comes_back(
    server_process: ServerProcess, database_url: str, tmp_path: Path
) -> None:
    client = await server_process.start(RUNYARD_ACKNOWLEDGE_SECONDS="1")
    taken, left = await create_many(client, 2)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        first, second = await socket.deliveries(2)
        await client.ask("AcknowledgeTaskRuns", leaseIds=[first["leaseId"]])
        await server_process.kill()

    # Somebody's clock has to go on; the other server's is set to when the unacknowledged lease has run out.
    clock = ManualClock(datetime.now(UTC) + timedelta(seconds=2))
    async with serving(tmp_path, clock, database_url=database_url) as other, other.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        (again,) = await socket.deliveries(1)
        (renewed,) = await other.client.ask("RenewTaskRunLeases", leaseIds=[first["leaseId"]])
        state = {"type": "RUNNING"}
        outcome = await other.client.ask("SetTaskRunState", id=taken, leaseId=first["leaseId"], state=state)

    assert (second["taskRun"]["id"], again["taskRun"]["id"], again["attempt"]) == (left, left, 2)
    assert (renewed["status"], outcome["status"]) == ("HELD", "ACCEPT")


async def test_every_answered_write_is_there_after_a_kill_in_the_middle_of_writing(
    server_process: ServerProcess,
) -> None:
    client = await server_process.start()
    answered: list[str] = []
    enough = asyncio.Event()

    async def create_until_killed(client: Client) -> None:
        while True:
            try:
                id = await create_scheduled(client)
                answered.append(id)
                outcome = await client.ask("SetTaskRunState", id=id, state={"type": "PENDING"})
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

    page = await client.ask("ListTaskRuns", filter={"id": {"any": answered}}, first=1000)
    found = {node["id"]: node["stateType"] for node in page["nodes"]}
    assert set(found) == set(answered)
    assert {found[id] for id in moved} == {"PENDING"}

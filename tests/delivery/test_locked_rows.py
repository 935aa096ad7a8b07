"""Rows that another program has locked in PostgreSQL delay the requests for these rows, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from tests.builders.api_runs import create_task_run
from tests.builders.queued_runs import create_many, create_scheduled, run_ids, run_under_lease
from tests.client import Client
from tests.postgresql import database_connection
from tests.serving import POSTGRESQL_ONLY, RunningServer

pytestmark = POSTGRESQL_ONLY

Lock = Callable[[str, str], AbstractAsyncContextManager[None]]

SWEEPERS = 2
"""Number of sweepers of a server on a shared database that wait as long: for leases, and for deadlines."""

LOCKED = {
    "message": "Another transaction has locked rows that the request needs. Retry the request.",
    "code": "UNAVAILABLE",
    "retryable": True,
}


@pytest.fixture
def lock(database_url: str) -> Lock:
    """Lock the row of a table that has this key while the block runs, as a person in psql would."""
    keys = {"task_run": "id", "queue_entry": "task_run_id", "concurrency_limit": "tag"}

    @asynccontextmanager
    async def lock_row(table: str, key: str) -> AsyncIterator[None]:
        async with database_connection(database_url) as connection, connection.transaction():
            rows = await connection.fetch(f"SELECT FROM {table} WHERE {keys[table]} = $1 FOR UPDATE", key)
            assert len(rows) == 1
            yield

    return lock_row


async def create_running(client: Client) -> tuple[str, str]:
    """Create a run that is RUNNING under a lease of 60 seconds and return the ids of both."""
    await create_scheduled(client)
    return await run_under_lease(client, "RUNNING")


async def state_names(client: Client, ids: list[str]) -> list[str]:
    return [(await client.execute("GetTaskRun", id=id))["stateName"] for id in ids]


@pytest.mark.parametrize("table", ["task_run", "queue_entry"])
async def test_a_sweep_recovers_all_runs_but_the_locked_one(server: RunningServer, lock: Lock, table: str) -> None:
    ids = [(await create_running(server.client))[0] for _ in range(3)]

    async with lock(table, ids[0]):
        server.clock.advance(60)
        await server.sweep()
        during = await state_names(server.client, ids)
    await server.sweep()

    assert during == ["Running", "WorkerLost", "WorkerLost"]
    assert await state_names(server.client, ids) == ["WorkerLost"] * 3


async def test_the_sweeper_keeps_sweeping_while_a_run_is_locked(server: RunningServer, lock: Lock) -> None:
    locked, _ = await create_running(server.client)
    server.clock.advance(30)
    other, _ = await create_running(server.client)

    async with lock("task_run", locked):
        server.clock.advance(30)
        await server.clock.wait_for_waiters(5, SWEEPERS)
        server.clock.advance(30)
        await server.clock.wait_for_waiters(5, SWEEPERS)

        assert await state_names(server.client, [locked, other]) == ["Running", "WorkerLost"]


async def test_a_locked_row_is_no_outage(server: RunningServer, client: Client, lock: Lock) -> None:
    locked, lease = await create_running(client)
    other, _ = await create_running(client)
    server.clock.advance(30)

    async with lock("task_run", locked):
        refused = await client.execute_refused("SetTaskRunState", id=locked, leaseId=lease, state={"type": "COMPLETED"})
    await client.execute("CreateTaskRun", input={"taskKey": "t"})

    entry = (await client.execute("GetTaskRun", id=other))["queueEntry"]
    assert refused == LOCKED
    assert entry["leaseExpiresAt"] == "2030-01-01T12:01:00.000000Z"


async def test_a_request_for_a_row_that_is_unlocked_in_time_is_executed(client: Client, lock: Lock) -> None:
    id = await create_task_run(client)

    async with lock("task_run", id):
        request = asyncio.create_task(client.execute("SetTaskRunState", id=id, state={"type": "RUNNING"}))
        # Executed after the batch of the first request, whose row is locked.
        await client.execute("CreateTaskRun", input={"taskKey": "t"})

    assert (await request)["status"] == "ACCEPT"


async def test_locked_runs_whose_clients_try_again_refuse_no_request_for_other_runs(client: Client, lock: Lock) -> None:
    ids = [await create_task_run(client) for _ in range(4)]
    others = [await create_task_run(client) for _ in range(200)]
    is_done = asyncio.Event()

    async def try_again(id: str) -> list[dict[str, Any]]:
        refusals: list[dict[str, Any]] = []
        while not is_done.is_set():
            refusals.append(await client.execute_refused("SetTaskRunState", id=id, state={"type": "RUNNING"}))
        return refusals

    async def set_states(ids: list[str]) -> list[str]:
        return [(await client.execute("SetTaskRunState", id=id, state={"type": "RUNNING"}))["status"] for id in ids]

    async with lock("task_run", ids[0]), lock("task_run", ids[1]), lock("task_run", ids[2]), lock("task_run", ids[3]):
        clients = [asyncio.create_task(try_again(id)) for id in ids]
        statuses = await asyncio.gather(*(set_states(others[number::8]) for number in range(8)))
        is_done.set()
        refusals = await asyncio.gather(*clients)

    assert [each for found in statuses for each in found] == ["ACCEPT"] * 200
    assert all(each == LOCKED for found in refusals for each in found)


async def test_leases_are_renewed_although_one_of_them_is_locked(
    server: RunningServer, client: Client, lock: Lock
) -> None:
    runs = [await create_running(client) for _ in range(3)]
    ids, leases = [id for id, _ in runs], [lease for _, lease in runs]
    server.clock.advance(30)

    async with lock("queue_entry", ids[1]):
        refused = await client.execute_refused("RenewTaskRunLeases", leaseIds=leases)

    entries = [(await client.execute("GetTaskRun", id=id))["queueEntry"] for id in ids]
    renewed, unchanged = "2030-01-01T12:01:30.000000Z", "2030-01-01T12:01:00.000000Z"
    assert refused == LOCKED
    assert [each["leaseExpiresAt"] for each in entries] == [renewed, unchanged, renewed]


async def test_a_claim_skips_a_locked_entry(client: Client, lock: Lock) -> None:
    first, second = await create_many(client, 2)

    async with lock("queue_entry", first):
        deliveries = (await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=2))["deliveries"]

    assert run_ids(deliveries) == [second]


@pytest.mark.parametrize("table", ["task_run", "queue_entry", "concurrency_limit"])
async def test_a_claim_that_starts_runs_skips_locked_rows_and_starts_the_others(
    client: Client, lock: Lock, table: str
) -> None:
    for tag in ("scarce", "other"):
        await client.execute("SetConcurrencyLimit", tag=tag, limit=10)
    # More runs than a claim reads at first.
    locked = [await create_scheduled(client, tags=["scarce"]) for _ in range(10 if table == "concurrency_limit" else 1)]
    others = [await create_scheduled(client, tags=["other"]), await create_scheduled(client)]

    async with lock(table, "scarce" if table == "concurrency_limit" else locked[0]):
        started = (await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=2, start=True))["deliveries"]
        during = await state_names(client, locked)
    again = (await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=20, start=True))["deliveries"]

    assert run_ids(started) == others
    assert during == ["Scheduled"] * len(locked)
    assert [(each["taskRun"]["id"], each["attempt"]) for each in again] == [(id, 1) for id in locked]


async def test_a_request_waits_longer_for_a_locked_concurrency_limit(client: Client, lock: Lock) -> None:
    await client.execute("SetConcurrencyLimit", tag="scarce", limit=1)
    id = await create_task_run(client, tags=["scarce"])
    other = await create_task_run(client)

    async with lock("concurrency_limit", "scarce"):
        request = asyncio.create_task(client.execute("SetTaskRunState", id=id, state={"type": "RUNNING"}))
        refused: list[Any] = []
        async with lock("task_run", other):
            # Refused after the lock timeout for rows of runs.
            refused.append(await client.execute_refused("SetTaskRunState", id=other, state={"type": "RUNNING"}))

    assert refused == [LOCKED]
    assert (await request)["status"] == "ACCEPT"

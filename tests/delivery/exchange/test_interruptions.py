"""`exchangeTaskRuns` when the client is gone, rows are locked, or the server stops: nothing that is written is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.blocking_work import BlockingWork
from tests.builders.queued_runs import create_many, create_scheduled, run_under_lease
from tests.client import TIMEOUT_SECONDS, Client
from tests.postgresql import database_connection
from tests.serving import POSTGRESQL_ONLY, RunningServer, run_server

CLAIM: dict[str, Any] = {"taskKeys": ["t"], "limit": 10}
LOCKED = {
    "message": "Another transaction has locked rows that the request needs. Retry the request.",
    "code": "UNAVAILABLE",
    "retryable": True,
}


async def run_running(client: Client, **fields: Any) -> tuple[str, str]:
    """Create a run that is RUNNING under a lease of 60 seconds and return the ids of both."""
    await create_scheduled(client, **fields)
    return await run_under_lease(client, "RUNNING")


def completed(id: str, lease_id: str) -> dict[str, Any]:
    return {"taskRunId": id, "leaseId": lease_id, "state": {"type": "COMPLETED"}}


async def queue_entry(client: Client, id: str) -> dict[str, Any]:
    return (await client.execute("GetTaskRun", id=id))["queueEntry"]


@asynccontextmanager
async def blocked_writes(server: RunningServer) -> AsyncIterator[BlockingWork]:
    """Let all writes of the server wait until the work is released, and release it at the end in any case."""
    database = server.services.database
    work = BlockingWork(is_in_loop=database.is_shared)
    # PostgreSQL has two writers.
    count = 2 if database.is_shared else 1
    operations = [BlockedOperation(work) for _ in range(count)]
    writing = [asyncio.create_task(database.write(each.write, None)) for each in operations]
    try:
        await work.wait_for_started(count)
        yield work
    finally:
        work.release()
        await asyncio.gather(*writing)


class BlockedOperation:
    """A write operation of its own, because requests for the same operation share a transaction."""

    def __init__(self, work: BlockingWork) -> None:
        self._work = work

    def write(self, connection: Any, items: Any) -> list[Exception | None]:
        return self._work.write(connection, items)


async def wait_for_pending_writes(server: RunningServer, count: int) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while server.services.database.pending_writes < count:
            await server.client.http.get("/healthz")


def cancellation_of_exchanges(server: RunningServer) -> asyncio.Event:
    """Return an event that is set when an exchange of the server is cancelled."""
    cancelled, claim_within = asyncio.Event(), server.services.dispatcher.claim_within

    async def observe(*arguments: Any) -> Any:
        try:
            return await claim_within(*arguments)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    server.services.dispatcher.claim_within = observe  # type: ignore[method-assign]
    return cancelled


async def wait_until_requeued(client: Client, id: str) -> dict[str, Any]:
    """Wait until the run was delivered once and is queued without a lease; return its queue entry."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            entry = await queue_entry(client, id)
            if entry["attempt"] == 1 and entry["leaseExpiresAt"] is None:
                return entry


@pytest.mark.parametrize("start", [False, True])
async def test_a_client_that_disconnects_loses_its_claim_and_not_its_reports(
    server: RunningServer, start: bool
) -> None:
    client = server.client
    (ended, ended_lease), (going, going_lease) = await run_running(client), await run_running(client)
    (new,) = await create_many(client, 1)
    server.clock.advance(20)
    cancelled = cancellation_of_exchanges(server)

    async with blocked_writes(server):
        request = asyncio.create_task(
            client.execute(
                "ExchangeTaskRuns",
                reports=[completed(ended, ended_lease)],
                renew=[going_lease],
                claim=CLAIM | {"start": start},
            )
        )
        await wait_for_pending_writes(server, 1)
        request.cancel()
        await asyncio.wait_for(cancelled.wait(), TIMEOUT_SECONDS)

    await wait_until_requeued(client, new)
    assert (await client.execute("GetTaskRun", id=ended))["stateType"] == "COMPLETED"
    assert (await queue_entry(client, going))["leaseExpiresAt"] == "2030-01-01T12:01:20.000000Z"
    run = await client.execute("GetTaskRun", id=new)
    assert (run["stateType"], run["runCount"]) == ("SCHEDULED", 0)


async def test_an_exchange_over_its_time_limit_keeps_its_reports_and_releases_its_claim(
    database_url: str, tmp_path: Path
) -> None:
    async with run_server(tmp_path, database_url=database_url, request_seconds=0.3) as server:
        id, lease_id = await run_running(server.client)
        (new,) = await create_many(server.client, 1)

        async with blocked_writes(server):
            error = await server.client.execute_refused(
                "ExchangeTaskRuns", reports=[completed(id, lease_id)], renew=[], claim=CLAIM
            )

        assert (error["code"], error["retryable"]) == ("UNAVAILABLE", True)
        await wait_until_requeued(server.client, new)
        assert (await server.client.execute("GetTaskRun", id=id))["stateType"] == "COMPLETED"


async def test_a_stopping_server_takes_reports_and_renewals_and_claims_nothing(server: RunningServer) -> None:
    client = server.client
    (ended, ended_lease), (_, going_lease) = await run_running(client), await run_running(client)
    (new,) = await create_many(client, 1)
    await server.services.drain()

    result = await client.execute(
        "ExchangeTaskRuns", reports=[completed(ended, ended_lease)], renew=[going_lease], claim=CLAIM
    )

    assert [each["result"]["status"] for each in result["results"]] == ["ACCEPT"]
    assert [each["status"] for each in result["leases"]] == ["HELD"]
    assert result["deliveries"] == []
    assert (await queue_entry(client, new))["attempt"] == 0


async def test_what_is_claimed_while_the_server_begins_to_stop_is_requeued(server: RunningServer) -> None:
    client = server.client
    (id, lease_id), (new,) = await run_running(client), await create_many(client, 1)

    async with blocked_writes(server):
        request = asyncio.create_task(
            client.execute("ExchangeTaskRuns", reports=[completed(id, lease_id)], renew=[], claim=CLAIM)
        )
        await wait_for_pending_writes(server, 1)
        await server.services.drain()
    result = await asyncio.wait_for(request, TIMEOUT_SECONDS)

    assert [each["result"]["status"] for each in result["results"]] == ["ACCEPT"]
    assert result["deliveries"] == []
    assert (await wait_until_requeued(client, new))["attempt"] == 1


@asynccontextmanager
async def locked_row(database_url: str, table: str, column: str, key: str) -> AsyncIterator[None]:
    """Lock a row while the block runs, as a person in psql would."""
    async with database_connection(database_url) as connection, connection.transaction():
        assert len(await connection.fetch(f"SELECT FROM {table} WHERE {column} = $1 FOR UPDATE", key)) == 1
        yield


@POSTGRESQL_ONLY
@pytest.mark.parametrize(("table", "column"), [("task_run", "id"), ("queue_entry", "task_run_id")])
async def test_leases_are_renewed_although_a_row_of_a_report_is_locked(
    server: RunningServer, database_url: str, table: str, column: str
) -> None:
    client = server.client
    (locked, locked_lease), (other, other_lease) = await run_running(client), await run_running(client)
    (new,) = await create_many(client, 1)
    server.clock.advance(20)

    async with locked_row(database_url, table, column, locked):
        error = await client.execute_refused(
            "ExchangeTaskRuns", reports=[completed(locked, locked_lease)], renew=[other_lease], claim=CLAIM
        )

    assert error == LOCKED
    assert (await client.execute("GetTaskRun", id=locked))["stateType"] == "RUNNING"
    assert (await queue_entry(client, other))["leaseExpiresAt"] == "2030-01-01T12:01:20.000000Z"
    assert (await queue_entry(client, new))["attempt"] == 0


@POSTGRESQL_ONLY
async def test_all_leases_but_the_locked_one_are_renewed(server: RunningServer, database_url: str) -> None:
    runs = [await run_running(server.client) for _ in range(3)]
    server.clock.advance(20)

    async with locked_row(database_url, "queue_entry", "task_run_id", runs[1][0]):
        error = await server.client.execute_refused(
            "ExchangeTaskRuns", reports=[], renew=[lease for _, lease in runs], claim=CLAIM
        )

    entries = [await queue_entry(server.client, id) for id, _ in runs]
    renewed, unchanged = "2030-01-01T12:01:20.000000Z", "2030-01-01T12:01:00.000000Z"
    assert error == LOCKED
    assert [each["leaseExpiresAt"] for each in entries] == [renewed, unchanged, renewed]


@POSTGRESQL_ONLY
async def test_the_claim_of_an_exchange_skips_a_locked_run(server: RunningServer, database_url: str) -> None:
    locked, other = await create_many(server.client, 2)

    async with locked_row(database_url, "queue_entry", "task_run_id", locked):
        result = await server.client.execute("ExchangeTaskRuns", reports=[], renew=[], claim=CLAIM)

    assert [each["taskRun"]["id"] for each in result["deliveries"]] == [other]


@POSTGRESQL_ONLY
async def test_a_lease_to_renew_is_locked_before_the_limits_of_reports(
    server: RunningServer, database_url: str
) -> None:
    client = server.client
    await client.execute("SetConcurrencyLimit", tag="db", limit=2)
    (ended, ended_lease), (going, going_lease) = [await run_running(client, tags=["db"]) for _ in range(2)]

    async with database_connection(database_url) as connection, connection.transaction():
        # As a transaction that sets a state of the second run: it locks its entry, then the limit on its tag.
        await connection.fetch("SELECT FROM queue_entry WHERE task_run_id = $1 FOR UPDATE", going)
        request = asyncio.create_task(
            client.execute("ExchangeTaskRuns", reports=[completed(ended, ended_lease)], renew=[going_lease])
        )
        await wait_for_lock_wait(connection)
        await connection.fetch("SELECT FROM concurrency_limit WHERE tag = 'db' FOR UPDATE NOWAIT")

    result = await asyncio.wait_for(request, TIMEOUT_SECONDS)
    assert [each["result"]["status"] for each in result["results"]] == ["ACCEPT"]
    assert [each["status"] for each in result["leases"]] == ["HELD"]


async def wait_for_lock_wait(connection: Any) -> None:
    """Wait until another connection to the database waits for a lock."""
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not await connection.fetch(waiting):
            await connection.fetch("SELECT pg_stat_clear_snapshot()")


@POSTGRESQL_ONLY
async def test_exchanges_that_renew_what_others_report_lose_nothing(database_url: str, tmp_path: Path) -> None:
    """Each of two servers gets exchanges that report runs whose leases exchanges at the other server renew."""
    async with (
        run_server(tmp_path, database_url=database_url) as first,
        run_server(tmp_path, database_url=database_url) as second,
    ):
        await first.client.execute("SetConcurrencyLimit", tag="db", limit=100)
        runs = [await run_running(first.client, tags=["db"]) for _ in range(12)]
        leases = [lease_id for _, lease_id in runs]

        results = await asyncio.gather(
            *(
                (first, second)[number % 2].client.execute(
                    "ExchangeTaskRuns",
                    reports=[completed(id, lease_id)],
                    renew=[each for each in leases if each != lease_id],
                    claim=CLAIM | {"start": True},
                )
                for number, (id, lease_id) in enumerate(runs)
            )
        )

        assert [each["result"]["status"] for result in results for each in result["results"]] == ["ACCEPT"] * 12
        states = [(await first.client.execute("GetTaskRun", id=id))["stateType"] for id, _ in runs]
        assert states == ["COMPLETED"] * 12

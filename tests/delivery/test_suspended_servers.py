"""Leases outlast a time in which no server was running, and only that: all servers suspended, one suspended, restarts.

A suspended process does not notice that time passes. With the manual clock, a server counts as suspended when more time
passes than two heartbeats allow, before it can record one.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from db.connection import Connection
from db.runtime.clock import SystemClock
from db.statements.heartbeats import lock_last_heartbeat
from resolvers.delivery.heartbeats import ServerHeartbeat, record_heartbeats
from tests.builders.queued_runs import create_scheduled, run_under_lease
from tests.client import Client
from tests.clock import ManualClock
from tests.postgresql import database_connection
from tests.serving import POSTGRESQL_ONLY, SQLITE_ONLY, RunningServer, ServerProcess, run_server

HEARTBEAT_SECONDS = 5.0
SWEEPERS = 2
"""Number of sweepers of a server on a shared database that wait as long: for leases, with heartbeats, and for deadlines."""


@pytest.fixture
async def server(tmp_path: Path, database_url: str | None) -> AsyncIterator[RunningServer]:
    """A server that counts as suspended when its manual clock advances by more than ten seconds at a time."""
    async with run_server(tmp_path, **settings(database_url)) as server:
        yield server


def settings(database_url: str | None) -> dict[str, Any]:
    given = {} if database_url is None else {"database_url": database_url}
    return given | {"heartbeat_seconds": HEARTBEAT_SECONDS}


async def create_running(client: Client) -> tuple[str, str]:
    """Create a run that is RUNNING under a lease of 60 seconds and return the ids of both."""
    await create_scheduled(client)
    return await run_under_lease(client, "RUNNING")


async def lease_expiry(client: Client, id: str) -> str:
    return (await client.execute("GetTaskRun", id=id))["queueEntry"]["leaseExpiresAt"]


async def state_name(client: Client, id: str) -> str:
    return (await client.execute("GetTaskRun", id=id))["stateName"]


async def pass_time(server: RunningServer, seconds: float) -> None:
    """Let time pass while the server runs: it records its heartbeats."""
    for _ in range(round(seconds / HEARTBEAT_SECONDS)):
        server.clock.advance(HEARTBEAT_SECONDS)
        await server.services.database.write(record_heartbeats, ServerHeartbeat("the test", None))


async def test_a_lease_that_expired_while_the_only_server_was_suspended_is_held_again(server: RunningServer) -> None:
    id, lease = await create_running(server.client)
    await pass_time(server, 20)

    server.clock.advance(300)
    await server.sweep()

    assert await state_name(server.client, id) == "Running"
    assert await lease_expiry(server.client, id) == "2030-01-01T12:06:00.000000Z"
    (renewed,) = (await server.client.execute("RenewTaskRunLeases", leaseIds=[lease]))["leases"]
    assert renewed["status"] == "HELD"


async def test_the_first_request_after_a_suspension_finds_its_lease_held(server: RunningServer) -> None:
    id, lease = await create_running(server.client)

    server.clock.advance(300)
    result = await server.client.execute("SetTaskRunState", id=id, leaseId=lease, state={"type": "COMPLETED"})

    assert (result["status"], await state_name(server.client, id)) == ("ACCEPT", "Completed")


async def test_a_suspension_directly_before_a_transaction_loses_no_lease(server: RunningServer) -> None:
    id, lease = await create_running(server.client)
    tracker = server.services.database._outage_tracker  # type: ignore[attr-defined]
    start_check = tracker.start_check

    def start_check_and_be_suspended() -> Callable[[], None]:
        tracker.start_check = start_check
        check: Callable[[], None] = start_check()
        server.clock.advance(300)
        return check

    tracker.start_check = start_check_and_be_suspended
    result = await server.client.execute("SetTaskRunState", id=id, leaseId=lease, state={"type": "COMPLETED"})

    assert (result["status"], await state_name(server.client, id)) == ("ACCEPT", "Completed")


async def test_a_lease_extended_after_a_suspension_ends_after_its_remaining_time(server: RunningServer) -> None:
    id, _ = await create_running(server.client)
    await pass_time(server, 20)
    server.clock.advance(300)
    await server.sweep()

    await pass_time(server, 35)
    await server.sweep()
    before_the_end = await state_name(server.client, id)
    await pass_time(server, 5)
    await server.sweep()

    assert (before_the_end, await state_name(server.client, id)) == ("Running", "WorkerLost")


async def test_a_running_server_extends_nothing(server: RunningServer) -> None:
    id, _ = await create_running(server.client)

    await pass_time(server, 55)
    await server.sweep()
    before_the_end = await lease_expiry(server.client, id)
    await pass_time(server, 5)
    await server.sweep()

    assert before_the_end == "2030-01-01T12:01:00.000000Z"
    assert await state_name(server.client, id) == "WorkerLost"


@POSTGRESQL_ONLY
async def test_one_suspended_server_extends_nothing(tmp_path: Path, database_url: str) -> None:
    async with (
        run_server(tmp_path, ManualClock(), **settings(database_url)) as suspended,
        run_server(tmp_path, ManualClock(), **settings(database_url)) as running,
    ):
        id, lease = await create_running(suspended.client)
        await pass_time(running, 300)

        suspended.clock.advance(300)
        (renewed,) = (await suspended.client.execute("RenewTaskRunLeases", leaseIds=[lease]))["leases"]
        await suspended.sweep()

        assert (renewed["status"], await state_name(running.client, id)) == ("LOST", "WorkerLost")


@POSTGRESQL_ONLY
async def test_a_server_that_starts_beside_a_running_one_extends_nothing(tmp_path: Path, database_url: str) -> None:
    async with run_server(tmp_path, **settings(database_url)) as running:
        id, _ = await create_running(running.client)
        await pass_time(running, 55)

        async with run_server(tmp_path, running.clock, **settings(database_url)) as started:
            await create_scheduled(started.client, "another")

            assert await lease_expiry(started.client, id) == "2030-01-01T12:01:00.000000Z"


@POSTGRESQL_ONLY
async def test_servers_that_were_suspended_together_extend_leases_once(tmp_path: Path, database_url: str) -> None:
    clock = ManualClock()
    async with (
        run_server(tmp_path, clock, **settings(database_url)) as here,
        run_server(tmp_path, clock, **settings(database_url)) as there,
    ):
        id, _ = await create_running(here.client)
        await pass_time(here, 20)

        clock.advance(300)
        await asyncio.gather(here.sweep(), there.sweep())
        first = await lease_expiry(here.client, id)
        await asyncio.gather(here.sweep(), there.sweep())

        assert first == await lease_expiry(here.client, id) == "2030-01-01T12:06:00.000000Z"


@POSTGRESQL_ONLY
async def test_a_heartbeat_of_a_suspended_transaction_does_not_extend_leases_again(
    tmp_path: Path, database_url: str
) -> None:
    async with (
        run_server(tmp_path, ManualClock(), **settings(database_url)) as here,
        run_server(tmp_path, ManualClock(), **settings(database_url)) as there,
    ):
        id, _ = await create_running(here.client)
        await pass_time(here, 20)
        await pass_time(there, 20)
        here.clock.advance(300)
        await here.sweep()

        await there.services.database.write(record_heartbeats, ServerHeartbeat("the test", None))
        there.clock.advance(300)
        await there.sweep()

        assert await lease_expiry(here.client, id) == "2030-01-01T12:06:00.000000Z"


async def test_a_stopped_process_that_continues_loses_no_lease(server_process: ServerProcess) -> None:
    client = await server_process.start(RUNYARD_HEARTBEAT_SECONDS="1", RUNYARD_SWEEP_SECONDS="0.2")
    await create_scheduled(client)
    id, lease = await run_under_lease(client, "RUNNING", lease_seconds=3)
    assert server_process.process is not None

    expires_at = datetime.fromisoformat(await lease_expiry(client, id))
    server_process.process.send_signal(signal.SIGSTOP)
    await SystemClock().wait(asyncio.Event(), expires_at + timedelta(seconds=0.5))
    server_process.process.send_signal(signal.SIGCONT)

    (renewed,) = (await client.execute("RenewTaskRunLeases", leaseIds=[lease]))["leases"]
    assert (renewed["status"], await state_name(client, id)) == ("HELD", "Running")


def last_heartbeats(connection: Connection, requests: Sequence[str]) -> list[str | Exception | None]:
    return [lock_last_heartbeat(connection)] * len(requests)


async def last_heartbeat(server: RunningServer) -> str | None:
    return await server.services.database.write(last_heartbeats, "the test")


@POSTGRESQL_ONLY
async def test_a_server_records_heartbeats_while_it_runs(server: RunningServer) -> None:
    await server.clock.wait_for_waiters(HEARTBEAT_SECONDS, SWEEPERS)
    first = await last_heartbeat(server)
    server.clock.advance(HEARTBEAT_SECONDS)
    await server.clock.wait_for_waiters(HEARTBEAT_SECONDS, SWEEPERS)

    assert (first, await last_heartbeat(server)) == ("2030-01-01T12:00:00.000000Z", "2030-01-01T12:00:05.000000Z")


@SQLITE_ONLY
async def test_the_only_server_records_heartbeats_while_leases_are_held(server: RunningServer) -> None:
    before = await last_heartbeat(server)
    await create_running(server.client)
    await server.clock.wait_for_waiter(HEARTBEAT_SECONDS)

    assert (before, await last_heartbeat(server)) == (None, "2030-01-01T12:00:00.000000Z")


@POSTGRESQL_ONLY
async def test_leases_are_swept_while_the_heartbeat_row_is_locked(server: RunningServer, database_url: str) -> None:
    await create_scheduled(server.client)
    id, _ = await run_under_lease(server.client, "RUNNING", lease_seconds=HEARTBEAT_SECONDS)
    await server.clock.wait_for_waiters(HEARTBEAT_SECONDS, SWEEPERS)
    async with database_connection(database_url) as connection, connection.transaction():
        await connection.execute("SELECT FROM heartbeat FOR UPDATE")
        server.clock.advance(HEARTBEAT_SECONDS)
        await server.clock.wait_for_waiters(HEARTBEAT_SECONDS, SWEEPERS)

        assert await state_name(server.client, id) == "WorkerLost"

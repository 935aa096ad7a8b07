"""A connection pooler in transaction mode: servers and commands work through it, and leave nothing in its sessions."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest
from sqlalchemy import text

from db.connection import Connection
from db.postgresql.database import PostgreSQLDatabase
from db.sql.statement import Statement
from tests.builders.api_runs import count_task_runs, create_task_run, read_state_names, set_task_run_state
from tests.builders.queued_runs import create_scheduled, run_ids
from tests.client import TIMEOUT_SECONDS
from tests.clock import ManualClock
from tests.command import runyard
from tests.connection_pooler import NEEDS_PGBOUNCER, SESSIONS, connection_pooler
from tests.postgresql import PostgreSQLServer, database_connection
from tests.serving import POSTGRESQL_ONLY, RunningServer, ServerProcess, run_server
from tests.state_change_followers import follow_state_changes, receive_events, states_of

pytestmark = [POSTGRESQL_ONLY, NEEDS_PGBOUNCER, pytest.mark.processes]

MUTATIONS = 200
SLEEP = Statement(text("SELECT pg_sleep(60)"))
BACKEND_PID = Statement(text("SELECT pg_backend_pid(), pg_sleep(0.01)"))
SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
SESSION_STATE = """SELECT pg_backend_pid(), current_setting('jit'), current_setting('lock_timeout'),
    current_setting('idle_in_transaction_session_timeout'), (SELECT count(*) FROM pg_prepared_statements)::int"""
UNCHANGED_SESSION = ("on", "0", "0", 0)


@pytest.fixture
def pooled_url(database_url: str) -> Iterator[str]:
    """The URL of the database through a connection pooler."""
    with connection_pooler(database_url) as url:
        yield url


@pytest.fixture
async def server(pooled_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server whose statements go through the pooler."""
    async with run_server(tmp_path, database_url=pooled_url, database_listen_url=database_url) as running:
        yield running


@asynccontextmanager
async def open_pooled(url: str) -> AsyncIterator[PostgreSQLDatabase]:
    database = await PostgreSQLDatabase.open(url, clock=ManualClock())
    try:
        yield database
    finally:
        await database.close()


def backend_pids(connection: Connection) -> set[int]:
    """Return the process ids of the sessions that execute five statements."""
    return {connection.fetch(BACKEND_PID)[0][0] for _ in range(5)}


async def session_states(pooled_url: str) -> dict[int, tuple[Any, ...]]:
    """Return the parameters, and the number of prepared statements, of each session of the pooler by its process id."""
    states: dict[int, tuple[Any, ...]] = {}
    async with AsyncExitStack() as stack:
        for _ in range(SESSIONS):
            connection = await stack.enter_async_context(database_connection(pooled_url, statement_cache_size=0))
            # A transaction keeps its session: the next one gets another.
            await connection.execute("BEGIN")
            pid, *state = await connection.fetchrow(SESSION_STATE)
            states[pid] = tuple(state)
    return states


async def test_a_run_is_delivered_and_completed_through_a_pooler(server: RunningServer) -> None:
    async with follow_state_changes(server) as changes, server.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        id = await create_scheduled(server.client)
        (delivery,) = await socket.deliveries(1)
        lease_id = delivery["leaseId"]
        await server.client.execute("AcknowledgeTaskRuns", leaseIds=[lease_id])
        for type in ("PENDING", "RUNNING", "COMPLETED"):
            assert (await set_task_run_state(server.client, id, type, lease_id=lease_id))["status"] == "ACCEPT"
        followed = states_of(await receive_events(changes, 4))

    assert delivery["taskRun"]["id"] == id
    assert followed == [(id, each) for each in ("SCHEDULED", "PENDING", "RUNNING", "COMPLETED")]
    assert await read_state_names(server.client, id) == ["Scheduled", "Pending", "Running", "Completed"]
    history = await server.client.execute(
        "GetTaskRunHistory",
        start=server.clock.in_seconds(-60),
        end=server.clock.in_seconds(60),
        intervalSeconds=120,
    )
    assert [(each["stateType"], each["countRuns"]) for each in history[0]["states"]] == [("COMPLETED", 1)]


async def test_concurrent_mutations_share_the_sessions_of_the_pooler(server: RunningServer, database_url: str) -> None:
    ids = await asyncio.gather(*(create_task_run(server.client, dynamicKey=str(n)) for n in range(MUTATIONS)))
    results = await asyncio.gather(*(set_task_run_state(server.client, id, "RUNNING") for id in ids))

    assert [result["status"] for result in results] == ["ACCEPT"] * MUTATIONS
    assert await count_task_runs(server.client) == MUTATIONS
    async with database_connection(database_url, statement_cache_size=0) as connection:
        assert await connection.fetchval("SELECT count(DISTINCT run_id) FROM task_run_state") == MUTATIONS


async def test_a_read_keeps_one_session_and_leaves_nothing_in_it(server: RunningServer, pooled_url: str) -> None:
    await asyncio.gather(*(create_task_run(server.client, tags=["a"]) for _ in range(20)))
    await asyncio.gather(*(server.client.execute("ListTaskRuns") for _ in range(20)))
    database = server.services.database
    used = await asyncio.gather(*(database.read(backend_pids) for _ in range(20)))

    assert {len(pids) for pids in used} == {1}
    states = await session_states(pooled_url)
    assert set(states) == set().union(*used)
    assert list(states.values()) == [UNCHANGED_SESSION] * SESSIONS


async def test_two_servers_behind_a_pooler_notify_each_other_directly(
    server: RunningServer, pooled_url: str, database_url: str, tmp_path: Path
) -> None:
    async with (
        run_server(tmp_path, database_url=pooled_url, database_listen_url=database_url) as other,
        other.client.socket() as socket,
    ):
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])

        id = await create_scheduled(server.client)

        # The clocks stand still, so no poll can have found the run.
        assert run_ids(await socket.deliveries(1)) == [id]


async def test_without_a_direct_connection_work_of_others_is_found_by_polling(
    server: RunningServer, pooled_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "runyard.database"):
        async with (
            # No other task of the server waits for 7 seconds.
            run_server(tmp_path, database_url=pooled_url, poll_seconds=7) as polling,
            polling.client.socket() as socket,
        ):
            await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
            # A claim that is still under way could meet the new run, and would then wait for the clock.
            await asyncio.wait_for(polling.clock.wait_for_waiter(7), TIMEOUT_SECONDS)
            id = await create_scheduled(server.client)
            polling.clock.advance(7)

            assert run_ids(await socket.deliveries(1)) == [id]
    (warning,) = [each.message for each in caplog.records if each.name == "runyard.database"]
    assert "found by polling only. Set RUNYARD_DATABASE_LISTEN_URL" in warning


async def test_a_cancelled_read_ends_its_statement_and_its_transaction(
    pooled_url: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_pooled(pooled_url) as database, database_connection(database_url, statement_cache_size=0) as other:
        reading = asyncio.create_task(database.read(lambda connection: connection.fetch(SLEEP)))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while await other.fetchval(SLEEPING + " AND state = 'active'") != 1:
                continue
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

        assert await other.fetchval(SLEEPING + " AND state <> 'idle'") == 0
        assert database.connection_stats.used == 0
        assert await database.is_current()
    assert caplog.messages == []


async def test_a_failed_read_leaves_its_connection_usable(pooled_url: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(connection: Connection) -> None:
        backend_pids(connection)
        raise ValueError("wrong")

    async with open_pooled(pooled_url) as database:
        for _ in range(2 * SESSIONS):
            with pytest.raises(ValueError, match="wrong"):
                await database.read(fail)

        assert await database.is_current()
        assert database.connection_stats.used == 0
    assert caplog.messages == []


def test_commands_work_through_a_pooler(postgresql: PostgreSQLServer, tmp_path: Path) -> None:
    name = postgresql.make(migrated=False)
    try:
        with connection_pooler(postgresql.url_of(name)) as url:
            run: Callable[..., Any] = lambda *words: runyard(*words, folder=tmp_path, RUNYARD_DATABASE_URL=url)  # noqa: E731
            first, second = run("db", "upgrade"), run("db", "upgrade")
            created = run("token", "create", "--scope", "read")
            listed = run("token", "list")
            pruned = run("prune", "--older-than", "1d")
            states = asyncio.run(session_states(url))
    finally:
        postgresql.drop(name)

    assert [each.stderr for each in (first, second, listed, pruned)] == ["", "", "", ""]
    assert first.stdout.endswith("is now up to date.\n")
    assert second.stdout.endswith("was already up to date.\n")
    assert created.stdout.startswith("runyard_")
    assert "valid, does not expire" in listed.stdout
    assert pruned.stdout.startswith("Deleted 0 task runs and 0 flow runs")
    assert list(states.values()) == [UNCHANGED_SESSION] * SESSIONS


async def test_serve_starts_through_a_pooler(server_process: ServerProcess, pooled_url: str) -> None:
    client = await server_process.start(RUNYARD_DATABASE_URL=pooled_url)

    id = await create_task_run(client)

    assert await read_state_names(client, id) == ["Pending"]
    assert await server_process.terminate() == -SIGTERM
    assert b"Traceback" not in await server_process.read_log()


@pytest.mark.parametrize(
    ("password", "connections", "reason"),
    [
        ("wrong", 100, "password authentication failed"),
        # One connection is enough to check the migrations, but not for a server.
        ("right", 1, "no more connections allowed (max_client_conn)"),
    ],
)
def test_serve_ends_with_the_reason_when_the_pooler_refuses(
    database_url: str, tmp_path: Path, password: str, connections: int, reason: str
) -> None:
    with connection_pooler(database_url, password="right", max_client_conn=connections) as url:  # noqa: S106
        wrong_or_right = url.replace("password=right", f"password={password}")
        ended = runyard("serve", "--port", "0", folder=tmp_path, RUNYARD_DATABASE_URL=wrong_or_right)

    assert ended.returncode != 0
    assert ended.stderr.count(f"The database could not be used: {reason}.") == 1
    assert "Traceback" not in ended.stderr

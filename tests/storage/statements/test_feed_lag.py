"""The lag of the feed on PostgreSQL: an open transaction in another database of the cluster is measured and reported."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from db.statements.open_transactions import OpenTransaction, oldest_open_transaction
from resolvers import feed_lag
from resolvers.feed_lag import FeedLagMonitor
from tests.builders.api_runs import create_task_run
from tests.client import TIMEOUT_SECONDS
from tests.metrics_page import scrape
from tests.postgresql import PostgreSQLServer, database_connection
from tests.serving import POSTGRESQL_ONLY, SQLITE_ONLY, RunningServer, run_server
from tests.state_change_followers import follow_state_changes, receive_events, states_of


@pytest.fixture
def other_database(postgresql: PostgreSQLServer) -> Iterator[str]:
    """The name of another database of the same cluster."""
    name = postgresql.make(migrated=False)
    yield name
    postgresql.drop(name)


@asynccontextmanager
async def writing_transaction(url: str) -> AsyncIterator[Any]:
    """Keep a transaction open that has written, in the `psql` of an operator."""
    async with database_connection(url, server_settings={"application_name": "psql"}) as connection:
        await connection.execute("BEGIN; CREATE TABLE forgotten ()")
        yield connection


async def read_lag(server: RunningServer) -> float:
    return (await server.client.execute("GetFeedLag"))["feedLagSeconds"]


@POSTGRESQL_ONLY
async def test_the_lag_is_the_time_that_the_oldest_blocked_change_has_waited(
    server: RunningServer, postgresql: PostgreSQLServer, other_database: str
) -> None:
    await create_task_run(server.client)
    async with writing_transaction(postgresql.url_of(other_database)) as transaction:
        server.clock.advance(60)
        before = await read_lag(server)
        await create_task_run(server.client)
        server.clock.advance(3)
        await create_task_run(server.client)
        server.clock.advance(4)
        during = await read_lag(server)
        scraped = (await scrape(server))["runyard_feed_lag_seconds"]
        await transaction.execute("ROLLBACK")
        after = await read_lag(server)

    assert (before, during, scraped, after) == (0, 7, 7, 0)


@POSTGRESQL_ONLY
async def test_a_state_from_the_future_has_no_negative_lag(
    server: RunningServer, postgresql: PostgreSQLServer, other_database: str
) -> None:
    async with writing_transaction(postgresql.url_of(other_database)):
        await create_task_run(server.client)
        server.clock.advance(-5)

        assert await read_lag(server) == 0


@POSTGRESQL_ONLY
async def test_states_of_a_database_from_another_cluster_have_no_lag(server: RunningServer, database_url: str) -> None:
    await create_task_run(server.client)
    async with database_connection(database_url) as connection:
        await connection.execute("UPDATE task_run_state SET written_in = written_in + 1000000")
    server.clock.advance(60)

    assert await read_lag(server) == 0


@SQLITE_ONLY
async def test_the_feed_of_a_sqlite_database_has_no_lag(server: RunningServer) -> None:
    await create_task_run(server.client)
    server.clock.advance(60)

    assert await read_lag(server) == 0
    assert (await scrape(server))["runyard_feed_lag_seconds"] == 0


@POSTGRESQL_ONLY
async def test_the_feed_continues_when_the_transaction_of_the_other_database_ends(
    server: RunningServer, postgresql: PostgreSQLServer, other_database: str
) -> None:
    async with follow_state_changes(server) as socket:
        async with writing_transaction(postgresql.url_of(other_database)) as transaction:
            id = await create_task_run(server.client)
            server.clock.advance(11)
            blocked_seconds = await read_lag(server)
            await transaction.execute("COMMIT")

        assert states_of(await receive_events(socket, 1)) == [(id, "PENDING")]
    assert (blocked_seconds, await read_lag(server)) == (11, 0)


@POSTGRESQL_ONLY
async def test_a_lag_of_more_than_ten_seconds_is_logged_once_and_so_is_its_end(
    server: RunningServer, postgresql: PostgreSQLServer, other_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "runyard.feed")
    monitor = FeedLagMonitor(server.services.database)
    async with writing_transaction(postgresql.url_of(other_database)) as transaction:
        process_id = await transaction.fetchval("SELECT pg_backend_pid()")
        await create_task_run(server.client)
        server.clock.advance(10)
        await monitor.check()
        assert caplog.messages == []

        server.clock.advance(1)
        for _ in range(3):
            await monitor.check()
        ((level, warning),) = [(record.levelname, record.message) for record in caplog.records]
        await transaction.execute("ROLLBACK")
    for _ in range(2):
        await monitor.check()

    assert level == "WARNING"
    before, _, after = warning.partition(" open for ")
    assert before == (
        "State changes have been waiting for 11 seconds to become readable in the feed, until an older transaction "
        f"ends: transaction in the database {other_database},"
    )
    assert after.partition(" seconds, ")[2] == (
        f"process {process_id} of the application psql. To end it, run `SELECT pg_terminate_backend({process_id})`"
    )
    assert [(record.levelname, record.message) for record in caplog.records[1:]] == [
        ("INFO", "The state change feed is current again: the transaction that blocked it has ended")
    ]


@POSTGRESQL_ONLY
async def test_a_server_checks_the_lag(
    database_url: str,
    tmp_path: Path,
    postgresql: PostgreSQLServer,
    other_database: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(feed_lag, "CHECK_SECONDS", 0.01)
    async with (
        run_server(tmp_path, database_url=database_url) as server,
        writing_transaction(postgresql.url_of(other_database)),
    ):
        await create_task_run(server.client)
        server.clock.advance(11)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not any("State changes have been waiting for 11 seconds" in each for each in caplog.messages):
                await read_lag(server)


@POSTGRESQL_ONLY
async def test_the_oldest_transaction_is_the_one_that_wrote_first(
    server: RunningServer, postgresql: PostgreSQLServer, other_database: str
) -> None:
    url = postgresql.url_of(other_database)
    async with database_connection(url) as reader:
        # Begins first and writes last.
        await reader.execute("BEGIN; SELECT 1")
        async with writing_transaction(url) as transaction:
            await reader.fetchval("SELECT pg_current_xact_id()::text")
            found = await server.services.database.read(oldest_open_transaction)
            process_id = await transaction.fetchval("SELECT pg_backend_pid()")

    assert found is not None
    assert (found.database, found.process_id, found.application_name) == (other_database, process_id, "psql")


def test_a_prepared_transaction_is_ended_by_its_identifier() -> None:
    transaction = OpenTransaction("sales", None, "", "it's", 61.4)

    assert transaction.end_statement == "ROLLBACK PREPARED 'it''s'"
    assert transaction.description == "prepared transaction 'it's' in the database sales, open for 61 seconds"

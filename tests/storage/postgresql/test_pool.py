"""The PostgreSQL connection pool: connections are reused, terminated ones are discarded, and closing waits for reads."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest
from sqlalchemy import text
from sqlalchemy.util import await_only

from db.connection import Connection
from db.errors import DatabaseUnavailable
from db.postgresql.database import PostgreSQLDatabase
from db.sql.statement import Statement
from tests.client import TIMEOUT_SECONDS
from tests.clock import ManualClock
from tests.postgresql import database_connection
from tests.serving import POSTGRESQL_ONLY

# SQLite has no connection pool.
pytestmark = POSTGRESQL_ONLY

BACKEND_PID = Statement(text("SELECT pg_backend_pid()"))
TERMINATE_OTHERS = """SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()"""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[PostgreSQLDatabase]:
    database = await PostgreSQLDatabase.open(database_url, clock=ManualClock(), connections=3)
    yield database
    await database.close()


def backend_pid(connection: Connection) -> int:
    return connection.fetch(BACKEND_PID)[0][0]


def blocked_read(started: asyncio.Event, gate: asyncio.Event) -> Callable[[Connection], int]:
    """Return a read that waits for the gate."""

    def read(connection: Connection) -> int:
        started.set()
        await_only(gate.wait())
        return backend_pid(connection)

    return read


async def test_a_returned_connection_is_reused(database: PostgreSQLDatabase) -> None:
    assert len({await database.read(backend_pid) for _ in range(5)}) == 1


async def test_reads_beyond_the_pool_size_wait_for_a_connection(database: PostgreSQLDatabase) -> None:
    gate = asyncio.Event()
    reads = [asyncio.create_task(database.read(blocked_read(asyncio.Event(), gate))) for _ in range(20)]
    while database.connection_stats.waiting != 17 or database.connection_stats.used != 3:
        await asyncio.wait(reads, timeout=0.01)

    assert database.connection_stats.idle == 0
    gate.set()
    assert len(set(await asyncio.wait_for(asyncio.gather(*reads), TIMEOUT_SECONDS))) == 3
    assert (database.connection_stats.used, database.connection_stats.idle) == (0, 3)


async def test_a_terminated_connection_is_neither_reused_nor_counted(
    database: PostgreSQLDatabase, database_url: str
) -> None:
    before = await database.read(backend_pid)
    async with database_connection(database_url) as other:
        await other.execute(TERMINATE_OTHERS)

    after = await asyncio.wait_for(read_until_successful(database), TIMEOUT_SECONDS)

    assert after != before
    assert database.connection_stats.used == 0
    assert 0 <= database.connection_stats.idle <= 3


async def read_until_successful(database: PostgreSQLDatabase) -> int:
    """Read again until the read does not use a terminated connection."""
    while True:
        with suppress(DatabaseUnavailable):
            return await database.read(backend_pid)


async def test_closing_the_database_waits_for_the_last_read(database_url: str) -> None:
    database = await PostgreSQLDatabase.open(database_url, clock=ManualClock(), connections=3)
    started, gate = asyncio.Event(), asyncio.Event()
    reading = asyncio.create_task(database.read(blocked_read(started, gate)))
    await asyncio.wait_for(started.wait(), TIMEOUT_SECONDS)

    closing = asyncio.create_task(database.close())
    asyncio.get_running_loop().call_soon(gate.set)
    await asyncio.wait_for(asyncio.gather(reading, closing), 4)

"""The connections to PostgreSQL: kept at hand, let go of when they have ended, closed when the database is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest
from sqlalchemy import text
from sqlalchemy.util import await_only

from db.connection import Connection
from db.errors import DatabaseUnavailable
from db.postgresql.database import PostgreSQLDatabase
from db.postgresql.driver import asyncpg
from db.sql.statement import Statement
from tests.client import PATIENCE
from tests.clock import ManualClock

MY_PID = Statement(text("SELECT pg_backend_pid()"))
END_OTHERS = """SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()"""


@pytest.fixture
def database_kind() -> str:
    """SQLite has no connections to lose."""
    return "postgresql"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[PostgreSQLDatabase]:
    database = await PostgreSQLDatabase.open(database_url, clock=ManualClock(), connections=3)
    yield database
    await database.close()


def my_pid(connection: Connection) -> int:
    return connection.fetch(MY_PID)[0][0]


def waiting(begun: asyncio.Event, gate: asyncio.Event) -> Callable[[Connection], int]:
    """A reading that goes on when the test says so."""

    def read(connection: Connection) -> int:
        begun.set()
        await_only(gate.wait())
        return my_pid(connection)

    return read


async def test_one_that_came_back_is_lent_again(database: PostgreSQLDatabase) -> None:
    assert len({await database.read(my_pid) for _ in range(5)}) == 1


async def test_more_than_there_may_be_are_waited_for(database: PostgreSQLDatabase) -> None:
    gate = asyncio.Event()
    readings = [asyncio.create_task(database.read(waiting(asyncio.Event(), gate))) for _ in range(20)]
    while database.connections.waiting != 17 or database.connections.used != 3:
        await asyncio.wait(readings, timeout=0.01)

    assert database.connections.idle == 0
    gate.set()
    assert len(set(await asyncio.wait_for(asyncio.gather(*readings), PATIENCE))) == 3
    assert (database.connections.used, database.connections.idle) == (0, 3)


async def test_one_that_has_ended_is_not_lent_and_not_counted(database: PostgreSQLDatabase, database_url: str) -> None:
    before = await database.read(my_pid)
    other = await asyncpg.connect(database_url)
    await other.execute(END_OTHERS)
    await other.close()

    after = await asyncio.wait_for(reading_once_it_is_known(database), PATIENCE)

    assert after != before
    assert database.connections.used == 0
    assert 0 <= database.connections.idle <= 3


async def reading_once_it_is_known(database: PostgreSQLDatabase) -> int:
    """The first reading that does not meet a connection of whose end nobody here has heard."""
    while True:
        with suppress(DatabaseUnavailable):
            return await database.read(my_pid)


async def test_it_is_closed_when_the_last_reading_has_ended(database_url: str) -> None:
    database = await PostgreSQLDatabase.open(database_url, clock=ManualClock(), connections=3)
    begun, gate = asyncio.Event(), asyncio.Event()
    reading = asyncio.create_task(database.read(waiting(begun, gate)))
    await asyncio.wait_for(begun.wait(), PATIENCE)

    closing = asyncio.create_task(database.close())
    asyncio.get_running_loop().call_soon(gate.set)
    await asyncio.wait_for(asyncio.gather(reading, closing), 4)

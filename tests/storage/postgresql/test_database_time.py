"""The time of a server on PostgreSQL while the clock of the database's machine is set, by libfaketime."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from db import migrations
from db.connection import Connection
from db.database import WriteOperation
from db.outages import Outage
from db.postgresql import database_clock, notifier
from db.postgresql.database import PostgreSQLDatabase
from db.postgresql.database_clock import STEP_SECONDS
from tests.chaos.clocks import find_faketime
from tests.chaos.postgresql import ChaosPostgreSQL, run_chaos_postgresql
from tests.client import TIMEOUT_SECONDS
from tests.serving import POSTGRESQL_ONLY

pytestmark = [
    POSTGRESQL_ONLY,
    pytest.mark.skipif(find_faketime() is None, reason="libfaketime is not installed"),
]

HOUR = 3600


@pytest.fixture(autouse=True)
def frequent_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "CLOCK_SYNC_INTERVAL_SECONDS", 0.05)


@pytest.fixture
async def postgresql() -> AsyncIterator[ChaosPostgreSQL]:
    async with run_chaos_postgresql(pooler=False, standby=False) as postgresql:
        await asyncio.to_thread(migrations.upgrade_postgresql, postgresql.url)
        yield postgresql


@pytest.fixture
async def database(postgresql: ChaosPostgreSQL) -> AsyncIterator[PostgreSQLDatabase]:
    database = await PostgreSQLDatabase.open(postgresql.url)
    yield database
    await database.close()


async def wait_for_readings(database: PostgreSQLDatabase, count: int) -> None:
    """Wait until the database's clock was read `count` more times."""
    remaining = count
    done = asyncio.Event()
    read = database._notifier.synchronize_clock

    async def count_reading(connection: object) -> None:
        nonlocal remaining
        await read(connection)
        remaining -= 1
        if not remaining:
            done.set()

    database._notifier.synchronize_clock = count_reading  # type: ignore[method-assign]
    await asyncio.wait_for(done.wait(), TIMEOUT_SECONDS)
    database._notifier.synchronize_clock = read  # type: ignore[method-assign]


def is_right(time: datetime) -> bool:
    return abs(time - datetime.now(UTC)) < timedelta(seconds=STEP_SECONDS)


async def test_time_continues_while_the_database_is_an_hour_ahead_and_when_it_is_back(
    postgresql: ChaosPostgreSQL, database: PostgreSQLDatabase
) -> None:
    before = database.clock.now()
    postgresql.clock.step_to(HOUR)
    await wait_for_readings(database, 3)
    during = database.clock.now()
    was_right = is_right(during)
    postgresql.clock.step_to(0)
    await wait_for_readings(database, 3)
    after = database.clock.now()

    assert before < during < after
    assert (was_right, is_right(after)) == (True, True)


async def test_a_step_that_lasts_is_followed_by_all_servers_together_and_extends_leases(
    postgresql: ChaosPostgreSQL, database: PostgreSQLDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await PostgreSQLDatabase.open(postgresql.url)
    outages: list[Outage] = []
    other.on_outage_end(record_outages(outages))
    await other.write(no_operation, "before")
    monkeypatch.setattr(database_clock, "FOLLOW_STEP_AFTER_SECONDS", 3600.0)
    postgresql.clock.step_to(HOUR)
    await wait_for_readings(other, 2)
    assert is_right(other.clock.now())

    database._notifier.clock.follow_next_step()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await other.clock.wait(asyncio.Event(), datetime.now(UTC) + timedelta(seconds=HOUR / 2))
    await other.write(no_operation, "after")
    await other.close()

    assert is_right(other.clock.now() - timedelta(seconds=HOUR))
    assert [each.concerns_all_servers for each in outages] == [False, True]


def no_operation(_connection: Connection, items: Sequence[str]) -> list[str | Exception]:
    return list(items)


def record_outages(recorded: list[Outage]) -> WriteOperation[Outage, None]:
    def record(_connection: Connection, outages: Sequence[Outage]) -> list[Exception | None]:
        recorded.extend(outages)
        return [None] * len(outages)

    return record


async def test_a_server_takes_the_time_of_the_database_from_the_first_reading_on(postgresql: ChaosPostgreSQL) -> None:
    postgresql.clock.step_to(-HOUR)

    database = await PostgreSQLDatabase.open(postgresql.url)
    shown = database.clock.now() + timedelta(seconds=HOUR)
    await database.close()

    assert is_right(shown)

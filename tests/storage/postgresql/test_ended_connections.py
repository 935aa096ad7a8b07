"""Connections that PostgreSQL ends cost a try at the most, whenever somebody uses them."""

import asyncio
import threading
from contextlib import suppress

import asyncpg
import pytest

from db.connection import Notice, WorkWaits
from db.errors import DatabaseUnavailable
from db.postgresql.database import PostgreSQLDatabase
from tests.client import PATIENCE

OTHERS = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"


@pytest.fixture
def database_kind() -> str:
    """SQLite has no connections."""
    return "postgresql"


def end_all_connections(url: str) -> None:
    """Return when the database has ended every connection. Blocks: nobody here has heard of it yet."""

    async def end() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(f"SELECT pg_terminate_backend(pid) {OTHERS}")
        while await connection.fetchval(f"SELECT count(*) {OTHERS}"):
            continue
        await connection.close()

    thread = threading.Thread(target=asyncio.run, args=(end(),))
    thread.start()
    thread.join()


async def test_who_uses_one_right_then_is_told_to_try_again_and_word_is_passed_on_as_before(database_url: str) -> None:
    here, there = [await PostgreSQLDatabase.open(database_url) for _ in range(2)]
    heard = asyncio.Event()

    async def read() -> None:
        with suppress(DatabaseUnavailable):
            assert await here.is_current()

    def hear(notices: list[Notice]) -> None:
        heard.set()

    there.listen(hear)
    try:
        for _ in range(3):
            end_all_connections(database_url)
            readings: list[asyncio.Task[None]] = []
            for _ in range(8):
                readings.append(asyncio.create_task(read()))
                await asyncio.sleep(0)
            await asyncio.gather(*readings)

        async with asyncio.timeout(PATIENCE):
            while not heard.is_set():
                # What is said before both listen again is lost.
                here._signals.pass_on([WorkWaits("t")])
                with suppress(TimeoutError):
                    await asyncio.wait_for(heard.wait(), 0.1)
    finally:
        await here.close()
        await there.close()

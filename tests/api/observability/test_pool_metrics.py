"""`/metrics`: who waits for a connection to the database, or for a transaction, and how long."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy.util import await_only

from db.connection import Connection
from tests.api.observability.test_metrics import scrape
from tests.client import PATIENCE
from tests.serving import Serving, serving


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[Serving]:
    """A server that has two connections to read with, whichever database it is on, and has told its metrics once."""
    async with serving(tmp_path, database_url=database_url, database_connections=2) as served:
        await scrape(served)
        yield served


class Holding:
    """Units of work that do not end before they are told to."""

    def __init__(self, *, is_in_loop: bool) -> None:
        self.begun = asyncio.Semaphore(0)
        self._loop = asyncio.get_running_loop()
        self._is_in_loop = is_in_loop
        self._told = asyncio.Event()
        self._told_in_thread = threading.Event()

    def read(self, connection: Connection) -> None:
        self._loop.call_soon_threadsafe(self.begun.release)
        if self._is_in_loop:
            await_only(asyncio.wait_for(self._told.wait(), PATIENCE))
        else:
            assert self._told_in_thread.wait(PATIENCE)

    def write(self, connection: Connection, items: Sequence[None]) -> list[Exception | None]:
        self.read(connection)
        return [None for _ in items]

    async def have_begun(self, count: int) -> None:
        """Return when so many have begun."""
        async with asyncio.timeout(PATIENCE):
            for _ in range(count):
                await self.begun.acquire()

    def end(self) -> None:
        self._told.set()
        self._told_in_thread.set()


async def figures(server: Serving, *names: str) -> list[float]:
    """Samples, told without reading from the database."""
    server.app.state.metrics._fresh_until = time.monotonic() + 1000
    response = await server.client.http.get("/metrics")
    samples = dict(line.rsplit(" ", 1) for line in response.text.splitlines())
    return [float(samples[f"runyard_{name}"]) for name in names]


CONNECTIONS = (
    'database_connections{state="used"}',
    'database_connections{state="idle"}',
    "database_connections_most",
    "database_connections_awaited",
)
CONNECTION_WAITS = ("database_connection_wait_seconds_count", "database_connection_wait_seconds_sum")
WRITE_WAITS = ("write_wait_seconds_count", "write_wait_seconds_sum")


async def test_who_waits_for_a_connection_is_told_and_how_long(server: Serving) -> None:
    database = server.life.database
    holding = Holding(is_in_loop=database.is_shared)
    count, seconds = await figures(server, *CONNECTION_WAITS)

    reads = [asyncio.create_task(database.read(holding.read)) for _ in range(3)]
    await holding.have_begun(2)
    during = await figures(server, *CONNECTIONS)
    began_at = time.monotonic()
    await server.client.http.get("/metrics")
    waited = time.monotonic() - began_at
    holding.end()
    await asyncio.gather(*reads)
    after = await figures(server, *CONNECTIONS)
    count_after, seconds_after = await figures(server, *CONNECTION_WAITS)

    assert during == [2, 0, 2, 1]
    assert after == [0, 2, 2, 0]
    assert count_after - count == 3
    assert waited <= seconds_after - seconds < 3 * PATIENCE


async def test_a_read_that_is_given_up_waits_no_more(server: Serving) -> None:
    database = server.life.database
    holding = Holding(is_in_loop=database.is_shared)
    (count,) = await figures(server, "database_connection_wait_seconds_count")
    reads = [asyncio.create_task(database.read(holding.read)) for _ in range(3)]
    await holding.have_begun(2)

    reads[2].cancel()
    await asyncio.wait([reads[2]])

    assert await figures(server, *CONNECTIONS) == [2, 0, 2, 0]
    holding.end()
    await asyncio.gather(*reads[:2])
    assert await figures(server, "database_connection_wait_seconds_count") == [count + 3]


async def test_who_waits_for_a_transaction_is_told_and_how_long(server: Serving) -> None:
    database = server.life.database
    lanes = 2 if database.is_shared else 1
    holding = [Holding(is_in_loop=database.is_shared) for _ in range(lanes)]
    count, seconds = await figures(server, *WRITE_WAITS)

    writes = [asyncio.create_task(database.write(each.write, None)) for each in holding]
    for each in holding:
        await each.have_begun(1)
    last = Holding(is_in_loop=database.is_shared)
    last.end()
    writes.append(asyncio.create_task(database.write(last.write, None)))
    during = await figures(server, "writes_waiting")
    began_at = time.monotonic()
    await server.client.http.get("/metrics")
    waited = time.monotonic() - began_at
    for each in holding:
        each.end()
    await asyncio.gather(*writes)
    after = await figures(server, "writes_waiting")
    count_after, seconds_after = await figures(server, *WRITE_WAITS)

    assert (during, after) == ([1], [0])
    assert count_after - count == lanes + 1
    assert waited <= seconds_after - seconds < 3 * PATIENCE

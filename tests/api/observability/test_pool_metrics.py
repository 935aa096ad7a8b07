"""`/metrics`: how many operations wait for a database connection or a transaction, and how long."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from resolvers.delivery.dispatcher import QueueTimers
from tests.blocking_work import BlockingWork
from tests.client import TIMEOUT_SECONDS
from tests.metrics_page import scrape
from tests.serving import RunningServer, run_server


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """Run a server with two reader connections on either kind of database, and scrape it once."""
    async with run_server(tmp_path, database_url=database_url, database_connections=2) as running:
        await scrape(running)
        yield running


async def wait_for_first_sweep(server: RunningServer) -> None:
    """Wait until a server that starts has read the leases and the deadlines of a shared database."""
    if server.services.database.is_shared:
        await asyncio.wait_for(server.clock.wait_for_waiters(QueueTimers().sweep, 2), TIMEOUT_SECONDS)


async def read_samples(server: RunningServer, *names: str) -> list[float]:
    """Scrape these samples without reading from the database."""
    server.app.state.prometheus._fresh_until = time.monotonic() + 1000
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


async def test_reads_waiting_for_a_connection_are_counted_and_timed(server: RunningServer) -> None:
    database = server.services.database
    await wait_for_first_sweep(server)
    blocking = BlockingWork(is_in_loop=database.is_shared)
    count, seconds = await read_samples(server, *CONNECTION_WAITS)

    requested_at = time.monotonic()
    reads = [asyncio.create_task(database.read(blocking.read)) for _ in range(3)]
    await blocking.wait_for_started(2)
    during = await read_samples(server, *CONNECTIONS)
    started_at = time.monotonic()
    await server.client.http.get("/metrics")
    waited = time.monotonic() - started_at
    blocking.release()
    await asyncio.gather(*reads)
    elapsed = time.monotonic() - requested_at
    after = await read_samples(server, *CONNECTIONS)
    count_after, seconds_after = await read_samples(server, *CONNECTION_WAITS)

    assert during == [2, 0, 2, 1]
    assert after == [0, 2, 2, 0]
    assert count_after - count == 3
    # Two reads start at once, and the third waits at most from its request to the end.
    assert waited <= seconds_after - seconds <= 3 * elapsed


async def test_a_cancelled_read_no_longer_waits(server: RunningServer) -> None:
    database = server.services.database
    await wait_for_first_sweep(server)
    blocking = BlockingWork(is_in_loop=database.is_shared)
    (count,) = await read_samples(server, "database_connection_wait_seconds_count")
    reads = [asyncio.create_task(database.read(blocking.read)) for _ in range(3)]
    await blocking.wait_for_started(2)

    reads[2].cancel()
    await asyncio.wait([reads[2]])

    assert await read_samples(server, *CONNECTIONS) == [2, 0, 2, 0]
    blocking.release()
    await asyncio.gather(*reads[:2])
    assert await read_samples(server, "database_connection_wait_seconds_count") == [count + 3]


async def test_writes_waiting_for_a_transaction_are_counted_and_timed(server: RunningServer) -> None:
    database = server.services.database
    await wait_for_first_sweep(server)
    transactions = 2 if database.is_shared else 1
    blocking = [BlockingWork(is_in_loop=database.is_shared) for _ in range(transactions)]
    count, seconds = await read_samples(server, *WRITE_WAITS)

    requested_at = time.monotonic()
    writes = [asyncio.create_task(database.write(each.write, None)) for each in blocking]
    for each in blocking:
        await each.wait_for_started(1)
    last = BlockingWork(is_in_loop=database.is_shared)
    last.release()
    writes.append(asyncio.create_task(database.write(last.write, None)))
    during = await read_samples(server, "writes_waiting")
    started_at = time.monotonic()
    await server.client.http.get("/metrics")
    waited = time.monotonic() - started_at
    for each in blocking:
        each.release()
    await asyncio.gather(*writes)
    elapsed = time.monotonic() - requested_at
    after = await read_samples(server, "writes_waiting")
    count_after, seconds_after = await read_samples(server, *WRITE_WAITS)

    assert (during, after) == ([1], [0])
    assert count_after - count == transactions + 1
    assert waited <= seconds_after - seconds <= (transactions + 1) * elapsed

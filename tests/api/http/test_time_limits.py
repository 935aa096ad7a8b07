"""The time limit of operations, and the cancellation of reads whose client has disconnected."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from sqlalchemy import text

from db.connection import Connection
from db.sql.statement import Statement
from queries import document
from tests.client import TIMEOUT_SECONDS
from tests.serving import SQLITE_ONLY, RunningServer, run_server

ENDLESS = Statement(
    text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i % 2 + 1 FROM n) SELECT max(i) FROM n"),
    postgresql=text("SELECT pg_sleep(3600)"),
)
"""A read that never finishes by itself."""

ONE = Statement(text("SELECT 1"))


class EndlessReads:
    """Makes every read of a server endless, and records its progress."""

    def __init__(self, server: RunningServer) -> None:
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._read = server.services.database.read
        server.services.database.read = self._read_endlessly  # type: ignore[method-assign]

    async def _read_endlessly(self, work: Any) -> Any:
        def read(connection: Connection) -> Any:
            self._loop.call_soon_threadsafe(self.started.set)
            try:
                return connection.fetch(ENDLESS)
            except BaseException as error:
                self.error = error
                raise
            finally:
                self._loop.call_soon_threadsafe(self.ended.set)

        return await self._read(read)

    async def assert_all_readers_available(self) -> None:
        """Fail when any of the first readers is still occupied."""
        for _ in range(4):
            rows = await asyncio.wait_for(self._read(lambda connection: connection.fetch(ONE)), TIMEOUT_SECONDS)
            assert [tuple(row) for row in rows] == [(1,)]


async def wait_for_event(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), TIMEOUT_SECONDS)


@pytest.fixture
async def short_limit_server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """Run a server with a short time limit for operations."""
    async with run_server(tmp_path, database_url=database_url, request_seconds=0.3) as running:
        yield running


@pytest.mark.parametrize("operation", ["CountTaskRuns", "ListTaskRuns"])
async def test_an_operation_over_the_time_limit_is_cancelled_in_the_database(
    short_limit_server: RunningServer, operation: str
) -> None:
    reads = EndlessReads(short_limit_server)

    error = await short_limit_server.client.execute_refused(operation)

    assert error == {
        "message": "The operation exceeded its time limit and was cancelled. A mutation may have been committed.",
        "code": "UNAVAILABLE",
        "retryable": True,
    }
    await wait_for_event(reads.ended)
    await reads.assert_all_readers_available()


@SQLITE_ONLY
async def test_a_timeout_is_503_for_graphql_response_json(short_limit_server: RunningServer) -> None:
    EndlessReads(short_limit_server)
    body = {"query": document("CountTaskRuns")[0]}

    response = await short_limit_server.client.http.post(
        "/graphql", json=body, headers={"Accept": "application/graphql-response+json"}
    )

    assert response.status_code == 503
    assert list(response.json()) == ["errors"]


@SQLITE_ONLY
async def test_a_socket_operation_has_the_same_limit_and_the_socket_stays_open(
    short_limit_server: RunningServer,
) -> None:
    async with short_limit_server.client.socket() as socket:
        reads = EndlessReads(short_limit_server)
        await socket.subscribe("CountTaskRuns")
        error = await socket.receive()
        await socket.subscribe("GetServer")

        assert (await socket.event())["version"] == "0.1.0"
    assert (error["type"], error["payload"][0]["extensions"]["code"]) == ("error", "UNAVAILABLE")
    await wait_for_event(reads.ended)


@SQLITE_ONLY
async def test_a_subscription_has_no_time_limit(short_limit_server: RunningServer) -> None:
    async with short_limit_server.client.socket() as socket:
        subscription_id = await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        # The subscription started first, so a limit for it would expire before the limit of this query.
        reads = EndlessReads(short_limit_server)
        await short_limit_server.client.execute_refused("CountTaskRuns")
        await wait_for_event(reads.ended)
        await short_limit_server.clock.wait_for_waiter(15)
        short_limit_server.clock.advance(15)
        message = await socket.receive()

    assert message == {"id": subscription_id, "type": "next", "payload": {"data": {"scheduledTaskRuns": []}}}


async def disconnect_after(server: RunningServer, operation: str, started: asyncio.Event, **variables: Any) -> None:
    """Send the operation, and close the connection once `started` is set."""
    address = urlsplit(server.client.url)
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    body = orjson.dumps({"query": document(operation)[0], "variables": variables})
    head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await wait_for_event(started)
    writer.close()
    await writer.wait_closed()


async def test_a_query_is_cancelled_in_the_database_when_its_client_disconnects(server: RunningServer) -> None:
    reads = EndlessReads(server)

    await disconnect_after(server, "CountTaskRuns", reads.started)

    await wait_for_event(reads.ended)
    assert reads.error is not None
    await reads.assert_all_readers_available()


@SQLITE_ONLY
async def test_a_write_is_not_rolled_back_when_its_client_disconnects(server: RunningServer, tmp_path: Path) -> None:
    write_started = asyncio.Event()
    write_all = server.services.database.write_all

    async def write_and_signal(*arguments: Any) -> Any:
        write_started.set()
        return await write_all(*arguments)

    server.services.database.write_all = write_and_signal  # type: ignore[method-assign]
    with closing(sqlite3.connect(tmp_path / "runyard.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await disconnect_after(server, "CreateTaskRun", write_started, input={"taskKey": "t", "dynamicKey": "first"})
        other.execute("ROLLBACK")

    # Writes are executed in order.
    await server.client.execute("CreateTaskRun", input={"taskKey": "t", "dynamicKey": "second"})
    assert (await server.client.execute("ListTaskRuns"))["totalCount"] == 2


@SQLITE_ONLY
async def test_cancelling_a_read_cancels_no_other_read(server: RunningServer) -> None:
    read = server.services.database.read
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless(connection: Connection) -> Any:
        loop.call_soon_threadsafe(started.set)
        return connection.fetch(ENDLESS)

    endless_reads = [asyncio.create_task(read(endless)) for _ in range(2)]
    await wait_for_event(started)
    waiting = [asyncio.create_task(read(lambda connection: connection.fetch(ONE))) for _ in range(4)]
    cancelled_read = waiting.pop()
    await asyncio.sleep(0)
    cancelled_read.cancel()
    for each in endless_reads:
        each.cancel()

    assert await asyncio.wait_for(asyncio.gather(*waiting), TIMEOUT_SECONDS) == [[(1,)]] * 3
    assert [each.cancelled() for each in (*endless_reads, cancelled_read)] == [True] * 3

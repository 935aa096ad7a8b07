"""How long an operation may take, and that nobody's work goes on without them."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from sqlalchemy import text

from db.connection import Connection
from db.runtime.deadlines import Alarms, Deadline
from db.sql.statement import Statement
from queries import document
from tests.client import PATIENCE
from tests.serving import ON_SQLITE, Serving, serving

ENDLESS = Statement(
    text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i % 2 + 1 FROM n) SELECT max(i) FROM n"),
    postgresql=text("SELECT pg_sleep(3600)"),
)
"""A read that does not end by itself."""

ONE = Statement(text("SELECT 1"))


class Reads:
    """Lets the reads of a server's fields be endless, and tells how they go."""

    def __init__(self, server: Serving) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._read = server.life.database.read
        server.life.database.read = self._endlessly  # type: ignore[method-assign]

    async def _endlessly(self, work: Any) -> Any:
        def read(connection: Connection) -> Any:
            self._loop.call_soon_threadsafe(self.begun.set)
            try:
                return connection.fetch(ENDLESS)
            except BaseException as error:
                self.error = error
                raise
            finally:
                self._loop.call_soon_threadsafe(self.ended.set)

        return await self._read(read)

    async def all_readers_read(self) -> None:
        """Fails where any of the first readers is not to be had."""
        for _ in range(4):
            rows = await asyncio.wait_for(self._read(lambda connection: connection.fetch(ONE)), PATIENCE)
            assert [tuple(row) for row in rows] == [(1,)]


async def ended(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), PATIENCE)


@pytest.fixture
async def hasty(database_url: str, tmp_path: Path) -> AsyncIterator[Serving]:
    """A server that gives an operation a moment."""
    async with serving(tmp_path, database_url=database_url, request_seconds=0.3) as served:
        yield served


@pytest.mark.parametrize("operation", ["CountTaskRuns", "ListTaskRuns"])
async def test_an_operation_that_takes_too_long_is_given_up_in_the_database_too(hasty: Serving, operation: str) -> None:
    reads = Reads(hasty)

    error = await hasty.client.refused(operation)

    assert error == {
        "message": "This took too long and was given up; what it had begun to write may be written.",
        "code": "UNAVAILABLE",
        "retryable": True,
    }
    await ended(reads.ended)
    await reads.all_readers_read()


@ON_SQLITE
async def test_being_out_of_time_is_503_for_newer_clients(hasty: Serving) -> None:
    Reads(hasty)
    body = {"query": document("CountTaskRuns")[0]}

    response = await hasty.client.http.post(
        "/graphql", json=body, headers={"Accept": "application/graphql-response+json"}
    )

    assert response.status_code == 503
    assert list(response.json()) == ["errors"]


@ON_SQLITE
async def test_an_operation_over_a_socket_has_the_same_time_and_the_socket_lives_on(hasty: Serving) -> None:
    async with hasty.client.socket() as socket:
        reads = Reads(hasty)
        await socket.subscribe("CountTaskRuns")
        error = await socket.receive()
        await socket.subscribe("GetServer")

        assert (await socket.event())["version"] == "0.1.0"
    assert (error["type"], error["payload"][0]["extensions"]["code"]) == ("error", "UNAVAILABLE")
    await ended(reads.ended)


@ON_SQLITE
async def test_a_subscription_has_no_time_limit(hasty: Serving) -> None:
    async with hasty.client.socket() as socket:
        listening = await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        # Time that is up for this query would be up for the subscription before it.
        reads = Reads(hasty)
        await hasty.client.refused("CountTaskRuns")
        await ended(reads.ended)
        await hasty.clock.somebody_waits(15)
        hasty.clock.advance(15)
        message = await socket.receive()

    assert message == {"id": listening, "type": "next", "payload": {"data": {"scheduledTaskRuns": []}}}


async def leave_while(server: Serving, operation: str, begun: asyncio.Event, **variables: Any) -> None:
    """Send the operation, and close the connection when it has begun."""
    address = urlsplit(server.client.url)
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    body = orjson.dumps({"query": document(operation)[0], "variables": variables})
    head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await ended(begun)
    writer.close()
    await writer.wait_closed()


async def test_a_query_ends_in_the_database_when_its_client_goes_away(server: Serving) -> None:
    reads = Reads(server)

    await leave_while(server, "CountTaskRuns", reads.begun)

    await ended(reads.ended)
    assert reads.error is not None
    await reads.all_readers_read()


@ON_SQLITE
async def test_a_write_is_not_taken_back_when_its_client_goes_away(server: Serving, tmp_path: Path) -> None:
    asked = asyncio.Event()
    write_all = server.life.database.write_all

    async def tell(*arguments: Any) -> Any:
        asked.set()
        return await write_all(*arguments)

    server.life.database.write_all = tell  # type: ignore[method-assign]
    with closing(sqlite3.connect(tmp_path / "runyard.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await leave_while(server, "CreateTaskRun", asked, input={"taskKey": "t", "dynamicKey": "first"})
        other.execute("ROLLBACK")

    # Writes are carried out in their order.
    await server.client.ask("CreateTaskRun", input={"taskKey": "t", "dynamicKey": "second"})
    assert (await server.client.ask("ListTaskRuns"))["totalCount"] == 2


@ON_SQLITE
async def test_giving_a_read_up_ends_no_other_read(server: Serving) -> None:
    read = server.life.database.read
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless(connection: Connection) -> Any:
        loop.call_soon_threadsafe(begun.set)
        return connection.fetch(ENDLESS)

    endless_reads = [asyncio.create_task(read(endless)) for _ in range(2)]
    await ended(begun)
    waiting = [asyncio.create_task(read(lambda connection: connection.fetch(ONE))) for _ in range(4)]
    given_up = waiting.pop()
    await asyncio.sleep(0)
    given_up.cancel()
    for each in endless_reads:
        each.cancel()

    assert await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE) == [[(1,)]] * 3
    assert [each.cancelled() for each in (*endless_reads, given_up)] == [True] * 3


async def test_a_field_may_ask_for_more_time() -> None:
    deadline = Deadline(Alarms(0))
    deadline.extend(3600)

    # A deadline of no seconds would pass at the next turn of the loop.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not deadline.has_cancelled()
    deadline.end()


async def test_several_fields_may_ask_for_more_time_and_each_gets_it() -> None:
    deadline = Deadline(Alarms(0))
    deadline.extend(0)
    deadline.extend(3600)

    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not deadline.has_cancelled()
    deadline.end()


async def test_a_deadline_does_not_answer_for_the_cancelling_of_others() -> None:
    async def work() -> bool:
        deadline = Deadline(Alarms(0))
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return deadline.has_cancelled()
        finally:
            deadline.end()
        return True

    assert await work() is False
    current = asyncio.current_task()
    assert current is not None
    current.uncancel()


async def test_nobody_is_left_cancelled_by_a_deadline_that_was_not_asked() -> None:
    current = asyncio.current_task()
    assert current is not None
    deadline = Deadline(Alarms(0))
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    assert current.cancelling() == 1

    deadline.end()

    assert current.cancelling() == 0
    assert not deadline.has_cancelled()

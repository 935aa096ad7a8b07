"""Messages above the message limit: their operations fail alone, and they count in the memory budget for requests."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode

from queries import document
from tests.builders.queued_runs import create_many, run_ids
from tests.client import TIMEOUT_SECONDS
from tests.serving import RunningServer, run_server
from tests.websocket_messages import INIT, assert_alive, receive_close, subscribe_message

MESSAGE, BODY = 20_000, 60_000
"""Limits of the server, in bytes."""

MEBIBYTE = 1024 * 1024


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server with small limits."""
    limits = {"max_message_bytes": MESSAGE, "max_body_bytes": BODY}
    async with run_server(tmp_path, database_url=database_url, **limits) as running:
        yield running


def completing_message(run_id: str, lease_id: str, *, size: int, id: str = "large") -> str:
    """Return a message of this size in bytes that sets a run COMPLETED with a result."""

    def message(result: str) -> str:
        variables = {"id": run_id, "leaseId": lease_id, "state": {"type": "COMPLETED", "data": result}}
        return orjson.dumps(subscribe_message(document("SetTaskRunState")[0], id, variables=variables)).decode()

    return message("x" * (size - len(message(""))))


async def test_a_result_above_the_message_limit_fails_alone_and_changes_nothing(server: RunningServer) -> None:
    (run_id,) = await create_many(server.client, 1)
    async with server.client.socket() as socket:
        subscription = await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        (delivery,) = await socket.deliveries(1)

        await socket.connection.send(completing_message(run_id, delivery["leaseId"], size=MESSAGE + 1))

        error = {
            "message": "The message must not exceed 20,000 bytes; got 20,001. Send the operation over HTTP.",
            "extensions": {"code": "BAD_USER_INPUT"},
        }
        assert await socket.receive() == {"id": "large", "type": "error", "payload": [error]}
        run = await server.client.execute("GetTaskRun", id=run_id)
        assert [state["type"] for state in run["states"]] == ["SCHEDULED"]
        (later,) = await create_many(server.client, 1)
        message = await socket.receive()
        assert (message["id"], message["type"]) == (subscription, "next")
        assert run_ids(message["payload"]["data"]["scheduledTaskRuns"]) == [later]


@pytest.mark.parametrize("size", [MESSAGE, BODY])
async def test_the_limits_include_messages_of_their_size(server: RunningServer, size: int) -> None:
    async with server.client.socket() as socket:
        message = orjson.dumps(subscribe_message("{ __typename }")).decode()
        await socket.connection.send(message.ljust(size))

        assert (await socket.receive())["type"] == ("next" if size == MESSAGE else "error")


async def test_the_size_is_counted_in_bytes(server: RunningServer) -> None:
    message = orjson.dumps(subscribe_message("{ __typename }", extensions={"text": "ü" * (MESSAGE // 2)})).decode()
    assert len(message) < MESSAGE
    async with server.client.socket() as socket:
        await socket.connection.send(message)

        assert (await socket.receive())["type"] == "error"
        await assert_alive(socket)


async def test_a_message_above_the_body_limit_closes_the_socket_with_1009(server: RunningServer) -> None:
    async with server.client.socket() as socket:
        await socket.connection.send(orjson.dumps(subscribe_message("{ __typename }")).decode().ljust(BODY + 1))

        code, _ = await receive_close(socket.connection)
    assert code == 1009


@pytest.mark.parametrize(
    "message",
    ["", "{", "[]", '{"type": "ping"}', '{"type": "complete", "id": "1"}', '{"type": "subscribe", "id": "1"}'],
)
async def test_a_large_message_without_an_operation_closes_the_socket_with_1009(
    server: RunningServer, message: str
) -> None:
    async with server.client.socket() as socket:
        await socket.connection.send(message.ljust(MESSAGE + 1))

        assert await receive_close(socket.connection) == (1009, "The message is too large")


async def test_a_large_message_before_connection_init_closes_with_4401(server: RunningServer) -> None:
    async with server.client.raw_socket() as connection:
        await connection.send(orjson.dumps(subscribe_message("{ __typename }")).decode().ljust(MESSAGE + 1))

        assert await receive_close(connection) == (4401, "Unauthorized")


async def test_a_large_message_with_an_id_in_use_closes_with_4409(server: RunningServer) -> None:
    async with server.client.socket() as socket:
        id = await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        await socket.connection.send(orjson.dumps(subscribe_message("{ __typename }", id)).decode().ljust(MESSAGE + 1))

        assert await receive_close(socket.connection) == (4409, "Subscriber for 1 already exists")


@pytest.fixture
async def server_with_little_memory(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server whose memory for large requests is two mebibytes."""
    async with run_server(tmp_path, database_url=database_url, max_responses_bytes=2 * MEBIBYTE) as running:
        yield running


class PartialMessage:
    """A message of which the server has received all but the last byte."""

    def __init__(self, connection: ClientConnection, last_byte: bytes) -> None:
        self._connection = connection
        self._last_byte = last_byte

    @classmethod
    async def begin(cls, server: RunningServer, connection: ClientConnection, size: int) -> "PartialMessage":
        """Send all but the last byte of an operation of this size and wait until the server has received them."""
        reserved = server.app.state.request_budget.reserved
        text = orjson.dumps(subscribe_message("{ __typename }")).ljust(size)
        frame = Frame(Opcode.TEXT, text).serialize(mask=True)
        connection.transport.write(frame[:-1])
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while server.app.state.request_budget.reserved < reserved + size - 1 and connection.close_code is None:
                await server.client.http.get("/healthz")
        return cls(connection, frame[-1:])

    def finish(self) -> None:
        """Send the last byte."""
        self._connection.transport.write(self._last_byte)


async def test_large_messages_and_bodies_share_a_memory_budget_until_they_are_parsed(
    server_with_little_memory: RunningServer,
) -> None:
    server = server_with_little_memory
    size = 3 * MEBIBYTE // 2
    body = orjson.dumps({"query": "{ __typename }"}).ljust(size)
    json = {"Content-Type": "application/json"}
    async with server.client.socket() as first, server.client.socket() as second:
        message = await PartialMessage.begin(server, first.connection, size)
        await PartialMessage.begin(server, second.connection, size)
        refused = await server.client.http.post("/graphql", content=body, headers=json)

        closed = await receive_close(second.connection)
        message.finish()
        received: dict[str, Any] = await first.receive()
        accepted = await server.client.http.post("/graphql", content=body, headers=json)

    assert closed == (1013, "Large requests of other clients use the memory for requests")
    assert refused.status_code == 503
    assert refused.json()["errors"][0]["extensions"] == {"code": "UNAVAILABLE", "retryable": True}
    assert (received["id"], received["type"]) == ("1", "error")
    assert accepted.json() == {"data": {"__typename": "Query"}}
    assert server.app.state.request_budget.reserved == 0


async def test_small_requests_are_served_while_large_ones_use_the_memory(
    server_with_little_memory: RunningServer,
) -> None:
    server = server_with_little_memory
    async with server.client.socket() as large, server.client.socket() as small:
        await PartialMessage.begin(server, large.connection, 4 * MEBIBYTE)

        await small.send(subscribe_message("{ __typename }"))

        assert (await small.receive())["type"] == "next"
        assert (await server.client.execute("ListTaskRuns"))["totalCount"] == 0


async def test_a_lost_client_frees_the_memory_of_its_partial_message(server_with_little_memory: RunningServer) -> None:
    server = server_with_little_memory
    async with server.client.raw_socket() as connection:
        await connection.send(INIT)
        await PartialMessage.begin(server, connection, 2 * MEBIBYTE)
        connection.transport.abort()

    async with asyncio.timeout(TIMEOUT_SECONDS):
        while server.app.state.request_budget.reserved:
            await server.client.http.get("/healthz")

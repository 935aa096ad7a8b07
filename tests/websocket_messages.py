"""Messages of graphql-transport-ws, sent and received one at a time, and the end of a WebSocket."""

import asyncio
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.client import TIMEOUT_SECONDS, Socket
from tests.serving import RunningServer

INIT = '{"type": "connection_init"}'


def subscribe_message(query: object, id: object = "1", **payload: object) -> dict[str, Any]:
    """Return the message that starts this operation."""
    return {"id": id, "type": "subscribe", "payload": {"query": query, **payload}}


async def send_connection_init(connection: ClientConnection, payload: object = None) -> Socket:
    """Send `connection_init` with this payload, which may hold a token, and return the socket."""
    socket = Socket(connection)
    await socket.send({"type": "connection_init", **({} if payload is None else {"payload": payload})})
    return socket


async def receive_close(connection: ClientConnection) -> tuple[int, str]:
    """Wait until the server closes the socket and return code and reason. Fail on any message before."""
    with pytest.raises(ConnectionClosed) as closed:
        await asyncio.wait_for(connection.recv(), TIMEOUT_SECONDS)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


async def assert_alive(socket: Socket) -> None:
    """Check that the socket is open and has no unread messages."""
    await socket.send({"type": "ping"})
    assert await socket.receive() == {"type": "pong"}


async def wait_for_socket_count(server: RunningServer, count: int) -> None:
    """Wait until the server has at most `count` open WebSockets."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while server.app.state.operation_metrics.open_websockets > count:
            await server.client.http.get("/healthz")

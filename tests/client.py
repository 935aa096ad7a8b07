"""Test client: sends the documents in `queries/` over HTTP, and over WebSockets with graphql-transport-ws."""

import asyncio
import itertools
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
from websockets.asyncio.client import ClientConnection, connect

from queries import document

TIMEOUT_SECONDS = 30.0
"""Default timeout of anything a test waits for. Generous, because test machines are busy."""

_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Unused, but httpx requires a TLS context, and creating its default one takes longer than most tests."""


class Client:
    """Sends the operations in `queries/` by name."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS, verify=_TLS)

    async def send(self, operation: str, **variables: Any) -> dict[str, Any]:
        """Execute the operation and return the whole response: `data` and `errors`."""
        response = await self.http.post("/graphql", json={"query": document(operation)[0], "variables": variables})
        assert response.status_code == 200, response.text
        return response.json()

    async def execute(self, operation: str, **variables: Any) -> Any:
        """Execute the operation and return the value of its only root field. Fails if the response has errors."""
        response = await self.send(operation, **variables)
        assert "errors" not in response, response
        (value,) = response["data"].values()
        return value

    async def execute_refused(self, operation: str, **variables: Any) -> dict[str, Any]:
        """Execute the operation and return its only error: the extensions and the message in one dictionary."""
        response = await self.send(operation, **variables)
        (error,) = response["errors"]
        return {"message": error["message"], **error["extensions"]}

    @asynccontextmanager
    async def socket(self, max_size: int | None = 2**20) -> AsyncIterator["Socket"]:
        """Open a WebSocket and initialize the connection. `max_size` limits the received messages, in bytes."""
        async with self.raw_socket(max_size=max_size) as connection:
            socket = Socket(connection)
            await socket.send({"type": "connection_init"})
            assert await socket.receive() == {"type": "connection_ack"}
            yield socket

    def raw_socket(
        self, subprotocols: tuple[str, ...] = ("graphql-transport-ws",), *, max_size: int | None = 2**20
    ) -> connect:
        """Open a WebSocket without sending `connection_init`."""
        address = self.url.replace("http", "ws", 1) + "/graphql"
        return connect(address, subprotocols=list(subprotocols), proxy=None, max_size=max_size)  # type: ignore[arg-type]


class Socket:
    """A WebSocket that speaks graphql-transport-ws."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._ids = itertools.count(1)

    async def send(self, message: object) -> None:
        await self.connection.send(orjson.dumps(message).decode())

    async def receive(self) -> dict[str, Any]:
        """Return the next message. Fails on a timeout or a binary message."""
        frame = await asyncio.wait_for(self.connection.recv(), TIMEOUT_SECONDS)
        assert isinstance(frame, str)
        return orjson.loads(frame)

    async def subscribe(self, operation: str, **variables: Any) -> str:
        """Start the operation and return its id."""
        id = str(next(self._ids))
        payload = {"query": document(operation)[0], "variables": variables}
        await self.send({"id": id, "type": "subscribe", "payload": payload})
        return id

    async def wait_for_unread_data(self) -> None:
        """Wait until data has arrived that was not read. Only for a connection whose reading is paused."""
        connection = self.connection.transport.get_extra_info("socket")
        loop, has_arrived = asyncio.get_running_loop(), asyncio.Event()
        with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            loop.add_reader(duplicate, has_arrived.set)
            await asyncio.wait_for(has_arrived.wait(), TIMEOUT_SECONDS)
            loop.remove_reader(duplicate)

    async def event(self) -> Any:
        """Return the value of the only root field of the next event. Fails if the message is no event or has errors."""
        message = await self.receive()
        assert message["type"] == "next", message
        assert "errors" not in message["payload"], message
        (value,) = message["payload"]["data"].values()
        return value

    async def deliveries(self, count: int) -> list[dict[str, Any]]:
        """Receive events until `count` deliveries have arrived and return them. Fails if more arrive."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            found += await self.event()
        assert len(found) == count
        return found

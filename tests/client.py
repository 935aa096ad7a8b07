"""A client of a server under test: documents of `queries/` over HTTP, and graphql-transport-ws over a real socket."""

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

PATIENCE = 10.0
"""How long anything awaited may take before the test fails: generous, since machines are busy."""

_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Not used, but a client wants one; the one that it would make for itself takes longer than most tests."""


class Client:
    """Sends operations by name."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.AsyncClient(base_url=url, timeout=PATIENCE, verify=_TLS)

    async def send(self, operation: str, **variables: Any) -> dict[str, Any]:
        """The whole answer to the operation: data, errors."""
        response = await self.http.post("/graphql", json={"query": document(operation)[0], "variables": variables})
        assert response.status_code == 200, response.text
        return response.json()

    async def ask(self, operation: str, **variables: Any) -> Any:
        """The value of the operation's one root field. Fails if there are errors."""
        answer = await self.send(operation, **variables)
        assert "errors" not in answer, answer
        (value,) = answer["data"].values()
        return value

    async def refused(self, operation: str, **variables: Any) -> dict[str, Any]:
        """The one error that the operation is refused with: its extensions, and its message among them."""
        answer = await self.send(operation, **variables)
        (error,) = answer["errors"]
        return {"message": error["message"], **error["extensions"]}

    @asynccontextmanager
    async def socket(self, max_size: int | None = 2**20) -> AsyncIterator["Socket"]:
        """An open and acknowledged WebSocket, to which messages of so many bytes may be sent."""
        async with self.raw_socket(max_size=max_size) as connection:
            socket = Socket(connection)
            await socket.send({"type": "connection_init"})
            assert await socket.receive() == {"type": "connection_ack"}
            yield socket

    def raw_socket(
        self, subprotocols: tuple[str, ...] = ("graphql-transport-ws",), *, max_size: int | None = 2**20
    ) -> connect:
        """A WebSocket on which nothing has been said."""
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
        """The next message; fails if none comes, or if it is not text."""
        frame = await asyncio.wait_for(self.connection.recv(), PATIENCE)
        assert isinstance(frame, str)
        return orjson.loads(frame)

    async def subscribe(self, operation: str, **variables: Any) -> str:
        """Start the operation; its id."""
        id = str(next(self._ids))
        payload = {"query": document(operation)[0], "variables": variables}
        await self.send({"id": id, "type": "subscribe", "payload": payload})
        return id

    async def something_to_read(self) -> None:
        """Return when something has come that nobody has read, since reading is paused."""
        connection = self.connection.transport.get_extra_info("socket")
        loop, has_come = asyncio.get_running_loop(), asyncio.Event()
        with socket.socket(fileno=os.dup(connection.fileno())) as same:
            loop.add_reader(same, has_come.set)
            await asyncio.wait_for(has_come.wait(), PATIENCE)
            loop.remove_reader(same)

    async def event(self) -> Any:
        """The value of the one root field in the next message, which has to be an event without errors."""
        message = await self.receive()
        assert message["type"] == "next", message
        assert "errors" not in message["payload"], message
        (value,) = message["payload"]["data"].values()
        return value

    async def deliveries(self, count: int) -> list[dict[str, Any]]:
        """The next `count` deliveries, in however many events they come. Fails if more come with them."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            found += await self.event()
        assert len(found) == count
        return found

"""A client that costs little: raw HTTP on connections that stay open, and one WebSocket for each worker."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect

from queries import document

KEPT_SECONDS = 3.0
"""How long a connection may lie idle: servers close theirs after five seconds."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to send, and what the answer has to contain."""

    wire: bytes
    expected: bytes = b'{"data":{'


def request(query: str, expected: bytes = b'{"data":{', **variables: Any) -> Request:
    body = orjson.dumps({"query": query, "variables": variables})
    head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    return Request(head.encode() + body, expected)


def named(operation: str, expected: bytes = b'{"data":{', **variables: Any) -> Request:
    """The request for a document of `queries/`."""
    return request(document(operation)[0], expected, **variables)


@dataclass
class Client:
    """Connections to one server. Every answer is looked at; `faults` has those that are not what was expected."""

    port: int
    faults: list[bytes] = field(default_factory=list[bytes])
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = field(
        default_factory=list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]]
    )

    async def send(self, wanted: Request) -> bytes:
        """The body of the answer."""
        reader, writer = self._take() or await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        writer.write(wanted.wire)
        head = await reader.readuntil(b"\r\n\r\n")
        start = head.lower().index(b"content-length:") + 15
        body = await reader.readexactly(int(head[start : head.index(b"\r", start)]))
        self._idle.append((reader, writer, time.monotonic()))
        if wanted.expected not in body or b'"errors":' in body or not head.startswith(b"HTTP/1.1 200"):
            self.faults.append(body[:1000])
        return body

    async def ask(self, operation: str, **variables: Any) -> Any:
        """The value of the operation's one root field. Fails where there are errors."""
        body = await self.send(named(operation, **variables))
        assert b'"errors":' not in body, body
        (value,) = orjson.loads(body)["data"].values()
        return value

    async def send_all(self, requests: Sequence[Sequence[Request]], at_once: int) -> None:
        """All requests, so many under way at a time; those of a group one after the other."""
        waiting = iter(requests)

        async def work(groups: Iterator[Sequence[Request]]) -> None:
            for group in groups:
                for each in group:
                    await self.send(each)

        await asyncio.gather(*(work(waiting) for _ in range(at_once)))

    def _take(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection that is open, as long as the server has not had the time to close it."""
        while self._idle:
            reader, writer, used_at = self._idle.pop()
            if time.monotonic() - used_at < KEPT_SECONDS:
                return reader, writer
            writer.close()
        return None

    def close(self) -> None:
        for _, writer, _ in self._idle:
            writer.close()
        self._idle.clear()


class Worker:
    """A subscriber to one task key."""

    def __init__(self, socket: ClientConnection, client: Client) -> None:
        self._socket = socket
        self._client = client

    @classmethod
    async def subscribe(cls, client: Client, task_key: str, prefetch: int) -> "Worker":
        address = f"ws://127.0.0.1:{client.port}/graphql"
        socket = await connect(address, subprotocols=["graphql-transport-ws"], proxy=None, compression=None)  # type: ignore[list-item]
        await socket.send('{"type":"connection_init"}')
        await socket.recv()
        variables = {"taskKeys": [task_key], "prefetch": prefetch}
        payload = {"query": document("ScheduledTaskRuns")[0], "variables": variables}
        await socket.send(orjson.dumps({"id": "1", "type": "subscribe", "payload": payload}).decode())
        return cls(socket, client)

    async def receive(self) -> list[str]:
        """The leases of the next event; none where it is a sign of life."""
        message = orjson.loads(await self._socket.recv())
        if message["type"] != "next" or "errors" in message["payload"]:
            self._client.faults.append(orjson.dumps(message)[:1000])
            return []
        return [each["leaseId"] for each in message["payload"]["data"]["scheduledTaskRuns"]]

    async def acknowledge(self, leases: list[str]) -> None:
        await self._client.send(named("AcknowledgeTaskRuns", b'"status":"HELD"', leaseIds=leases))

    async def close(self) -> None:
        await self._socket.close()

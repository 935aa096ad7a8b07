"""A client with low CPU cost: raw HTTP over persistent connections, and one WebSocket for each worker."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect

from queries import document

MAX_IDLE_SECONDS = 3.0
"""Maximum idle time of a reused connection. Servers close idle connections after five seconds."""


@dataclass(frozen=True, slots=True)
class Request:
    """The bytes to send, and a text that the response must contain."""

    wire: bytes
    expected: bytes = b'{"data":{'


def request(query: str, expected: bytes = b'{"data":{', **variables: Any) -> Request:
    body = orjson.dumps({"query": query, "variables": variables})
    head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    return Request(head.encode() + body, expected)


def document_request(operation: str, expected: bytes = b'{"data":{', **variables: Any) -> Request:
    """Build the request for a document of `queries/`."""
    return request(document(operation)[0], expected, **variables)


@dataclass
class Client:
    """Connections to one server. Every response is checked, and `faults` collects the unexpected ones."""

    port: int
    faults: list[bytes] = field(default_factory=list[bytes])
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = field(
        default_factory=list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]]
    )

    async def send(self, request: Request) -> bytes:
        """Send the request and return the body of the response."""
        reader, writer = self._take_idle_connection() or await asyncio.open_connection(
            "127.0.0.1", self.port, limit=2**20
        )
        writer.write(request.wire)
        head = await reader.readuntil(b"\r\n\r\n")
        start = head.lower().index(b"content-length:") + 15
        body = await reader.readexactly(int(head[start : head.index(b"\r", start)]))
        self._idle.append((reader, writer, time.monotonic()))
        if request.expected not in body or b'"errors":' in body or not head.startswith(b"HTTP/1.1 200"):
            self.faults.append(body[:1000])
        return body

    async def execute(self, operation: str, **variables: Any) -> Any:
        """Execute the operation and return the value of its one root field. Fails when the response has errors."""
        body = await self.send(document_request(operation, **variables))
        assert b'"errors":' not in body, body
        (value,) = orjson.loads(body)["data"].values()
        return value

    async def send_all(self, requests: Sequence[Sequence[Request]], concurrency: int) -> None:
        """Send all requests, `concurrency` of them in flight. Those of a group are sent one after the other."""
        waiting = iter(requests)

        async def work(groups: Iterator[Sequence[Request]]) -> None:
            for group in groups:
                for each in group:
                    await self.send(each)

        await asyncio.gather(*(work(waiting) for _ in range(concurrency)))

    def _take_idle_connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Return an open connection that has not been idle long enough for the server to close it, or None."""
        while self._idle:
            reader, writer, used_at = self._idle.pop()
            if time.monotonic() - used_at < MAX_IDLE_SECONDS:
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
        """Return the lease ids of the next event. A heartbeat has none."""
        message = orjson.loads(await self._socket.recv())
        if message["type"] != "next" or "errors" in message["payload"]:
            self._client.faults.append(orjson.dumps(message)[:1000])
            return []
        return [each["leaseId"] for each in message["payload"]["data"]["scheduledTaskRuns"]]

    async def acknowledge(self, leases: list[str]) -> None:
        await self._client.send(document_request("AcknowledgeTaskRuns", b'"status":"HELD"', leaseIds=leases))

    async def close(self) -> None:
        await self._socket.close()

"""An HTTP proxy in front of a server that loses responses, refuses and holds requests, and cuts connections.

It runs in the event loop of the test. Faults concern the requests of one operation, or of every operation (`ANY`).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import aiohttp
import orjson
from aiohttp import web

ANY = "*"
TIMEOUT_SECONDS = 30.0
OPERATION = re.compile(r"\b(?:query|mutation|subscription)\s+(\w+)")
HOP_BY_HOP = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})

Status = int | Literal["lost", "unreachable"] | None


@dataclass
class ProxiedRequest:
    """A request that reached the proxy."""

    operation: str
    variables: dict[str, Any]
    headers: Mapping[str, str]
    status: Status = None
    """The status of the response that the client received; "lost" if its connection was cut instead, "unreachable" if the
    server was, and None while there is no response."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the response was sent or the connection was cut."""

    def __iter__(self) -> Any:
        return iter((self.operation, self.variables, self.status))


@dataclass
class _Fault:
    operation: str
    times: int

    def applies_to(self, operation: str) -> bool:
        return self.times > 0 and self.operation in (ANY, operation)


@dataclass
class _LostResponse(_Fault):
    pass


@dataclass
class _Refusal(_Fault):
    status: int
    body: bytes
    headers: dict[str, str]


class Hold:
    """Requests of one operation that wait at the proxy until they are released."""

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self.arrived = asyncio.Event()
        """Set when a request of the operation has arrived."""
        self._released = asyncio.Event()

    def release(self) -> None:
        """Forward the requests that wait, and all later ones at once."""
        self._released.set()

    async def wait(self, operation: str) -> None:
        """Hold a request of this operation until the release."""
        if self.operation in (ANY, operation) and not self._released.is_set():
            self.arrived.set()
            await self._released.wait()

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class FaultyProxy:
    """A running proxy. Faults are used in the order in which they were added, each for as many requests as given."""

    def __init__(self, server_url: str, session: aiohttp.ClientSession) -> None:
        self.requests: list[ProxiedRequest] = []
        """All requests, in the order of arrival. Each unpacks to its operation, variables and status."""
        self._server = server_url.removesuffix(urlsplit(server_url).path or "\0")
        self._path = urlsplit(server_url).path or "/graphql"
        self._session = session
        self._faults: list[_Fault] = []
        self._holds: list[Hold] = []
        self._arrival = asyncio.Condition()
        self._runner = web.AppRunner(self._application(), handler_cancellation=True, shutdown_timeout=0.1)
        self._site: web.TCPSite | None = None
        self._port = 0
        self._connections: set[asyncio.BaseTransport] = set()

    @property
    def url(self) -> str:
        """The URL to use instead of the server's."""
        return f"http://127.0.0.1:{self._port}{self._path}"

    def lose_responses(self, operation: str, times: int = 1) -> None:
        """Let the server execute the next requests, and cut the client's connection instead of responding."""
        self._faults.append(_LostResponse(operation, times))

    def refuse(
        self,
        operation: str,
        status: int = 503,
        times: int = 1,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Respond to the next requests with this status and JSON body, without the server."""
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        self._faults.append(_Refusal(operation, times, status, content, dict(headers or {})))

    def hold(self, operation: str) -> Hold:
        """Hold all requests of the operation until the returned hold is released, or its block ends."""
        self._holds.append(Hold(operation))
        return self._holds[-1]

    def stop_faults(self) -> None:
        """Remove the faults that are left, and release all holds."""
        self._faults.clear()
        for hold in self._holds:
            hold.release()
        self._holds.clear()

    async def connect(self) -> None:
        """Accept connections, at the same port as before."""
        if self._runner.server is None:
            await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await self._site.start()
        self._port = self._runner.addresses[-1][1]

    async def disconnect(self) -> None:
        """Refuse connections, and cut those that are open."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self.cut_connections()

    def cut_connections(self) -> None:
        """Cut all open connections. New ones are accepted."""
        assert self._runner.server is not None
        for connection in tuple(self._runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    def count(self, operation: str) -> int:
        """Return how many requests of the operation have arrived."""
        return sum(request.operation == operation for request in self.requests)

    async def next_request(self, operation: str = ANY) -> ProxiedRequest:
        """Wait for a request of the operation that arrives after this call, and return it."""
        start = len(self.requests)

        def find() -> ProxiedRequest | None:
            matching = (each for each in self.requests[start:] if operation in (ANY, each.operation))
            return next(matching, None)

        async with asyncio.timeout(TIMEOUT_SECONDS), self._arrival:
            return await self._arrival.wait_for(find)

    async def next_response(self, operation: str = ANY) -> ProxiedRequest:
        """Wait for a request that arrives after this call until its response was sent or lost, and return it."""
        request = await self.next_request(operation)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await request.ended.wait()
        return request

    async def close(self) -> None:
        self.stop_faults()
        if self._runner.server is not None:
            self.cut_connections()
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._serve)
        return application

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        operation, variables = _read_operation(body)
        arrived = ProxiedRequest(operation, variables, dict(request.headers))
        async with self._arrival:
            self.requests.append(arrived)
            self._arrival.notify_all()
        try:
            return await self._respond(request, body, arrived)
        finally:
            arrived.ended.set()

    async def _respond(self, request: web.Request, body: bytes, arrived: ProxiedRequest) -> web.StreamResponse:
        fault = self._take_fault(arrived.operation)
        if isinstance(fault, _Refusal):
            arrived.status = fault.status
            headers = {"content-type": "application/json"} | fault.headers
            return web.Response(status=fault.status, body=fault.body, headers=headers)
        for hold in tuple(self._holds):
            await hold.wait(arrived.operation)
        try:
            response = await self._forward(request, body)
        except aiohttp.ClientConnectionError:
            arrived.status = "unreachable"
            return _cut(request)
        if fault is not None:
            arrived.status = "lost"
            return _cut(request)
        arrived.status = response.status
        return response

    def _take_fault(self, operation: str) -> _Fault | None:
        for fault in self._faults:
            if fault.applies_to(operation):
                fault.times -= 1
                return fault
        return None

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        url = self._server + request.path_qs
        async with self._session.request(request.method, url, data=body, headers=headers) as response:
            kept = {name: value for name, value in response.headers.items() if name.lower() not in HOP_BY_HOP}
            return web.Response(status=response.status, body=await response.read(), headers=kept)


def _cut(request: web.Request) -> web.Response:
    """Cut the client's connection. The returned response is not sent."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def _read_operation(body: bytes) -> tuple[str, dict[str, Any]]:
    """Return the name of the operation and its variables; an empty name for requests that are not GraphQL."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", {}
    if not isinstance(request, dict):
        return "", {}
    found = OPERATION.search(request.get("query") or "")
    return request.get("operationName") or (found[1] if found else ""), request.get("variables") or {}


@asynccontextmanager
async def faulty_proxy(server_url: str) -> AsyncIterator[FaultyProxy]:
    """Run a proxy in front of the server at this URL for the duration of the block."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        proxy = FaultyProxy(server_url, session)
        await proxy.connect()
        try:
            yield proxy
        finally:
            await proxy.close()

"""Requests to the server: GraphQL over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson

from runyard_client.contract import document
from runyard_client.errors import NotAllowed, Refused, RequestTooLarge, ServerTooOld, ServerUnavailable
from runyard_client.transport.back_off import BackOff as BackOff  # noqa: PLC0414 - exported
from runyard_client.transport.responses import InvalidDocument, read_response
from runyard_client.transport.tokens import TokenSource as TokenSource  # noqa: PLC0414 - exported
from runyard_client.transport.url import endpoint_url

if TYPE_CHECKING:
    from aiohttp import ClientSession, ClientTimeout, TCPConnector

USER_AGENT = "runyard-client"
CONNECT_SECONDS = 10.0
IDLE_CONNECTION_SECONDS = 4.0
"""How long an unused connection is kept. Servers close theirs after 5 seconds; the client must be first."""
_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/graphql-response+json, application/json",
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Version and limits of the server. Sizes are in bytes."""

    version: str
    max_body_bytes: int
    max_response_bytes: int
    max_task_keys: int
    max_batch: int


class Transport:
    """Executes operations of `contract/documents` over HTTP, on the event loop of the first request.

    The first request reads the limits of the server. Requests are not repeated after a failure, except once with a
    new token. The environment is read at the first request.
    """

    def __init__(self, url: str, tokens: TokenSource, *, user_agent: str = USER_AGENT) -> None:
        """Prepare requests to the server at `url`. Raises ValueError when it is not an HTTP URL."""
        self.url = endpoint_url(url)
        self.limits: ServerLimits | None = None
        self._tokens = tokens
        self._headers = _HEADERS | {"User-Agent": user_agent}
        self._session: ClientSession | None = None
        self._proxy: str | None = None
        self._limits_task: asyncio.Task[ServerLimits] | None = None
        self._sends_ids = False

    async def execute(self, operation: str, variables: Mapping[str, Any], *, timeout: float = 30.0) -> Any:  # noqa: ASYNC109
        """Execute an operation and return the value of its only root field.

        Args:
            operation: name of a document, such as `ClaimTaskRuns`.
            variables: JSON values by the names of the variables; `orjson.Fragment` is accepted.
            timeout: time for the whole request in seconds. Add it to the `waitSeconds` of a long poll.

        Raises ServerUnavailable, NotAllowed, Refused, QueueFull, RequestTooLarge and ServerTooOld.
        """
        if self.limits is None:
            await self._read_limits(timeout)
        try:
            return await self._request(operation, variables, timeout)
        except InvalidDocument as error:
            raise self._too_old(str(error)) from error

    async def close(self) -> None:
        """Close all connections. A later request opens them again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def abandon(self) -> None:
        """Forget all connections without closing them, in a forked child process that shares them with its parent."""
        session, self._session = self._session, None
        if session is not None:
            session.detach()

    async def _read_limits(self, seconds: float) -> None:
        """Read the limits once, however many requests need them."""
        if self._limits_task is None:
            self._limits_task = asyncio.create_task(self._request_limits(min(seconds, CONNECT_SECONDS)))
            self._limits_task.add_done_callback(self._end_limits_request)
        try:
            # Shielded: others may wait for it too.
            self.limits = await asyncio.wait_for(asyncio.shield(self._limits_task), seconds)
        except TimeoutError as error:
            raise self._unavailable(error, seconds) from error

    def _end_limits_request(self, task: asyncio.Task[ServerLimits]) -> None:
        """Let the next request read the limits after a failure, whether or not a caller still waits for this one."""
        self._limits_task = None
        if not task.cancelled():
            task.exception()

    async def _request_limits(self, seconds: float) -> ServerLimits:
        try:
            info = await self._request("ServerInfo", {}, seconds)
        except NotAllowed as error:
            if error.code != "FORBIDDEN" or self._sends_ids:
                raise
            # Every token may read the server's version: the server may execute trusted documents only.
            self._sends_ids = True
            try:
                return await self._request_limits(seconds)
            except Refused:  # the server does not have the documents of this client
                self._sends_ids = False
                raise error from None
        except InvalidDocument as error:
            found = await self._request("ServerVersion", {}, seconds)
            raise ServerTooOld(str(error), str(found["version"])) from error
        limits = info["limits"]
        return ServerLimits(
            version=info["version"],
            max_body_bytes=limits["maxBodyBytes"],
            max_response_bytes=limits["maxResponseBytes"],
            max_task_keys=limits["maxTaskKeys"],
            max_batch=limits["maxBatch"],
        )

    def _too_old(self, needs: str) -> ServerTooOld:
        return ServerTooOld(needs, "unknown" if self.limits is None else self.limits.version)

    async def _request(self, operation: str, variables: Mapping[str, Any], seconds: float) -> Any:
        body = self._body(operation, variables)
        try:
            return await self._send(body, seconds)
        except NotAllowed as error:
            # The token may have been replaced in its file since it was read.
            if error.code != "UNAUTHENTICATED" or not self._tokens.reread():
                raise
            return await self._send(body, seconds)

    def _body(self, operation: str, variables: Mapping[str, Any]) -> bytes:
        head = _body_heads(operation)[self._sends_ids]
        body = b"%b%b}" % (head, orjson.dumps(variables))
        if self.limits is not None and len(body) > self.limits.max_body_bytes:
            raise RequestTooLarge(
                f"A request must not exceed {self.limits.max_body_bytes:,} bytes (RUNYARD_MAX_BODY_BYTES of the server);"
                f" got {len(body):,}.",
                code="413",
            )
        return body

    async def _send(self, body: bytes, seconds: float) -> Any:
        import aiohttp  # noqa: PLC0415 - takes long to import, and programs that send nothing do not need it

        token = self._tokens.current()
        try:
            async with self._open_session().post(
                self.url,
                data=body,
                headers=None if token is None else {"Authorization": f"Bearer {token}"},
                timeout=_timeout(seconds),
                # A redirect could lead to a server that must not receive the token.
                allow_redirects=False,
                proxy=self._proxy,
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unavailable(error, seconds) from error
        return read_response(response.status, response.headers, content, self.url)

    def _unavailable(self, error: Exception, seconds: float) -> ServerUnavailable:
        return ServerUnavailable(f"Cannot reach the server at {self.url}: {_reason(error, seconds)}.")

    def _open_session(self) -> ClientSession:
        if self._session is None or self._session.closed:
            import aiohttp  # noqa: PLC0415

            self._proxy = _proxy_for(self.url)
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                # Long polls occupy connections, so the number of connections is bounded by those who send requests.
                connector=_connector_class()(limit=0, keepalive_timeout=IDLE_CONNECTION_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session


@cache
def _body_heads(operation: str) -> tuple[bytes, bytes]:
    """Return the beginning of a request's body, up to the variables: with the document, and with its id."""
    text = document(operation)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return (
        b'{"query":%b,"variables":' % orjson.dumps(text),
        b'{"documentId":"sha256:%b","variables":' % digest.encode(),
    )


@cache
def _connector_class() -> type[TCPConnector]:
    import aiohttp  # noqa: PLC0415

    class Connector(aiohttp.TCPConnector):
        """A connector that closes nothing when it is destroyed: in a forked child, its connections are the parent's."""

        def __del__(self, *_: object) -> None:
            pass

    return Connector


@cache
def _timeout(seconds: float) -> ClientTimeout:
    import aiohttp  # noqa: PLC0415

    return aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, CONNECT_SECONDS))


def _proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for a URL (HTTP_PROXY, HTTPS_PROXY, NO_PROXY)."""
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - takes long to import

    scheme, _, rest = url.partition("://")
    return None if proxy_bypass(rest.partition("/")[0]) else getproxies().get(scheme)


def _reason(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no response within {seconds:g} seconds"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rstrip(".") or type(error).__name__

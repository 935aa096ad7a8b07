"""uvicorn with the configuration of Runyard and a graceful shutdown."""

import asyncio
import gc
import logging
import signal
import socket
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

from db.errors import DatabaseError
from runyard.http.responses import CHUNK_BYTES
from runyard.huge_pages import use_huge_pages
from runyard.request_memory import RequestMemory
from runyard.services import Services
from runyard.settings import Settings
from runyard.websocket.compat import count_unfinished_bytes

log = logging.getLogger("runyard.server")

UNREAD_DATA_TIMEOUT_SECONDS = 30.0
"""How long a client may leave sent data unread while the buffers between it and the server are full."""

GC_THRESHOLD = 10_000
"""Number of new objects that starts a garbage collection. A few requests reach Python's default of 700."""

CLOSE_PING_TIMEOUT = 1013, "The client did not respond to a ping"
CLOSE_OUT_OF_MEMORY = 1013, "Large requests of other clients use the memory for requests"

TICK_SECONDS = 1.0
"""Interval of uvicorn's housekeeping, which updates the `date` header."""


class Server(uvicorn.Server):
    """A server that ends its subscriptions and releases their runs before it exits, and sleeps while it is idle.

    uvicorn closes WebSockets while operations are in progress, and waits for event streams until its time limit. It
    also checks ten times a second whether to stop, which would be most of the work of an idle server.
    """

    owns_process = False
    """Whether this server is the only thing that its process runs."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_requested = asyncio.Event()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal arrives. The process must run nothing else."""
        self.owns_process = True
        super().run(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for asyncio_server in self.servers:
            for listening_socket in asyncio_server.sockets:
                _limit_unread_time(listening_socket)
        if self.owns_process:
            # Modules, the schema and statements live as long as the process; collections no longer scan frozen objects.
            gc.collect()
            gc.freeze()
            gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])
            use_huge_pages()

    async def main_loop(self) -> None:
        """Do housekeeping until shutdown is requested."""
        self._loop = asyncio.get_running_loop()
        # Always tick 0: uvicorn updates the `date` header only on every tenth tick.
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._stop_requested.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin a graceful shutdown. A second signal ends the process immediately; committed writes are durable."""
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        super().handle_exit(sig, frame)
        if self._loop is not None:
            # A signal can arrive while the loop sleeps; only a thread-safe call wakes it.
            self._loop.call_soon_threadsafe(self._stop_requested.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app: Starlette = self.config.app  # pyright: ignore[reportAssignmentType]
        services: Services | None = getattr(app.state, "services", None)
        grace_seconds = self.config.timeout_graceful_shutdown or 0
        started_at = time.monotonic()
        if services is not None:
            try:
                async with asyncio.timeout(grace_seconds):
                    await services.drain()
            except TimeoutError:
                log.warning("Subscriptions did not end within %d seconds; closing their connections.", grace_seconds)
        # Ending subscriptions and finishing requests share the time limit.
        self.config.timeout_graceful_shutdown = max(1, round(grace_seconds - (time.monotonic() - started_at)))
        await super().shutdown(sockets)


def _limit_unread_time(listening_socket: Any) -> None:
    """Make the system close connections whose clients leave sent data unread."""
    # Accepted connections inherit the options of the listening socket. Only Linux has this option.
    if hasattr(socket, "TCP_USER_TIMEOUT") and listening_socket.family in (socket.AF_INET, socket.AF_INET6):
        listening_socket.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(UNREAD_DATA_TIMEOUT_SECONDS * 1000)
        )


class Lifespan(LifespanOn):
    """Start and end of the application, without a traceback when the database cannot be used at the start."""

    async def send(self, message: Any) -> None:
        if message["type"] == "lifespan.startup.failed" and isinstance(error := sys.exc_info()[1], DatabaseError):
            message = {**message, "message": str(error)}
        await super().send(message)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket that counts large incoming messages in the memory budget, and waits until large ones are sent.

    It can be shut down in every closing state.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        application: Any = self.config.app
        self._memory = RequestMemory(application.state.request_budget)
        self._waiting_bytes = 0
        """Size of the messages that have arrived and that the application has not received."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not (self.close_sent or self.transport.is_closing() or self._hold_memory()):
            self.conn.fail(*CLOSE_OUT_OF_MEMORY)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.transport.close()

    def send_receive_event_to_app(self) -> None:
        self._waiting_bytes += sum(map(len, self.frames))
        super().send_receive_event_to_app()

    async def receive(self) -> Any:
        message = await super().receive()
        if self.queue.empty() and not self.disconnected:
            self._waiting_bytes = 0
            self._hold_memory()
        return message

    def connection_lost(self, exc: Exception | None) -> None:
        self._memory.release()
        super().connection_lost(exc)

    def _hold_memory(self) -> bool:
        return self._memory.hold(self._waiting_bytes + count_unfinished_bytes(self.conn))

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            # Otherwise uvicorn logs an error for each handshake that is rejected with a response.
            self.handshake_complete = True
        if len(message.get("text") or "") > CHUNK_BYTES:
            # A large response occupies the memory budget until it is sent.
            await self.writable.wait()

    def keepalive_timeout(self) -> None:
        """Close the connection with 1013 after an unanswered ping.

        uvicorn 0.54 uses 1011, after which graphql-ws does not reconnect. Only the first close frame is sent. Without
        this method, or if uvicorn no longer calls it, the code is 1011: tests/api/websocket/test_close_codes.py.
        """
        self.conn.fail(*CLOSE_PING_TIMEOUT)
        super().keepalive_timeout()

    def shutdown(self) -> None:
        try:
            super().shutdown()
        except InvalidState:
            # The client has sent a close frame but does not read, so unsent data keeps the connection open. uvicorn
            # cannot send a second close frame, and its exception would abort the shutdown of all other connections.
            self.transport.close()


def build_server(app: Starlette, settings: Settings) -> Server:
    """Build a server for the application. Start it with `run()`."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        ws=WebSocketProtocol,
        # Below the limit for bodies, the WebSocket endpoint refuses a message above the message limit.
        ws_max_size=max(settings.max_message_bytes, settings.max_body_bytes),
        ws_ping_interval=settings.ping_seconds,
        ws_ping_timeout=settings.ping_seconds,
        timeout_graceful_shutdown=settings.stop_seconds,
    )
    config.load()
    config.lifespan_class = Lifespan
    return Server(config)

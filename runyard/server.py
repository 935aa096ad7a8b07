"""uvicorn, told how we want it, and stopped in order."""

import asyncio
import gc
import logging
import signal
import socket
import time
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

from runyard.http.responses import PART_BYTES
from runyard.huge_pages import use_huge_pages
from runyard.services import Life
from runyard.settings import Settings

log = logging.getLogger("runyard.server")

UNREAD_SECONDS = 30.0
"""How long a client may read nothing of what it was sent, once the buffers between it and the server are full."""

YOUNG_OBJECTS = 10_000
"""How many objects may be new before Python looks for circles among them. Its 700 are a few requests' worth."""

TICK_SECONDS = 1.0
"""How often uvicorn's housekeeping is done, which is to tell the time in the header `date`."""


class Server(uvicorn.Server):
    """A server that ends its subscriptions by their protocol before it closes any socket, and sleeps while it has nothing
    to do.

    uvicorn alone closes sockets under the subscriptions; clients would see an error where the stream is simply over. And it
    looks ten times a second whether it is to stop, which would be most of what an idle server does.
    """

    has_process = False
    """Whether nothing but this server runs in its process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_told = asyncio.Event()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop, in a process of its own."""
        self.has_process = True
        super().run(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for each in self.servers:
            for listening in each.sockets:
                _give_up_who_does_not_read(listening)
        if self.has_process:
            # What is there by now stays: modules, the schema, statements. Nobody has to look through it for garbage again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
            use_huge_pages()

    async def main_loop(self) -> None:
        """Return once told to stop."""
        self._loop = asyncio.get_running_loop()
        # Counted by uvicorn as the first of its ten ticks, so each of them tells the time.
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._is_told.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop in order; told a second time, at once: what was answered is on disk anyway."""
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        super().handle_exit(sig, frame)
        if self._loop is not None:
            # Whatever it is doing when the signal comes.
            self._loop.call_soon_threadsafe(self._is_told.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app: Starlette = self.config.app  # pyright: ignore[reportAssignmentType]
        life: Life | None = getattr(app.state, "life", None)
        grace = self.config.timeout_graceful_shutdown or 0
        began_at = time.monotonic()
        if life is not None:
            try:
                async with asyncio.timeout(grace):
                    await life.drain()
            except TimeoutError:
                log.warning("Subscriptions have not ended within %d seconds; their connections are closed.", grace)
        # Ending subscriptions and answering requests share the time.
        self.config.timeout_graceful_shutdown = max(1, round(grace - (time.monotonic() - began_at)))
        await super().shutdown(sockets)


def _give_up_who_does_not_read(listening: Any) -> None:
    """Have the system end connections whose clients leave unread what they were sent."""
    # The connections of a listening socket begin with its options. Other systems than Linux have none for this.
    if hasattr(socket, "TCP_USER_TIMEOUT") and listening.family in (socket.AF_INET, socket.AF_INET6):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(UNREAD_SECONDS * 1000))


class Socket(WebSocketsSansIOProtocol):
    """A WebSocket that can be shut down however far it has been closed."""

    async def send(self, message: Any) -> None:
        await super().send(message)
        if len(message.get("text") or "") > PART_BYTES:
            # A large answer holds the room that it takes until it is sent.
            await self.writable.wait()

    def shutdown(self) -> None:
        try:
            super().shutdown()
        except InvalidState:
            # Its client has closed it and reads no more, so what it is still to get has kept it: uvicorn would say that it
            # closes, which can not be said twice, and leave everybody else without their answers.
            self.transport.close()


def build_server(app: Starlette, settings: Settings) -> Server:
    """A server for the application; `run()` it."""
    return Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            ws=Socket,
            ws_max_size=settings.max_message_bytes,
            ws_ping_interval=settings.ping_seconds,
            ws_ping_timeout=settings.ping_seconds,
            timeout_graceful_shutdown=settings.stop_seconds,
        )
    )

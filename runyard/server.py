"""uvicorn, told how we want it, and stopped in order."""

import asyncio
import gc
import logging
import signal
import socket
import time
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

from runyard.life import Life
from runyard.settings import Settings

log = logging.getLogger("runyard.server")

YOUNG_OBJECTS = 10_000
"""How many objects may be new before Python looks for circles among them. Its 700 are a few requests' worth."""


class Server(uvicorn.Server):
    """A server that ends its subscriptions by their protocol before it closes any socket.

    uvicorn alone closes sockets under the subscriptions; clients would see an error where the stream is simply over.
    """

    has_process = False
    """Whether nothing but this server runs in its process."""

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop, in a process of its own."""
        self.has_process = True
        super().run(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.has_process:
            # What is there by now stays: modules, the schema, statements. Nobody has to look through it for garbage again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop in order; told a second time, at once: what was answered is on disk anyway."""
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        super().handle_exit(sig, frame)

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


class Socket(WebSocketsSansIOProtocol):
    """A WebSocket that can be shut down however far it has been closed."""

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

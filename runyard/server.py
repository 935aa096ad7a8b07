"""uvicorn, told how we want it, and stopped in order."""

import socket

import uvicorn
from starlette.applications import Starlette

from runyard.life import Life
from runyard.settings import Settings

PING_SECONDS = 10.0
"""How often a WebSocket is asked whether its other end is there, and how long that may take to answer."""


class Server(uvicorn.Server):
    """A server that ends its subscriptions by their protocol before it closes any socket.

    uvicorn alone closes sockets under the subscriptions; clients would see an error where the stream is simply over.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app: Starlette = self.config.app  # pyright: ignore[reportAssignmentType]
        life: Life | None = getattr(app.state, "life", None)
        if life is not None:
            await life.drain()
        await super().shutdown(sockets)


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
            ws="websockets-sansio",
            ws_max_size=settings.max_message_bytes,
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=PING_SECONDS,
            timeout_graceful_shutdown=settings.stop_seconds,
        )
    )

"""A server for the replay: in this process, on a real port, and on the machine's clock, since traces let time pass."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path

from runyard.app import build_app
from runyard.server import Server, build_server
from tests.client import PATIENCE, Client
from tests.serving import settings_for


class _ServerInLoop(Server):
    """A server that leaves signals alone, says when it has started, and stops at once when it is told to."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.config)
        self.ready = asyncio.Event()
        self.stop_requested = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        await self.stop_requested.wait()

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


@asynccontextmanager
async def serving_now(new_database: Callable[[], str], starting: asyncio.Lock) -> AsyncIterator[Client]:
    """A client of a server on a new database.

    `starting` is held while it starts: a process can bring only one database at a time up to date.
    """
    url = await asyncio.to_thread(new_database)
    settings = settings_for(Path(), database_url=url)
    server = _ServerInLoop(build_server(build_app(settings), settings))
    async with starting:
        task = asyncio.create_task(server.serve())
        await asyncio.wait_for(server.ready.wait(), PATIENCE)
    client = Client(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    try:
        yield client
    finally:
        await client.http.aclose()
        server.stop_requested.set()
        await asyncio.wait_for(task, PATIENCE)

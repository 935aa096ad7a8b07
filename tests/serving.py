"""Servers under test: in this process with a clock that the test owns, or as a process of their own to be killed."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from starlette.applications import Starlette

from db.sqlite.database import SQLiteDatabase
from resolvers.delivery.lease_sweeper import LARGEST_SWEEP, sweep_leases
from runyard.app import build_app
from runyard.server import Server, build_server
from runyard.services import Life
from runyard.settings import Settings
from tests.client import PATIENCE, Client
from tests.clock import ManualClock

ON_SQLITE = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
"""For a test that looks into SQLite itself, or that is about what its single server does alone."""


class _ServerInLoop(Server):
    """A server that leaves the signals of the test's process alone, and says when it has started."""

    ready: asyncio.Event
    stop_requested: asyncio.Event

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        await self.stop_requested.wait()

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


@dataclass
class Serving:
    """A server in this process, on a real port."""

    client: Client
    clock: ManualClock
    app: Starlette
    server: _ServerInLoop
    task: "asyncio.Task[None]"

    @property
    def life(self) -> Life:
        return self.app.state.life

    async def sweep(self) -> None:
        """Return when every lease that has run out is ended, by this sweep or the server's own."""
        while await self.life.database.write(sweep_leases, LARGEST_SWEEP):
            continue

    @asynccontextmanager
    async def counting(self, tell: Callable[[int], None] = lambda _number: None) -> AsyncIterator[list[str]]:
        """The statements that are read with meanwhile; `tell` is told, on a reader's thread, the number of each."""
        database = self.life.database
        assert isinstance(database, SQLiteDatabase)
        statements: list[str] = []
        numbers = count(1)

        def note(text: str) -> None:
            if text.startswith(("SELECT", "WITH")):
                statements.append(text)
                tell(next(numbers))

        for reader in database._readers:
            await reader.set_trace_callback(note)
        yield statements
        for reader in database._readers:
            await reader.set_trace_callback(None)

    async def stop(self) -> None:
        """Stop in order, as SIGTERM does."""
        self.server.stop_requested.set()
        await asyncio.wait_for(self.task, PATIENCE)


def settings_for(path: Path, **changed: object) -> Settings:
    """Settings for a server on a free port; on a SQLite file in this folder, unless another database is named."""
    # Polls would be seen among what waits for the clock that the test owns.
    given = {"database_url": f"sqlite+aiosqlite:///{path}/runyard.db", "port": 0, "poll_seconds": 10**9} | changed
    return Settings(**given)  # type: ignore[arg-type]


@asynccontextmanager
async def serving(
    path: Path, clock: ManualClock | None = None, *, chance: float = 1.0, **changed: object
) -> AsyncIterator[Serving]:
    """A server with a clock that stands still; on the file in this folder, unless another database is named."""
    clock = clock or ManualClock()
    settings = settings_for(path, **changed)
    app = build_app(settings, clock, lambda: chance)
    server = _ServerInLoop(build_server(app, settings).config)
    server.ready, server.stop_requested = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(server.serve())
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    assert server.started, "the server did not start"
    port = server.servers[0].sockets[0].getsockname()[1]
    client = Client(f"http://127.0.0.1:{port}")
    served = Serving(client, clock, app, server, task)
    try:
        yield served
    finally:
        # First, since the server waits a while for connections that are open.
        await client.http.aclose()
        await served.stop()


class ServerProcess:
    """A server as a user starts it, with the machine's clock."""

    def __init__(self, database_url: str, port: int, **variables: str) -> None:
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")},
            "RUNYARD_DATABASE_URL": database_url,
            "RUNYARD_PORT": str(port),
            **variables,
        }
        self.process: asyncio.subprocess.Process | None = None
        self._clients: list[Client] = []

    async def start(self, **variables: str) -> Client:
        """Start it, with these variables set too, and wait until it is ready."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "runyard",
            "serve",
            env=self._environment | variables,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self.process.stderr is not None
        while line := await asyncio.wait_for(self.process.stderr.readline(), PATIENCE):
            if b"Uvicorn running" in line:
                self._errors = asyncio.create_task(self.process.stderr.read())
                self._clients.append(Client(self.url))
                return self._clients[-1]
        raise AssertionError("the server did not start")

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._errors

    async def close(self) -> None:
        """Leave nothing behind."""
        if self.process is not None:
            await self.kill()
        for client in self._clients:
            await client.http.aclose()

    async def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.begin_to_stop()
        return await self.exit_code()

    def begin_to_stop(self) -> None:
        """SIGTERM."""
        assert self.process is not None
        self.process.terminate()

    async def exit_code(self) -> int:
        """The exit code, when it has ended."""
        assert self.process is not None
        return await asyncio.wait_for(self.process.wait(), 3 * PATIENCE)

    async def errors(self) -> bytes:
        """What it has written to its log since it was ready, once it has ended."""
        return await self._errors

    async def closes(self) -> None:
        """Return when it takes no more connections."""
        host, port = self.address.split(":")
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    _, writer = await asyncio.open_connection(host, int(port))
                except (ConnectionRefusedError, ConnectionResetError):
                    # Reset is one that still stood in line when the line was closed.
                    return
                writer.close()

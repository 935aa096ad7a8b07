"""Servers under test: in the process of the test, with a manual clock, or in their own process."""

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
import uvicorn
from starlette.applications import Starlette

from db.sqlite.database import SQLiteDatabase
from resolvers.delivery.lease_sweeper import MAX_SWEEP_SIZE, sweep_leases
from runyard.app import build_app
from runyard.server import Server, build_server
from runyard.services import Services
from runyard.settings import Settings
from tests.client import TIMEOUT_SECONDS, Client
from tests.clock import ManualClock

SQLITE_ONLY = pytest.mark.database("sqlite")
"""Runs a test, or all tests of a module, on SQLite only: they inspect the SQLite file, or the database does not matter."""

POSTGRESQL_ONLY = pytest.mark.database("postgresql")
"""Runs a test, or all tests of a module, on PostgreSQL only: SQLite has no server process and a single writer."""


class _WithoutPause(uvicorn.Server):
    """uvicorn, except that it skips its pause for closing connections when none is open: most of a short test's time."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
        await self.lifespan.shutdown()


class ServerInLoop(Server, _WithoutPause):
    """A server that runs in the event loop of a test and leaves the signals of its process alone."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.config)
        self.ready = asyncio.Event()
        """Set when the server has started."""
        self.stop_requested = asyncio.Event()
        """Set it to stop the server."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        await self.stop_requested.wait()

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


@dataclass
class RunningServer:
    """A server in the process of the test, listening on a real port."""

    client: Client
    clock: ManualClock
    app: Starlette
    server: ServerInLoop
    task: "asyncio.Task[None]"

    @property
    def services(self) -> Services:
        return self.app.state.services

    async def sweep(self) -> None:
        """Sweep until no expired lease is left."""
        while await self.services.database.write(sweep_leases, MAX_SWEEP_SIZE):
            continue

    @asynccontextmanager
    async def record_reads(self, on_read: Callable[[int], None] = lambda _number: None) -> AsyncIterator[list[str]]:
        """Record the SELECT statements of the block. `on_read` is called with the number of each, on a reader's thread."""
        database = self.services.database
        assert isinstance(database, SQLiteDatabase)
        statements: list[str] = []
        numbers = count(1)

        def record(text: str) -> None:
            if text.startswith(("SELECT", "WITH")):
                statements.append(text)
                on_read(next(numbers))

        for reader in database._readers:
            await reader.set_trace_callback(record)
        yield statements
        for reader in database._readers:
            await reader.set_trace_callback(None)

    async def stop(self) -> None:
        """Shut down gracefully, as on SIGTERM."""
        self.server.stop_requested.set()
        await asyncio.wait_for(self.task, TIMEOUT_SECONDS)


def settings_for(path: Path, **changed: object) -> Settings:
    """Return settings for a server on a free port, by default with the SQLite file `runyard.db` in the folder `path`."""
    given = {
        "database_url": f"sqlite+aiosqlite:///{path}/runyard.db",
        "port": 0,
        # Polling would add waiters to the manual clock, which tests count.
        "poll_seconds": 10**9,
        # Otherwise a server whose manual clock is advanced would count as suspended.
        "heartbeat_seconds": 10**9,
    } | changed
    return Settings(**given)  # type: ignore[arg-type]


@asynccontextmanager
async def run_server(
    path: Path, clock: ManualClock | None = None, *, chance: float = 1.0, **changed: object
) -> AsyncIterator[RunningServer]:
    """Run a server with a manual clock, by default on the SQLite file `runyard.db` in the folder `path`."""
    clock = clock or ManualClock()
    settings = settings_for(path, **changed)
    app = build_app(settings, clock, lambda: chance)
    server = ServerInLoop(build_server(app, settings))
    task = asyncio.create_task(server.serve())
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    assert server.started, "the server did not start"
    port = server.servers[0].sockets[0].getsockname()[1]
    client = Client(f"http://127.0.0.1:{port}")
    running = RunningServer(client, clock, app, server, task)
    try:
        yield running
    finally:
        # Close the client first: the server waits for open connections.
        await client.http.aclose()
        await running.stop()


class ServerProcess:
    """A server in its own process, started with `runyard serve`, with the system clock."""

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
        self.start_log = b""
        """What the server logged until it was ready."""
        self._log: asyncio.Task[bytes] | None = None
        """What the server logs after it was ready; None before."""
        self._clients: list[Client] = []

    async def start(self, **variables: str) -> Client:
        """Start the server with these additional environment variables, wait until it is ready, and return a client."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "runyard",
            "serve",
            env=self._environment | variables,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self.process.stderr is not None
        self.start_log = b""
        while line := await asyncio.wait_for(self.process.stderr.readline(), TIMEOUT_SECONDS):
            self.start_log += line
            if b"Uvicorn running" in line:
                self._log = asyncio.create_task(self.process.stderr.read())
                self._clients.append(Client(self.url))
                return self._clients[-1]
        raise AssertionError("the server did not start")

    async def kill(self) -> None:
        """Send SIGKILL and wait for the process to exit."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        if self._log is not None:
            await self._log

    async def close(self) -> None:
        """Kill the process and close all clients."""
        if self.process is not None:
            await self.kill()
        for client in self._clients:
            await client.http.aclose()

    async def terminate(self) -> int:
        """Send SIGTERM, wait for the process to exit and return its exit code."""
        self.request_stop()
        return await self.wait_for_exit()

    def request_stop(self) -> None:
        """Send SIGTERM."""
        assert self.process is not None
        self.process.terminate()

    async def wait_for_exit(self) -> int:
        """Wait for the process to exit and return its exit code."""
        assert self.process is not None
        return await asyncio.wait_for(self.process.wait(), 3 * TIMEOUT_SECONDS)

    async def read_log(self) -> bytes:
        """Wait for the process to exit and return what it logged after it was ready."""
        assert self._log is not None
        return await self._log

    async def wait_until_closed(self) -> None:
        """Wait until the server refuses connections."""
        host, port = self.address.split(":")
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                try:
                    _, writer = await asyncio.open_connection(host, int(port))
                except (ConnectionRefusedError, ConnectionResetError):
                    # A connection that was in the backlog when the socket closed is reset.
                    return
                writer.close()

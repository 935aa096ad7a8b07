"""The processes of a chaos test: servers and workers."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.chaos.clocks import SteppedClock

SERVER_SETTINGS = {
    "RUNYARD_ACKNOWLEDGE_SECONDS": "3",
    "RUNYARD_SWEEP_SECONDS": "0.5",
    "RUNYARD_POLL_SECONDS": "0.5",
    "RUNYARD_HEARTBEAT_SECONDS": "1",
    "RUNYARD_KEEP_ALIVE_SECONDS": "2",
    "RUNYARD_DATABASE_TIMEOUT_SECONDS": "5",
    "RUNYARD_STOP_SECONDS": "3",
}
"""Short intervals, for fast detection of faults."""

START_SECONDS = 120.0
"""Time limit for the start of a server, restarts while the database is unavailable included."""

_ERROR = re.compile(r'"level":"(error|critical)"|^(Traceback|Fatal)')
_EXPECTED_ERROR = re.compile(
    r'"message":"(Cancel \d+ running task\(s\), timeout graceful shutdown exceeded"'
    r"|The database could not be used: |Application startup failed\. Exiting\.)"
)
"""What a stopping server logs when it cancels requests after RUNYARD_STOP_SECONDS, and one that starts without database."""


class ChaosServer:
    """A server process that can be killed, stopped, suspended and restarted, with a wall clock that can be stepped."""

    def __init__(self, name: str, database: Mapping[str, str], folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self.clock = SteppedClock(folder / f"{name}.clock")
        self.busy = asyncio.Lock()
        """Held by the fault that currently affects the server."""
        self._log = folder / f"{name}.log"
        variables = {"RUNYARD_PORT": str(port), **SERVER_SETTINGS, **database, **self.clock.variables}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
        self._environment = inherited | variables
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the server and wait until it is ready. Restart it if it exits because the database is unavailable.

        Raises TimeoutError after START_SECONDS: the log of the server says why it does not start.
        """
        async with asyncio.timeout(START_SECONDS), httpx.AsyncClient() as http:
            while True:
                if self._process is None or self._process.returncode is not None:
                    self._remove_shared_memory()
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

    def send(self, number: signal.Signals) -> None:
        """Send the signal, if the server runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def _remove_shared_memory(self) -> None:
        if self._process is not None:
            self.clock.remove_shared_memory(self._process.pid)

    def faults(self) -> list[str]:
        """Return the errors in the log, and what the interpreter printed about a crash."""
        lines = self._log.read_text().splitlines()
        return [line for line in lines if _ERROR.search(line) and not _EXPECTED_ERROR.search(line)]


class WorkerProcess:
    """A worker process that can be killed, paused and disconnected. A killed worker is replaced."""

    def __init__(self, number: int, kind: str, seed: int, lease_seconds: float, urls: list[str], folder: Path) -> None:
        self.busy = asyncio.Lock()
        self.journals: list[Path] = []
        self._number = number
        self._kind = kind
        self._seed = seed
        self._lease_seconds = lease_seconds
        self._urls = urls
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def name(self) -> str:
        """Name of the current process, as its deliveries show it."""
        return self.journals[-1].stem

    async def start(self) -> None:
        name = f"worker-{self._number}-{len(self.journals)}"
        self.journals.append(self._folder / f"{name}.jsonl")
        self.journals[-1].touch()
        seed = self._seed + len(self.journals)
        arguments = [name, self._kind, seed, self._lease_seconds, self.journals[-1], *self._urls]
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
            if isinstance(each, ChaosServer):
                each._remove_shared_memory()

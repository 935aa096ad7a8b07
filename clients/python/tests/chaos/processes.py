"""The worker and enqueuing processes of a chaos test."""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import psutil

from chaos.plan import Options

TESTS = Path(__file__).resolve().parents[1]
CLIENT = TESTS.parent

START_WORKER = "import sys; from runyard_client.worker.cli import main; sys.exit(main())"

WORKER_SETTINGS = {
    "RUNYARD_WORKER_CLAIM_WAIT_SECONDS": "5",
    "RUNYARD_WORKER_MAX_BACK_OFF_SECONDS": "1",
    "RUNYARD_WORKER_HEALTHY_SECONDS": "2",
    "RUNYARD_WORKER_REQUEST_SECONDS": "5",
    "RUNYARD_WORKER_STOP_SECONDS": "1",
    "RUNYARD_WORKER_KILL_AFTER_SECONDS": "1",
    "RUNYARD_WORKER_CANCEL_REPEAT_SECONDS": "1",
}
"""Short times: a worker notices faults early."""

EXIT_SECONDS = 30.0
"""Time limit for the exit of a worker that drains."""


class ManagedProcess:
    """A process that faults kill and that is then started again. Its outputs go to files, one for each start."""

    def __init__(self, name: str, folder: Path, variables: dict[str, str]) -> None:
        self.busy = asyncio.Lock()
        """Held by the fault that currently affects the process."""
        self.unexpected_exits: list[str] = []
        self._prefix = name
        self._folder = folder
        self._starts = 0
        self._watch: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        path = os.pathsep.join(map(str, (CLIENT, TESTS)))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
        self._environment = {**inherited, "PYTHONPATH": path, **variables}

    @property
    def name(self) -> str:
        """Name of the current process: that of a start, not of the place that it has in the test."""
        return f"{self._prefix}-{self._starts}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def spawn(self, *arguments: str, **variables: str) -> None:
        self._starts += 1
        with (self._folder / f"{self.name}.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                env={**self._environment, **variables},
                stdout=log,
                stderr=log,
            )
        self._watch = asyncio.create_task(self._note_exit(self._process, self.name))

    async def _note_exit(self, process: asyncio.subprocess.Process, name: str) -> None:
        code = await process.wait()
        if not self._may_exit(code):
            self.unexpected_exits.append(f"{name} exited with {code}: see {self._folder / name}.log")

    def _may_exit(self, code: int) -> bool:
        raise NotImplementedError

    async def kill(self) -> None:
        """Kill the process and wait for its end, if it runs."""
        self._stop_watching()
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                # Not Process.kill: it may collect the exit code, which the event loop then waits for in vain.
                os.kill(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()


class WorkerProcess(ManagedProcess):
    """A `runyard-worker`. All processes of one start have its name in CHAOS_WORKER."""

    def __init__(
        self,
        number: int,
        url: str,
        server: str,
        ledger: Path,
        options: Options,
        folder: Path,
    ) -> None:
        variables = {
            "RUNYARD_URL": url,
            "CHAOS_LEDGER": str(ledger),
            "CHAOS_LEASE_SECONDS": str(options.lease_seconds),
            "CHAOS_TIMEOUT_SECONDS": str(options.timeout_seconds),
            **WORKER_SETTINGS,
        }
        super().__init__(f"worker-{number}", folder, variables)
        self.server = server
        self._options = options
        self._processes = options.processes_of(number)
        self.names: list[str] = []
        """Of all starts."""

    async def start(self) -> None:
        options = {
            "--concurrency": self._options.concurrency,
            "--processes": self._processes,
            "--cpu-processes": 2,
            "--drain-seconds": self._options.drain_seconds,
        }
        flags = [str(part) for pair in options.items() for part in pair]
        self.names.append(f"{self._prefix}-{self._starts + 1}")
        name = self.names[-1]
        await self.spawn(
            "-c",
            START_WORKER,
            "chaos.tasks:runyard",
            "--name",
            name,
            *flags,
            CHAOS_WORKER=name,
        )

    def _may_exit(self, code: int) -> bool:
        return False

    def tree(self) -> list[psutil.Process]:
        """Return the processes of the worker, the parent first."""
        try:
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def send(self, number: signal.Signals, *, to_children: bool) -> None:
        """Send a signal to the parent, and to its children if asked."""
        for process in self.tree() if to_children else self.tree()[:1]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    async def kill_with_children(self) -> None:
        self._stop_watching()
        self.send(signal.SIGKILL, to_children=True)
        await self.kill()

    async def drain(self) -> tuple[int | None, float]:
        """Send SIGTERM and wait for the exit. Return the exit code and the time of the exit.

        The code is None if the worker did not exit within EXIT_SECONDS; it is killed then.
        """
        assert self._process is not None
        self._stop_watching()
        self.send(signal.SIGTERM, to_children=False)
        try:
            async with asyncio.timeout(EXIT_SECONDS):
                code: int | None = await self._process.wait()
        except TimeoutError:
            code = None
            await self.kill_with_children()
        return code, time.time()


class EnqueuerProcess(ManagedProcess):
    """A program that enqueues its share of the runs and exits when all of them have ended."""

    def __init__(self, number: int, url: str, options: Options, started_at: float, folder: Path) -> None:
        super().__init__(f"enqueuer-{number}", folder, {"RUNYARD_URL": url})
        self.journal = folder / f"enqueuer-{number}.jsonl"
        self._arguments = [
            str(number),
            str(started_at),
            str(self.journal),
            json.dumps(asdict(options)),
        ]

    async def start(self) -> None:
        await self.spawn("-m", "chaos.enqueuer", *self._arguments)

    def _may_exit(self, code: int) -> bool:
        return code == 0

    async def finish(self, deadline: float) -> bool:
        """Wait until all runs have ended, at most until `deadline` of the monotonic clock. Return whether they have."""
        assert self._process is not None
        try:
            async with asyncio.timeout(max(0.1, deadline - time.monotonic())):
                return await self._process.wait() == 0
        except TimeoutError:
            await self.kill()
            return False


def processes_of_workers(ledger: Path) -> list[str]:
    """Return the running processes of all workers that write to this ledger."""
    found: list[str] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            variables = process.environ()
            if variables.get("CHAOS_LEDGER") == str(ledger) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"process {process.pid} of {variables['CHAOS_WORKER']}: {' '.join(process.cmdline())}")
    return found

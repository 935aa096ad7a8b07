"""Processes of the command `runyard-worker`, for tests."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.02
LEASE = "query ($id: ID!) { taskRun(id: $id) { queueEntry { leaseExpiresAt } } }"
TESTS = Path(__file__).parent
APP = "worker_app:runyard"


class WorkerProcess:
    """A running command. Its log is in `log_path`."""

    def __init__(self, url: str, folder: Path, suffix: str, *options: str, app: str = APP, **environment: str) -> None:
        self.folder, self.log_path = folder, folder / f"worker-{os.urandom(4).hex()}.log"
        command = [sys.executable, "-m", "runyard_client.worker.cli", app, "--url", url, *options]
        variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")},
            "PYTHONPATH": f"{TESTS}:{TESTS.parent}",
            "WORKER_TEST_KEY": suffix,
            "WORKER_TEST_FOLDER": str(folder),
            "RUNYARD_WORKER_MAX_BACK_OFF_SECONDS": "0.5",
            "RUNYARD_WORKER_LOG_FORMAT": "console",
            **environment,
        }
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stderr=log, stdout=log)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def pid(self) -> int:
        return self.process.pid

    def children(self) -> list[int]:
        """Return the ids of the child processes."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def exit_code(self) -> int:
        return await asyncio.to_thread(self.process.wait, TIMEOUT_SECONDS)

    async def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.send_signal(signal.SIGTERM)
        return await self.exit_code()

    async def wait_logged(self, text: str) -> None:
        """Wait until the log contains a text."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while text not in self.log:
                if self.process.poll() is not None and text not in self.log:
                    raise AssertionError(f"The worker has ended without logging {text!r}. Its log:\n{self.log}")
                await asyncio.sleep(POLL_SECONDS)

    def executions(self, run_id: str) -> int:
        """Return how often a run has begun."""
        path = self.folder / run_id
        return len(path.read_text().splitlines()) if path.exists() else 0

    async def wait_executions(self, run_id: str, count: int = 1) -> None:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while self.executions(run_id) < count:  # noqa: ASYNC110 - another process writes the file
                await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def worker_process(
    url: str, folder: Path, suffix: str, *options: str, app: str = APP, **environment: str
) -> AsyncIterator[WorkerProcess]:
    """Run `runyard-worker` for the duration of the block, and kill it at the end."""
    worker = WorkerProcess(url, folder, suffix, *options, app=app, **environment)
    try:
        yield worker
    finally:
        worker.process.kill()
        worker.process.wait()


async def execute(url: str, query: str, **variables: Any) -> Any:
    body = {"query": query, "variables": variables}
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        payload = await response.json(content_type=None)
    assert "errors" not in payload, payload
    return payload["data"]


async def lease_end(url: str, run_id: str) -> str | None:
    entry = (await execute(url, LEASE, id=run_id))["taskRun"]["queueEntry"]
    return None if entry is None else entry["leaseExpiresAt"]


async def wait_renewed(url: str, run_id: str, times: int = 1) -> None:
    """Wait until the lease of a run was renewed some times from now on."""
    last = await lease_end(url, run_id)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while times:
            await asyncio.sleep(POLL_SECONDS)
            now = await lease_end(url, run_id)
            assert now is not None, "The run has ended, or its lease is lost."
            if now != last:
                times, last = times - 1, now

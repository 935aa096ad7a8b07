"""Fixtures that run the workers in `examples/` as processes."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import pytest

from runyard.cli import tokens as token_commands
from tests.builders.api_runs import create_task_runs, read_state_names
from tests.builders.tokens import token_input
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import ServerProcess, settings_for

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@dataclass
class Worker:
    """A running worker process."""

    process: asyncio.subprocess.Process
    lines: list[list[str]] = field(default_factory=list[list[str]])
    """Lines of its output that were read, split into words."""

    async def read_lines_with(self, word: str, count: int) -> list[list[str]]:
        """Read until `count` lines contain `word` and return these lines, split into words."""
        assert self.process.stdout is not None
        found: list[list[str]] = []
        while len(found) < count:
            line = await asyncio.wait_for(self.process.stdout.readline(), 3 * TIMEOUT_SECONDS)
            assert line, "the worker has exited"
            self.lines.append(line.decode().split())
            if word in self.lines[-1]:
                found.append(self.lines[-1])
        return found

    async def terminate(self) -> int:
        """Send SIGTERM, wait for the process to exit, read the rest of its output and return its exit code."""
        self.process.terminate()
        output, _ = await asyncio.wait_for(self.process.communicate(), TIMEOUT_SECONDS)
        self.lines += [line.split() for line in output.decode().splitlines()]
        assert self.process.returncode is not None
        return self.process.returncode

    def max_concurrency(self) -> int:
        """Return how many runs were executing at the same time at most, by the lines that were read."""
        changes = (("RUNNING" in line) - ("COMPLETED" in line) for line in self.lines)
        return max(accumulate(changes))

    def count_lines_with(self, word: str) -> int:
        """Return how many of the lines that were read contain `word`."""
        return sum(word in line for line in self.lines)


@pytest.fixture(scope="session")
def node_worker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of the JavaScript worker, with its packages installed."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("npm with Node 20 is not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < 20:
        pytest.skip(f"Node {version.strip()} is older than 20")
    folder = tmp_path_factory.mktemp("node")
    for file in ("package.json", "package-lock.json", "worker.mjs"):
        shutil.copy(EXAMPLES / "node" / file, folder)
    subprocess.run(["npm", "ci", "--silent"], cwd=folder, check=True, timeout=120)
    return folder / "worker.mjs"


@pytest.fixture(params=["python-sqlite", "python-postgresql", "node-sqlite"])
def pairing(request: pytest.FixtureRequest) -> Sequence[str]:
    """A worker and a database. A test that uses the fixtures below runs once with each pair."""
    return request.param.split("-")


@pytest.fixture
def database_kind(pairing: Sequence[str]) -> str:
    return pairing[1]


@pytest.fixture
async def server_with_tokens(server_process: ServerProcess, database_url: str) -> tuple[Client, str]:
    """A client with a write token at a server that requires tokens, and a token for workers."""
    settings = settings_for(Path(), database_url=database_url)
    tokens = [await asyncio.to_thread(token_commands.create, settings, token_input(each)) for each in ("write", "work")]
    client = await server_process.start(RUNYARD_ACCESS="tokens")
    client.http.headers["Authorization"] = f"Bearer {tokens[0].text}"
    return client, tokens[1].text


@pytest.fixture
def command(pairing: Sequence[str], request: pytest.FixtureRequest) -> Sequence[str | Path]:
    """The command that starts the worker."""
    if pairing[0] == "python":
        return [sys.executable, EXAMPLES / "python" / "worker.py"]
    return ["node", request.getfixturevalue("node_worker")]


@asynccontextmanager
async def run_worker(command: Sequence[str | Path], server: ServerProcess, **variables: str) -> AsyncGenerator[Worker]:
    """Run a worker against the server and kill it at the end if it is still running."""
    environment = {**os.environ, "RUNYARD_URL": f"{server.url}/graphql", **variables}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environment)
    try:
        yield Worker(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def create_runs(client: Client, count: int, **parameters: object) -> list[str]:
    """Create runs for the workers, each with three retries, and return their ids."""
    fields = {"taskKey": "send-mail", "parameters": parameters, "retryPolicy": {"retries": 3}}
    return await create_task_runs(client, count, "SCHEDULED", **fields)


async def state_histories(client: Client, ids: Sequence[str]) -> list[list[str]]:
    """Return the state names of each run, in order."""
    return [await read_state_names(client, id) for id in ids]


def without_requeued_starts(history: Sequence[str]) -> list[str]:
    """Return these state names without the starts that no worker has confirmed."""
    is_requeued = [
        name == "Running" and "AwaitingRedelivery" in history[i + 1 : i + 2] for i, name in enumerate(history)
    ]
    return [
        name
        for name, requeued in zip(history, is_requeued, strict=True)
        if name != "AwaitingRedelivery" and not requeued
    ]

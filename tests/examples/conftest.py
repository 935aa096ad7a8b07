"""The workers of examples/, as processes that a test starts, reads the lines of, and tells to stop."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from runyard.cli import tokens as tokens_of_server
from tests.builders.tokens import wanted
from tests.client import PATIENCE, Client
from tests.serving import ServerProcess, settings_for

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@dataclass
class Worker:
    """A worker that is running."""

    process: asyncio.subprocess.Process

    async def lines_with(self, word: str, count: int) -> list[list[str]]:
        """The next `count` lines that have `word` in them, as words."""
        assert self.process.stdout is not None
        found: list[list[str]] = []
        while len(found) < count:
            line = await asyncio.wait_for(self.process.stdout.readline(), 3 * PATIENCE)
            assert line, "the worker has ended"
            if word in (words := line.decode().split()):
                found.append(words)
        return found

    async def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        await asyncio.wait_for(self.process.communicate(), PATIENCE)
        assert self.process.returncode is not None
        return self.process.returncode


@pytest.fixture(scope="session")
def node_worker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The worker in JavaScript, with its packages beside it."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("npm with Node 20 is not on this machine")
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
    """A worker and a database: a test that uses the fixtures below is run with each."""
    return request.param.split("-")


@pytest.fixture
def database_kind(pairing: Sequence[str]) -> str:
    return pairing[1]


@pytest.fixture
async def guarded_server(server_process: ServerProcess, database_url: str) -> tuple[Client, str]:
    """A client that may write, at a server that lets in holders of tokens alone, and a token for workers."""
    settings = settings_for(Path(), database_url=database_url)
    tokens = [await asyncio.to_thread(tokens_of_server.create, settings, wanted(each)) for each in ("write", "work")]
    client = await server_process.start(RUNYARD_ACCESS="tokens")
    client.http.headers["Authorization"] = f"Bearer {tokens[0].text}"
    return client, tokens[1].text


@pytest.fixture
def command(pairing: Sequence[str], request: pytest.FixtureRequest) -> Sequence[str | Path]:
    """What starts the worker."""
    if pairing[0] == "python":
        return [sys.executable, EXAMPLES / "python" / "worker.py"]
    return ["node", request.getfixturevalue("node_worker")]


@asynccontextmanager
async def working(command: Sequence[str | Path], server: ServerProcess, **variables: str) -> AsyncIterator[Worker]:
    """A worker at the server, which is killed at the end if it still is there."""
    environment = {**os.environ, "RUNYARD_URL": f"{server.url}/graphql", **variables}
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    try:
        yield Worker(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def create(client: Client, count: int, **parameters: object) -> list[str]:
    """The ids of new runs for the workers, each with three retries."""
    input = {
        "taskKey": "send-mail",
        "parameters": parameters,
        "empiricalPolicy": {"retries": 3},
        "state": {"type": "SCHEDULED"},
    }
    payloads = await client.ask("CreateTaskRuns", inputs=[input] * count)
    return [payload["taskRun"]["id"] for payload in payloads]


async def histories(client: Client, ids: Sequence[str]) -> list[list[str]]:
    """The names of the states that each run has had."""
    return [[state["name"] for state in (await client.ask("GetTaskRun", id=id))["states"]] for id in ids]

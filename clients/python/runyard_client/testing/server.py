"""A Runyard server in its own process, for tests. Requires the extra `testing`, which installs the server."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from runyard_client.testing.server_log import ServerLog

if TYPE_CHECKING:
    from runyard_client.app import Runyard
    from runyard_client.worker import Worker

START_SECONDS = 60.0
"""Maximum time until a server that was started accepts connections."""

STOP_SECONDS = 60.0
"""Maximum time until a server that was asked to stop has exited."""

REQUEST_SECONDS = 30.0
"""Maximum time for the response to a request of the server's own methods."""

DELETE_RUNS = "mutation DeleteAll { deleteTaskRuns(filter: {id: {isNull: false}}) { hasMore } }"


class ServerNotStarted(Exception):
    """The server exited, or did not accept connections in time. The message ends with its log."""


class RunyardServer:
    """A server on 127.0.0.1 that a test can stop, kill, suspend and start again, always at the same `url`.

    The methods block until the server has started or exited. In a coroutine, call them with `asyncio.to_thread` if other
    tasks of the event loop must continue meanwhile.
    """

    def __init__(self, folder: Path, database_url: str | None = None, **environment: str) -> None:
        """Prepare a server. `start()` starts it.

        `folder` is the server's working directory. By default it contains the SQLite database. `environment` are
        environment variables of the server; the `RUNYARD_…` variables of this process are not passed on.
        """
        self._folder = folder
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")},
            "RUNYARD_DATABASE_URL": database_url or f"sqlite+aiosqlite:///{folder.absolute()}/runyard.db",
            **environment,
        }
        self._url: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log: ServerLog | None = None

    @property
    def url(self) -> str:
        """The URL of the GraphQL endpoint. It is known when the server has started once."""
        if self._url is None:
            raise RuntimeError("The server has no URL before it has started. Call start() first.")
        return f"{self._url}/graphql"

    @property
    def log(self) -> str:
        """What the server has logged since its last start."""
        return "" if self._log is None else self._log.text

    @property
    def pid(self) -> int:
        """The id of the server's process."""
        return self._running_process().pid

    @property
    def is_running(self) -> bool:
        """Whether the process runs. A suspended process does."""
        return self._process is not None and self._process.poll() is None

    def start(self, **environment: str) -> None:
        """Start the server and wait until it accepts connections.

        `environment` are variables of this start alone. Raises `ServerNotStarted`.
        """
        if self.is_running:
            raise RuntimeError("The server is running.")
        port = 0 if self._url is None else urlsplit(self._url).port
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, without a shell
            [sys.executable, "-m", "runyard", "serve", "--host", "127.0.0.1", "--port", str(port)],
            env=self._environment | environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert self._process.stderr is not None
        self._log = ServerLog(self._process.stderr)
        url = self._log.wait_for_url(START_SECONDS)
        if url is None:
            self.kill()
            raise ServerNotStarted(f"The server did not start. Its log:\n{self.log}")
        self._url = url

    def stop(self) -> int:
        """Stop the server as SIGTERM does, wait until it has exited, and return its exit code."""
        process = self._running_process()
        process.terminate()
        return self._wait(process)

    def kill(self) -> None:
        """Kill the server's process with SIGKILL and wait until it has exited. Does nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._wait(self._process)

    def restart(self, **environment: str) -> None:
        """Stop the server gracefully and start it again with these additional environment variables."""
        self.stop()
        self.start(**environment)

    def pause(self) -> None:
        """Suspend the server's process: connections stay open, and nothing responds. Not available on Windows."""
        self._running_process().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the suspended process."""
        self._running_process().send_signal(signal.SIGCONT)

    def reset(self) -> None:
        """Delete all task runs. Start the server if it does not run, and continue it if it is suspended."""
        if not self.is_running:
            self.start()
        self.resume()
        while _post(self.url, DELETE_RUNS)["deleteTaskRuns"]["hasMore"]:
            pass

    @asynccontextmanager
    async def worker(self, app: "Runyard", **settings: Any) -> "AsyncGenerator[Worker]":
        """Execute the app's runs in this process for the duration of the block.

        `settings` are those of `runyard_client.worker.Worker`. The app must use this server's URL; the fixture
        `runyard_server` sets `RUNYARD_URL` for this.
        """
        async with worker_of(app, self.url, **settings) as worker:
            yield worker

    def _running_process(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError("The server is not running.")
        return self._process

    def _wait(self, process: "subprocess.Popen[bytes]") -> int:
        code = process.wait(STOP_SECONDS)
        assert self._log is not None
        self._log.wait_for_end(STOP_SECONDS)
        return code


class ExternalServer:
    """A server that runs already. Tests cannot stop it, and must not rely on an empty database."""

    def __init__(self, url: str) -> None:
        self.url = url

    @asynccontextmanager
    async def worker(self, app: "Runyard", **settings: Any) -> "AsyncGenerator[Worker]":
        """Execute the app's runs in this process for the duration of the block, as `RunyardServer.worker` does."""
        async with worker_of(app, self.url, **settings) as worker:
            yield worker


@asynccontextmanager
async def worker_of(app: "Runyard", url: str, **settings: Any) -> "AsyncGenerator[Worker]":
    """Run a worker of the app at the server with this URL for the duration of the block."""
    # The worker's modules are not imported by tests that only enqueue.
    from runyard_client.worker import Worker  # noqa: PLC0415

    if app.url != url:
        raise ValueError(f"The app uses the server at {app.url}, not the one under test at {url}.")
    async with Worker(app, **settings) as worker:
        yield worker


@contextmanager
def start_server(folder: Path, database_url: str | None = None, **environment: str) -> Generator[RunyardServer]:
    """Run a server for the duration of the block, and kill it at the end.

    The arguments are those of `RunyardServer`.
    """
    server = RunyardServer(folder, database_url, **environment)
    server.start()
    try:
        yield server
    finally:
        # SIGKILL ends a suspended process too.
        server.kill()


def _post(url: str, document: str) -> Any:
    """Execute a document without variables, and return its data."""
    body = json.dumps({"query": document}).encode()
    request = Request(url, body, {"content-type": "application/json"})  # noqa: S310 - the URL of this server
    with urlopen(request, timeout=REQUEST_SECONDS) as response:  # noqa: S310
        return json.load(response)["data"]

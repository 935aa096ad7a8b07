"""A server process to attack, and checks of its responses."""

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import orjson
import psutil
from websockets.sync.client import ClientConnection, connect

from queries import document

TIMEOUT_SECONDS = 30.0
IDLE_SECONDS = 3.0
"""Seconds after which an idle connection is replaced: the server closes it after five."""

REQUEST_SECONDS = 10.0
"""Time limit of operations on the server. Some claims request a longer wait."""

ALLOWED_CODES = {"BAD_USER_INPUT", "NOT_FOUND", "CONFLICT", "QUEUE_FULL", "QUERY_TOO_COMPLEX"}
"""Error codes that a client may receive, whatever it sends."""

INVALID_HTTP_MESSAGE = "Invalid HTTP request received."
"""The log message for a client that does not send HTTP; expected in these tests."""


class TargetServer:
    """A server process whose log holds warnings and errors."""

    def __init__(self, process: psutil.Popen, port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.outcomes: Counter[str] = Counter()
        """The number of responses with `data` and with each error code."""
        self.slowest = 0.0, ""
        """The duration of the slowest operation in seconds, and its document."""
        self._log = log
        self._log_offset = 0
        self._last_used_at = 0.0
        self._connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)

    def execute(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """Execute an operation and return its response. Raises AssertionError if the response is invalid."""
        started_at = time.monotonic()
        status, body = self.post({"query": query, "variables": variables})
        self.slowest = max(self.slowest, (time.monotonic() - started_at, query))
        assert status == 200, (status, body)
        self.outcomes.update(check_response(orjson.loads(body), "claimTaskRuns" in query))
        return orjson.loads(body)

    def post(self, body: object) -> tuple[int, bytes]:
        """Post a JSON value and return the status and body of the response."""
        headers = {"content-type": "application/json"}
        return self.request("POST", "/graphql", encode_json(body), headers)

    def request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        """Send a request and return the status and body of the response."""
        if time.monotonic() - self._last_used_at > IDLE_SECONDS:
            self._connection.close()
        self._last_used_at = time.monotonic()
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except BaseException:
            self._connection.close()
            raise

    def connect(self) -> socket.socket:
        """Open a TCP connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_SECONDS)

    def web_socket(self) -> ClientConnection:
        """Open a WebSocket without initialising the protocol."""
        address = f"ws://127.0.0.1:{self.port}/graphql"
        return connect(address, subprotocols=["graphql-transport-ws"], proxy=None, compression=None)  # type: ignore[list-item]

    def cpu_seconds(self) -> float:
        """Return the CPU time used so far. Unlike elapsed time, it does not depend on other processes."""
        times = self.process.cpu_times()
        return times.user + times.system

    def memory_mib(self) -> float:
        return self.process.memory_info().rss / 2**20

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Poll until the condition holds, because the state is in another process."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "the condition did not become true in time"
            time.sleep(0.02)

    def assert_healthy(self) -> None:
        """Assert that the server runs, is ready and has logged no warnings."""
        assert self.process.poll() is None
        self._connection.close()
        assert self.request("GET", "/readyz", None, {})[0] == 200
        assert self.read_warnings() == []

    def read_warnings(self) -> list[str]:
        """Return the warnings and errors logged since the last call."""
        if self._log.stat().st_size == self._log_offset:
            return []
        with self._log.open("rb") as log:
            log.seek(self._log_offset)
            lines = log.read().splitlines(keepends=True)
        self._log_offset += sum(len(each) for each in lines)
        return [line.decode() for line in lines if INVALID_HTTP_MESSAGE not in line.decode()]

    def close(self) -> None:
        self._connection.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@contextmanager
def run_target_server(database_url: str, **variables: str) -> Iterator[TargetServer]:
    """Run a server on this migrated database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
    environment |= {
        "RUNYARD_DATABASE_URL": database_url,
        "RUNYARD_PORT": str(port),
        "RUNYARD_LOG_LEVEL": "warning",
        "RUNYARD_LOG_FORMAT": "json",
        "RUNYARD_REQUEST_SECONDS": str(REQUEST_SECONDS),
        # All attacks come from one address.
        "RUNYARD_MAX_SOCKETS_PER_CLIENT": "10000",
        **variables,
    }
    with TemporaryDirectory(prefix="runyard-hostile-") as folder:
        path = Path(folder) / "log"
        with path.open("wb") as log:
            command = [sys.executable, "-m", "runyard", "serve"]
            server = TargetServer(
                psutil.Popen(command, env=environment, stderr=log, stdout=subprocess.DEVNULL), port, path
            )
        try:
            _wait_until_ready(server)
            yield server
        finally:
            server.close()


def _wait_until_ready(server: TargetServer) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            server.connect().close()
        except ConnectionRefusedError:
            assert server.process.poll() is None, server.read_warnings()
            assert time.monotonic() < deadline, "the server did not start"
        else:
            return


def encode_json(value: object) -> bytes:
    """Encode JSON with integers of any size, which orjson cannot encode."""
    return json.dumps(value, ensure_ascii=False).encode()


def check_response(response: Any, may_wait: bool = False) -> list[str]:
    """Check that a response is valid, and return `data` or the codes of its errors."""
    assert isinstance(response, dict), response
    assert response.keys() <= {"data", "errors", "extensions"}, response
    if "errors" not in response:
        assert isinstance(response["data"], dict), response
        return ["data"]
    codes = [error["extensions"]["code"] for error in response["errors"]]
    assert codes, response
    assert set(codes) <= ALLOWED_CODES | ({"UNAVAILABLE"} if may_wait else set()), response
    return codes


def create_entities(target: TargetServer) -> list[str]:
    """Create one entity of each kind and return their ids, with the id of a lease."""
    flow = _create_entity(target, "CreateFlow", "flow", {"name": "hostile"})
    deployment = _create_entity(target, "CreateDeployment", "deployment", {"flowId": flow, "name": "hostile"})
    flow_run = _create_entity(target, "CreateFlowRun", "flowRun", {"flowId": flow, "state": {"type": "RUNNING"}})
    runs = [
        _create_entity(target, "CreateTaskRun", "taskRun", {"taskKey": "a", **fields})
        for fields in ({}, {"flowRunId": flow_run, "dynamicKey": "a"})
    ]
    # A task key of its own: earlier requests may have paused the queue of another key.
    key = f"claimed-{uuid4()}"
    runs.append(_create_entity(target, "CreateTaskRun", "taskRun", {"taskKey": key, "state": {"type": "SCHEDULED"}}))
    claim = target.execute(document("ClaimTaskRuns")[0], {"taskKeys": [key], "leaseSeconds": 600})
    (claimed,) = claim["data"]["claimTaskRuns"]["deliveries"]
    return [flow, deployment, flow_run, *runs, claimed["leaseId"]]


def _create_entity(target: TargetServer, operation: str, noun: str, input: dict[str, Any]) -> str:
    response = target.execute(document(operation)[0], {"input": input})
    (payload,) = response["data"].values()
    return payload[noun]["id"]

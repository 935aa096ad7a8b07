"""A server process that is treated badly, and what it may answer then."""

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

import orjson
import psutil
from websockets.sync.client import ClientConnection, connect

from queries import document

PATIENCE = 30.0
KEPT_SECONDS = 3.0
"""How long a connection may lie idle: the server closes it after five seconds."""

REQUEST_SECONDS = 10.0
"""How long an operation may take there: claims are told to wait for a minute, too."""

CODES = {"BAD_USER_INPUT", "NOT_FOUND", "CONFLICT", "QUEUE_FULL", "QUERY_TOO_COMPLEX"}
"""What an error may be coded with, whatever a client sends."""

NOT_HTTP = "Invalid HTTP request received."
"""What is logged, in one line, of a client that does not speak HTTP."""


class Victim:
    """A server on a port of its own, whose log is kept from warnings up."""

    def __init__(self, process: psutil.Popen, port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.answers: Counter[str] = Counter()
        """How often it answered with data, and with which codes."""
        self.slowest = 0.0, ""
        """How many seconds an operation has taken at most, and its document."""
        self._log = log
        self._read = 0
        self._used_at = 0.0
        self._connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def ask(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer to an operation, which is one that a client may get. AssertionError where it is not."""
        began = time.monotonic()
        status, body = self.post({"query": query, "variables": variables})
        self.slowest = max(self.slowest, (time.monotonic() - began, query))
        assert status == 200, (status, body)
        self.answers.update(look_at(orjson.loads(body), "claimTaskRuns" in query))
        return orjson.loads(body)

    def post(self, body: object) -> tuple[int, bytes]:
        """Status and body of the answer to a JSON value."""
        head = {"content-type": "application/json"}
        return self.request("POST", "/graphql", json_of(body), head)

    def request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body of the answer to a request."""
        if time.monotonic() - self._used_at > KEPT_SECONDS:
            self._connection.close()
        self._used_at = time.monotonic()
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except BaseException:
            self._connection.close()
            raise

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def web_socket(self) -> ClientConnection:
        """A WebSocket on which nothing has been said."""
        address = f"ws://127.0.0.1:{self.port}/graphql"
        return connect(address, subprotocols=["graphql-transport-ws"], proxy=None, compression=None)  # type: ignore[list-item]

    def cpu_seconds(self) -> float:
        """How long it has worked so far: unlike what passes meanwhile, that is the same beside other processes."""
        times = self.process.cpu_times()
        return times.user + times.system

    def memory_mib(self) -> float:
        return self.process.memory_info().rss / 2**20

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return when it is so. The process is another one, so that it has to be asked again and again."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it did not come about"
            time.sleep(0.02)

    def is_well(self) -> None:
        """AssertionError where it has died, does not answer, or has logged what it should not have had to."""
        assert self.process.poll() is None
        self._connection.close()
        assert self.request("GET", "/readyz", None, {})[0] == 200
        assert self.complaints() == []

    def complaints(self) -> list[str]:
        """What it has logged since this was last asked, from warnings up."""
        if self._log.stat().st_size == self._read:
            return []
        with self._log.open("rb") as log:
            log.seek(self._read)
            lines = log.read().splitlines(keepends=True)
        self._read += sum(len(each) for each in lines)
        return [line.decode() for line in lines if NOT_HTTP not in line.decode()]

    def close(self) -> None:
        self._connection.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@contextmanager
def victim(database_url: str, **variables: str) -> Iterator[Victim]:
    """A server on this database, which is migrated."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
    given |= {
        "RUNYARD_DATABASE_URL": database_url,
        "RUNYARD_PORT": str(port),
        "RUNYARD_LOG_LEVEL": "warning",
        "RUNYARD_LOG_FORMAT": "json",
        "RUNYARD_REQUEST_SECONDS": str(REQUEST_SECONDS),
        # All that is done to it comes from one address.
        "RUNYARD_MAX_SOCKETS_PER_CLIENT": "10000",
        **variables,
    }
    with TemporaryDirectory(prefix="runyard-hostile-") as folder:
        path = Path(folder) / "log"
        with path.open("wb") as log:
            command = [sys.executable, "-m", "runyard", "serve"]
            started = Victim(psutil.Popen(command, env=given, stderr=log, stdout=subprocess.DEVNULL), port, path)
        try:
            _wait_until_ready(started)
            yield started
        finally:
            started.close()


def _wait_until_ready(started: Victim) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            started.connect().close()
        except ConnectionRefusedError:
            assert started.process.poll() is None, started.complaints()
            assert time.monotonic() < deadline, "the server did not start"
        else:
            return


def json_of(value: object) -> bytes:
    """JSON, with integers that are larger than those that orjson writes."""
    return json.dumps(value, ensure_ascii=False).encode()


def look_at(answer: Any, may_wait: bool = False) -> list[str]:
    """What an answer is: `data`, or the codes of its errors. AssertionError where it is none that a client may get."""
    assert isinstance(answer, dict), answer
    assert answer.keys() <= {"data", "errors", "extensions"}, answer
    if "errors" not in answer:
        assert isinstance(answer["data"], dict), answer
        return ["data"]
    codes = [error["extensions"]["code"] for error in answer["errors"]]
    assert codes, answer
    assert set(codes) <= CODES | ({"UNAVAILABLE"} if may_wait else set()), answer
    return codes


def ids_in(victim: Victim) -> list[str]:
    """The ids of some of everything, which is created; and of leases."""
    flow = _created(victim, "CreateFlow", "flow", {"name": "hostile"})
    deployment = _created(victim, "CreateDeployment", "deployment", {"flowId": flow, "name": "hostile"})
    flow_run = _created(victim, "CreateFlowRun", "flowRun", {"flowId": flow, "state": {"type": "RUNNING"}})
    runs = [
        _created(victim, "CreateTaskRun", "taskRun", {"taskKey": "a", **wanted})
        for wanted in ({}, {"flowRunId": flow_run, "dynamicKey": "a"}, {"state": {"type": "SCHEDULED"}})
    ]
    claim = victim.ask(document("ClaimTaskRuns")[0], {"taskKeys": ["a"], "leaseSeconds": 600})
    (claimed,) = claim["data"]["claimTaskRuns"]
    return [flow, deployment, flow_run, *runs, claimed["leaseId"]]


def _created(victim: Victim, operation: str, noun: str, input: dict[str, Any]) -> str:
    answer = victim.ask(document(operation)[0], {"input": input})
    (payload,) = answer["data"].values()
    return payload[noun]["id"]

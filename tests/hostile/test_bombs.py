"""A bomb gets its error, does not block other clients and leaks no memory."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from shutil import copyfile

import orjson
import pytest

from tests.hostile.bombs import BOMBS
from tests.hostile.target_server import TIMEOUT_SECONDS, TargetServer, check_response, run_target_server

MAX_BLOCKED_CPU_SECONDS = 0.25
"""CPU seconds for which the server may leave other clients without a response."""

ATTEMPTS = 3
"""Maximum number of times a bomb is sent: other load on the machine only increases the measured CPU time."""

MAX_MEMORY_GROWTH_MIB = 120
"""Memory growth allowed after all bombs and repeated largest ones: bodies are 4 MiB, their parsed values ten times as
large, and the allocator does not return all of it."""

LARGEST_BOMBS = ["stored objects", "deep lists within the limit", "sixteen inputs", "ids"]


@pytest.fixture(scope="module")
def target(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TargetServer]:
    """A server that must be healthy after all bombs, without significant memory growth."""
    path = tmp_path_factory.mktemp("bombs") / "runyard.db"
    copyfile(migrated, path)
    with run_target_server(f"sqlite+aiosqlite:///{path}") as server:
        server.execute("{ taskRunCount }")
        before = server.memory_mib()
        yield server
        server.assert_healthy()
        for _ in range(5):
            for name in LARGEST_BOMBS:
                server.request("POST", "/graphql", BOMBS[name][0](), {"content-type": "application/json"})
        print(f"memory: {before:.0f} MiB before, {server.memory_mib():.0f} MiB after")
        assert server.memory_mib() - before < MAX_MEMORY_GROWTH_MIB


class BlockedTime:
    """The longest wait of another client for one response, in CPU seconds of the server."""

    longest = 0.0


@contextmanager
def concurrent_client(server: TargetServer) -> Iterator[BlockedTime]:
    """Run a client that sends small requests continuously."""
    blocked, stopped, started = BlockedTime(), threading.Event(), threading.Event()

    def send_requests() -> None:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_SECONDS)
        while not stopped.is_set():
            before = server.cpu_seconds()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            blocked.longest = max(blocked.longest, server.cpu_seconds() - before)
            started.set()
        connection.close()

    thread = threading.Thread(target=send_requests)
    thread.start()
    try:
        assert started.wait(TIMEOUT_SECONDS)
        blocked.longest = 0.0
        yield blocked
    finally:
        stopped.set()
        thread.join()


def with_new_document(body: bytes, number: int) -> bytes:
    """Return the body with a changed document that is not in the server's document cache."""
    return body.replace(b'"query": "', b'"query": "#%d\\n' % number, 1)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_gets_its_error_and_does_not_block_other_clients(target: TargetServer, name: str) -> None:
    make, code = BOMBS[name]
    body = make()
    count = target.execute("{ taskRunCount }")["data"]["taskRunCount"]

    sent, codes = 0, set[str | None]()
    for _ in range(ATTEMPTS):
        sent += 1
        with concurrent_client(target) as blocked:
            started_at = time.monotonic()
            request_body = body if sent == 1 else with_new_document(body, sent)
            _, response = target.request("POST", "/graphql", request_body, {"content-type": "application/json"})
            seconds = time.monotonic() - started_at
        waited = f"other clients waited at most {blocked.longest * 1000:.0f} ms of CPU"
        print(f"{name}: response after {seconds * 1000:.0f} ms, {waited}")
        codes = codes or set(check_response(orjson.loads(response)))
        if blocked.longest < MAX_BLOCKED_CPU_SECONDS:
            break
    else:
        pytest.fail(f"other clients waited more than {MAX_BLOCKED_CPU_SECONDS:g} s of CPU each time")

    assert codes == {code}
    changed = sent if code == "data" and b"createTaskRun(" in body else 0
    assert target.execute("{ taskRunCount }")["data"]["taskRunCount"] == count + changed

"""A bomb is answered with its error, nobody else waits for it, and it leaves no memory behind."""

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
from tests.hostile.target_server import PATIENCE, Victim, look_at, victim

MOST_SECONDS = 0.25
"""How long the server may work without answering others."""

ATTEMPTS = 3
"""How often a bomb is sent at most: whatever else the machine does makes the server's work longer, and never shorter."""

MOST_MIB = 120
"""How much more memory the server may have after all of them, and after many of the largest: bodies are 4 MiB, what is
parsed ten times that, and the system does not get all of it back."""

LARGEST = ["objects to keep", "as many deep lists as one may send", "sixteen inputs", "ids"]


@pytest.fixture(scope="module")
def attacked(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """A server, which has to be well after all bombs, and to have about the memory that it had before."""
    path = tmp_path_factory.mktemp("bombs") / "runyard.db"
    copyfile(migrated, path)
    with victim(f"sqlite+aiosqlite:///{path}") as started:
        started.ask("{ taskRunCount }")
        before = started.memory_mib()
        yield started
        started.is_well()
        for _ in range(5):
            for name in LARGEST:
                started.request("POST", "/graphql", BOMBS[name][0](), {"content-type": "application/json"})
        print(f"memory: {before:.0f} MiB before, {started.memory_mib():.0f} MiB after")
        assert started.memory_mib() - before < MOST_MIB


class Waiting:
    """How long the server worked at most while somebody else waited for one answer, in seconds of CPU."""

    longest = 0.0


@contextmanager
def somebody_else(server: Victim) -> Iterator[Waiting]:
    """Somebody who asks for little, all the time."""
    waiting, over, begun = Waiting(), threading.Event(), threading.Event()

    def ask() -> None:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        while not over.is_set():
            before = server.cpu_seconds()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            waiting.longest = max(waiting.longest, server.cpu_seconds() - before)
            begun.set()
        connection.close()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert begun.wait(PATIENCE)
        waiting.longest = 0.0
        yield waiting
    finally:
        over.set()
        asking.join()


def anew(body: bytes, number: int) -> bytes:
    """The body with a document that the server has not seen yet, where it has one: it keeps what it has looked at."""
    return body.replace(b'"query": "', b'"query": "#%d\\n' % number, 1)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_answered_with_its_error_and_keeps_nobody_waiting(attacked: Victim, name: str) -> None:
    make, code = BOMBS[name]
    body = make()
    count = attacked.ask("{ taskRunCount }")["data"]["taskRunCount"]

    sent, codes = 0, set[str | None]()
    for _ in range(ATTEMPTS):
        sent += 1
        with somebody_else(attacked) as waiting:
            began = time.monotonic()
            wanted = body if sent == 1 else anew(body, sent)
            _, answer = attacked.request("POST", "/graphql", wanted, {"content-type": "application/json"})
            took = time.monotonic() - began
        print(
            f"{name}: answered in {took * 1000:.0f} ms, others waited for {waiting.longest * 1000:.0f} ms of CPU at most"
        )
        codes = codes or set(look_at(orjson.loads(answer)))
        if waiting.longest < MOST_SECONDS:
            break
    else:
        pytest.fail(f"others waited for more than {MOST_SECONDS:g} s of CPU each time")

    assert codes == {code}
    changed = sent if code == "data" and b"createTaskRun(" in body else 0
    assert attacked.ask("{ taskRunCount }")["data"]["taskRunCount"] == count + changed

"""Enqueue and wait from code without an event loop."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from runyard_client import PartlyEnqueued, Refused, RunStatus, Runyard, SyncTask, TaskDeleted
from runyard_client.testing.server import RunyardServer


@pytest.fixture
def runyard(server: RunyardServer) -> Iterator[Runyard]:
    app = Runyard(server.url)
    yield app
    app.close_sync()


@pytest.fixture
def add(runyard: Runyard, unique_key: Callable[[str], str]) -> SyncTask[[int, int], int]:
    @runyard.task(key=unique_key("add"))
    def add(left: int, right: int) -> int:
        return left + right

    return add


def test_a_call_without_an_event_loop_creates_a_run(add: SyncTask[[int, int], int]) -> None:
    handle = add.enqueue_sync(1, 2)

    assert handle.created
    assert (handle.status_sync().type, handle.status_sync().run_count) == ("SCHEDULED", 0)


def test_many_calls_return_their_handles_in_order(runyard: Runyard, add: SyncTask[[int, int], int]) -> None:
    handles = runyard.enqueue_many_sync(add.call(number, 0) for number in range(3))

    assert [handle.id for handle in handles] == sorted(handle.id for handle in handles)


def test_a_refused_call_of_many_does_not_affect_the_others(runyard: Runyard, add: SyncTask[[int, int], int]) -> None:
    calls = [add.call(number, 0) for number in range(3)]
    calls[1].input["priority"] = 11

    with pytest.raises(PartlyEnqueued) as raised:
        runyard.enqueue_many_sync(calls)

    assert isinstance(raised.value.results[1], Refused)


def test_threads_enqueue_at_the_same_time(runyard: Runyard, add: SyncTask[[int, int], int]) -> None:
    with ThreadPoolExecutor(8) as threads:
        handles = list(threads.map(lambda number: add.enqueue_sync(number, 0), range(100)))

    assert len({handle.id for handle in handles}) == 100


def test_a_run_that_does_not_end_in_time_continues(add: SyncTask[[int, int], int]) -> None:
    handle = add.enqueue_sync(1, 2)

    with pytest.raises(TimeoutError, match=rf"^The task run {handle.id} has not ended within 0\.05 seconds\.$"):
        handle.result_sync(timeout=0.05)

    assert handle.status_sync().type == "SCHEDULED"


def test_waiting_with_a_time_limit_returns_those_that_have_ended(
    runyard: Runyard, add: SyncTask[[int, int], int]
) -> None:
    handles = [add.enqueue_sync(1, number) for number in range(3)]
    handles[1].cancel_sync()

    ended, others = runyard.wait_sync([handles[0], handles[1]], timeout=0.05)

    assert (ended, others) == ([handles[1]], [handles[0]])
    assert runyard.wait_sync([handles[1]]) == ([handles[1]], [])


def test_a_cancelled_run_has_ended(add: SyncTask[[int, int], int]) -> None:
    handle = add.enqueue_sync(1, 2)

    status = handle.cancel_sync(wait=30)

    assert isinstance(status, RunStatus)
    assert (status.type, status.has_ended) == ("CANCELLED", True)
    assert handle.wait_sync().type == "CANCELLED"


def test_a_deleted_run_has_no_status(add: SyncTask[[int, int], int]) -> None:
    handle = add.enqueue_sync(1, 2)

    handle.delete_sync()
    handle.delete_sync()

    with pytest.raises(TaskDeleted):
        handle.status_sync()


BLOCKING: dict[str, Callable[[Any, Any, Any], Any]] = {
    "task.enqueue": lambda _runyard, add, _handle: add.enqueue_sync(1, 2),
    "runyard.enqueue_many": lambda runyard, add, _handle: runyard.enqueue_many_sync([add.call(1, 2)]),
    "runyard.wait": lambda runyard, _add, handle: runyard.wait_sync([handle]),
    "runyard.close": lambda runyard, _add, _handle: runyard.close_sync(),
    "handle.status": lambda _runyard, _add, handle: handle.status_sync(),
    "handle.result": lambda _runyard, _add, handle: handle.result_sync(),
    "handle.wait": lambda _runyard, _add, handle: handle.wait_sync(),
    "handle.cancel": lambda _runyard, _add, handle: handle.cancel_sync(),
    "handle.delete": lambda _runyard, _add, handle: handle.delete_sync(),
}


@pytest.mark.parametrize("name", BLOCKING)
async def test_a_blocking_call_in_an_event_loop_names_the_one_to_await(name: str) -> None:
    app = Runyard("http://127.0.0.1:1")

    @app.task
    def add(left: int, right: int) -> int:
        return left + right

    with pytest.raises(RuntimeError, match=rf"Use `await {name}\("):
        BLOCKING[name](app, add, app.handle("0192f1f5-77a0-7c4e-b5d0-3f1c6a2e9b10", add))


def test_all_requests_of_a_process_use_one_thread(add: SyncTask[[int, int], int]) -> None:
    add.enqueue_sync(1, 2)

    threads = [thread for thread in threading.enumerate() if thread.name == "runyard-client"]
    assert len(threads) == 1
    assert threads[0].daemon

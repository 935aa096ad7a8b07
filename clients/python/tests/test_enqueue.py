"""Enqueue: one run for each call, joined requests, and what happens when the server does not respond."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from faulty_proxy import FaultyProxy, faulty_proxy
from raw_worker import raw_worker
from runyard_client import (
    AsyncTask,
    Handle,
    NotAllowed,
    NotSerialisable,
    PartlyEnqueued,
    QueueFull,
    Refused,
    RequestTooLarge,
    Runyard,
    ServerTooOld,
    ServerUnavailable,
)
from runyard_client.testing.server import RunyardServer, start_server

CLIENT = Path(__file__).parent.parent
MAX_SCHEDULED = 3


@pytest.fixture
async def proxy(server: RunyardServer) -> AsyncIterator[FaultyProxy]:
    async with faulty_proxy(server.url) as running:
        yield running


@pytest.fixture
async def runyard(proxy: FaultyProxy) -> AsyncIterator[Runyard]:
    app = Runyard(proxy.url)
    yield app
    proxy.stop_faults()
    await app.close()


@pytest.fixture
def add(runyard: Runyard, unique_key: Callable[[str], str]) -> AsyncTask[[int, Any], int]:
    return make_add(runyard, unique_key("add"))


def make_add(app: Runyard, key: str) -> AsyncTask[[int, Any], int]:
    @app.task(key=key)
    async def add(left: int, right: Any) -> int:
        return left + right

    return add


def inputs(proxy: FaultyProxy) -> list[list[dict[str, Any]]]:
    """Return the runs of each request that created some."""
    return [request.variables["inputs"] for request in proxy.requests if request.operation == "CreateTaskRuns"]


def sizes(proxy: FaultyProxy) -> list[int]:
    return [len(each) for each in inputs(proxy)]


async def test_a_call_creates_a_scheduled_run_with_its_parameters(
    server: RunyardServer, add: AsyncTask[[int, Any], int]
) -> None:
    handle = await add.enqueue(1, right=2)

    assert handle.created
    async with raw_worker(server.url, add.key) as worker:
        (delivery,) = await worker.claim()
    assert delivery["taskRun"]["id"] == handle.id
    assert delivery["taskRun"]["parameters"] == {"left": 1, "right": 2}


async def test_a_lost_response_creates_one_run(proxy: FaultyProxy, runyard: Runyard, add: Any) -> None:
    proxy.lose_responses("CreateTaskRuns")

    handle = await add.enqueue(1, 2)

    first, second = inputs(proxy)
    assert first == second
    assert not handle.created  # the first request created it
    assert (await add.with_(key=first[0]["dynamicKey"]).enqueue(1, 2)).id == handle.id


async def test_each_call_creates_a_separate_run(add: AsyncTask[[int, Any], int]) -> None:
    first, second = await add.enqueue(1, 2), await add.enqueue(1, 2)

    assert first.id != second.id


async def test_the_same_key_returns_the_existing_run(add: AsyncTask[[int, Any], int]) -> None:
    first = await add.with_(key="welcome:17").enqueue(1, 2)
    second = await add.with_(key="welcome:17").enqueue(3, 4)

    assert (first.created, second.created) == (True, False)
    assert first.id == second.id


async def test_a_unique_key_returns_the_run_that_has_not_ended(server: RunyardServer, add: Any) -> None:
    first = await add.with_(unique="shop-7").enqueue(1, 2)
    second = await add.with_(unique="shop-7").enqueue(1, 2)
    async with raw_worker(server.url, add.key) as worker:
        await worker.complete()
    third = await add.with_(unique="shop-7").enqueue(1, 2)

    assert first.id == second.id
    assert (first.created, second.created, third.created) == (True, False, True)
    assert third.id != first.id


async def test_a_call_alone_is_sent_at_once(proxy: FaultyProxy, add: Any) -> None:
    await add.enqueue(1, 2)
    await add.enqueue(1, 2)

    assert sizes(proxy) == [1, 1]


async def test_calls_that_are_made_during_a_request_share_the_next_one(proxy: FaultyProxy, add: Any) -> None:
    with proxy.hold("CreateTaskRuns") as hold:
        first = asyncio.create_task(add.enqueue(0, 0))
        await hold.arrived.wait()
        calls = [add.enqueue(number, 0) for number in range(700)]
        others = asyncio.gather(*calls)
        await asyncio.to_thread(wait_until_pending, add.app, 700)
    await first
    handles = await others

    assert sizes(proxy) == [1, 500, 200]
    assert [each["parameters"]["left"] for each in [*inputs(proxy)[1], *inputs(proxy)[2]]] == list(range(700))
    assert len({handle.id for handle in handles}) == 700


def wait_until_pending(app: Runyard, count: int) -> None:
    """Wait until this many calls wait for the request in flight."""
    pending = app.connection().enqueuer
    while pending.count_pending() < count:
        pass


async def test_a_request_has_at_most_512_kib(proxy: FaultyProxy, runyard: Runyard, add: Any) -> None:
    text = "x" * 200_000

    await runyard.enqueue_many([add.call(number, text) for number in range(5)])

    assert sizes(proxy) == [2, 2, 1]


async def test_many_calls_are_split_and_keep_their_order(proxy: FaultyProxy, runyard: Runyard, add: Any) -> None:
    handles = await runyard.enqueue_many(add.call(number, 0) for number in range(1200))

    assert sizes(proxy) == [500, 500, 200]
    assert [handle.id for handle in handles] == sorted(handle.id for handle in handles)
    assert [each["parameters"]["left"] for batch in inputs(proxy) for each in batch] == list(range(1200))


async def test_no_calls_send_nothing(proxy: FaultyProxy, runyard: Runyard) -> None:
    assert await runyard.enqueue_many([]) == []

    assert proxy.requests == []


async def test_one_refused_call_of_1000_does_not_affect_the_others(runyard: Runyard, add: Any) -> None:
    calls = [add.call(number, 0) for number in range(1000)]
    calls[637].input["priority"] = 11

    with pytest.raises(
        PartlyEnqueued, match=r"^1 of 1,000 task runs were not created\. .* calls\[637\]: Refused"
    ) as raised:
        await runyard.enqueue_many(calls)

    results = raised.value.results
    assert [index for index, result in enumerate(results) if not isinstance(result, Handle)] == [637]
    assert len({result.id for result in results if isinstance(result, Handle)}) == 999
    (error,) = raised.value.errors
    assert isinstance(error, Refused)
    assert (error.code, error.argument) == ("BAD_USER_INPUT", "priority")
    assert str(error) == "priority: must be between -10 and 10; got 11."


async def test_a_call_that_makes_its_request_invalid_fails_alone(
    proxy: FaultyProxy, runyard: Runyard, add: Any
) -> None:
    """The server refuses a value of the wrong type without naming the input."""
    calls = [add.call(number, 0) for number in range(10)]
    calls[4].input["priority"] = "high"

    with pytest.raises(PartlyEnqueued) as raised:
        await runyard.enqueue_many(calls)

    assert [type(result) for result in raised.value.results] == [Handle] * 4 + [Refused] + [Handle] * 5
    assert sizes(proxy)[0] == 10


async def test_an_unknown_flow_run_is_refused_alone(runyard: Runyard, add: Any) -> None:
    calls = [add.call(1, 1), add.call(2, 2)]
    calls[1].input["flowRunId"] = "0192f1f5-77a0-7c4e-b5d0-3f1c6a2e9b10"

    with pytest.raises(PartlyEnqueued) as raised:
        await runyard.enqueue_many(calls)

    created, error = raised.value.results
    assert isinstance(created, Handle)
    assert isinstance(error, Refused)
    assert (error.code, error.argument) == ("NOT_FOUND", "flowRunId")


async def test_a_call_that_is_too_large_fails_alone(runyard: Runyard, add: Any) -> None:
    calls = [add.call(1, "x" * 5_000_000), add.call(2, "small")]

    with pytest.raises(PartlyEnqueued) as raised:
        await runyard.enqueue_many(calls)

    too_large, created = raised.value.results
    assert isinstance(too_large, RequestTooLarge)
    assert isinstance(created, Handle)


async def test_an_invalid_argument_is_an_error_before_anything_is_sent(proxy: FaultyProxy, add: Any) -> None:
    with pytest.raises(TypeError):
        await add.enqueue(1)
    with pytest.raises(NotSerialisable):
        await add.enqueue(1, object())

    assert proxy.requests == []


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_request_to_an_unavailable_server_is_repeated(proxy: FaultyProxy, add: Any, status: int) -> None:
    proxy.refuse("CreateTaskRuns", status, times=3, body=b"")

    handle = await add.enqueue(1, 2)

    assert handle.created
    assert [request.status for request in proxy.requests] == [200, status, status, status, 200]


async def test_a_request_to_a_server_that_starts_later_is_repeated(proxy: FaultyProxy, add: Any) -> None:
    await proxy.disconnect()

    enqueued = asyncio.create_task(add.enqueue(1, 2))
    await asyncio.sleep(0)
    await proxy.connect()

    assert (await enqueued).created


async def test_the_error_after_the_time_out_names_the_key_of_the_run_that_may_exist(
    proxy: FaultyProxy, unique_key: Callable[[str], str]
) -> None:
    app = Runyard(proxy.url, enqueue_timeout=0.5)
    add = make_add(app, unique_key("add"))
    await add.enqueue(0, 0)
    proxy.lose_responses("CreateTaskRuns", times=1000)

    with pytest.raises(ServerUnavailable) as raised:
        await add.enqueue(1, 2)
    proxy.stop_faults()
    again = await add.with_(key=raised.value.key).enqueue(1, 2)
    await app.close()

    assert raised.value.key == inputs(proxy)[1][0]["dynamicKey"]
    assert f"may have been created; enqueue it again with key='{raised.value.key}'" in str(raised.value)
    assert not again.created


async def test_an_enqueue_to_a_server_that_hangs_fails_after_the_timeout(
    proxy: FaultyProxy, unique_key: Callable[[str], str]
) -> None:
    app = Runyard(proxy.url, enqueue_timeout=0.5)
    add = make_add(app, unique_key("add"))
    with proxy.hold("CreateTaskRuns"), pytest.raises(ServerUnavailable, match=r"no response within 0\.5"):
        await add.enqueue(1, 2)
    await app.close()


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server whose queues have room for three runs of each task key."""
    with start_server(tmp_path_factory.mktemp("small"), RUNYARD_MAX_SCHEDULED_PER_KEY=str(MAX_SCHEDULED)) as running:
        yield running


async def test_a_full_queue_is_an_error_at_once(small_server: RunyardServer, unique_key: Callable[[str], str]) -> None:
    app = Runyard(small_server.url)
    add, other = make_add(app, unique_key("add")), make_add(app, unique_key("add"))
    await app.enqueue_many([add.call(number, 0) for number in range(MAX_SCHEDULED)])

    with pytest.raises(QueueFull):
        await add.enqueue(4, 0)
    assert (await other.enqueue(1, 2)).created
    await app.close()


async def test_a_call_waits_for_room_in_the_queue_if_told_to(
    small_server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    app = Runyard(small_server.url, when_full="wait", enqueue_timeout=0.1)
    add, other = make_add(app, unique_key("add")), make_add(app, unique_key("add"))
    await app.enqueue_many([add.call(number, 0) for number in range(MAX_SCHEDULED)])

    async with faulty_proxy(small_server.url) as proxy:
        waiting_app = Runyard(proxy.url, when_full="wait")
        waiting = asyncio.create_task(make_add(waiting_app, add.key).enqueue(4, 0))
        await proxy.next_response("CreateTaskRuns")
        await proxy.next_response("CreateTaskRuns")
        assert not waiting.done()
        assert (await other.enqueue(1, 2)).created
        async with raw_worker(small_server.url, add.key) as worker:
            await worker.complete()
        assert (await waiting).created
        await waiting_app.close()
    await app.close()


async def test_a_refused_token_is_an_error_of_every_call(proxy: FaultyProxy, add: Any) -> None:
    body = {"errors": [{"message": "No.", "extensions": {"code": "UNAUTHENTICATED"}}]}
    proxy.refuse("CreateTaskRuns", 401, body=body)

    results = await asyncio.gather(*(add.enqueue(1, 2) for _ in range(3)), return_exceptions=True)

    errors = [result for result in results if isinstance(result, NotAllowed)]
    assert len({id(error) for error in errors}) == len(errors) >= 1


async def test_a_server_without_a_field_is_too_old(runyard: Runyard, add: Any) -> None:
    call = add.call(1, 2)
    call.input["fieldOfANewerServer"] = True

    with pytest.raises(PartlyEnqueued) as raised:
        await runyard.enqueue_many([call])

    assert isinstance(raised.value.results[0], ServerTooOld)


async def test_a_cancelled_call_that_was_not_sent_creates_nothing(proxy: FaultyProxy, add: Any) -> None:
    with proxy.hold("CreateTaskRuns") as hold:
        first = asyncio.create_task(add.enqueue(0, 0))
        await hold.arrived.wait()
        second = asyncio.create_task(add.enqueue(1, 1))
        third = asyncio.create_task(add.enqueue(2, 2))
        await asyncio.to_thread(wait_until_pending, add.app, 2)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
    await asyncio.gather(first, third)

    assert [each["parameters"]["left"] for batch in inputs(proxy) for each in batch] == [0, 2]


async def test_calls_of_several_event_loops_and_threads_are_joined(proxy: FaultyProxy, add: Any) -> None:
    with proxy.hold("CreateTaskRuns") as hold:
        first = asyncio.create_task(add.enqueue(0, 0))
        await hold.arrived.wait()
        in_loop = asyncio.create_task(asyncio.to_thread(asyncio.run, add.enqueue(1, 1)))
        in_thread = asyncio.create_task(asyncio.to_thread(add.enqueue_sync, 2, 2))
        await asyncio.to_thread(wait_until_pending, add.app, 2)
    handles = await asyncio.gather(first, in_loop, in_thread)

    assert sizes(proxy) == [1, 2]
    assert len({handle.id for handle in handles}) == 3


DYING = """
import asyncio, sys
from runyard_client import Runyard
runyard = Runyard(sys.argv[1])

@runyard.task(key=sys.argv[2])
async def add(left, right): ...

asyncio.run(add.with_(key="once").enqueue(1, 2))
"""


async def test_a_process_that_dies_after_sending_has_created_at_most_one_run(proxy: FaultyProxy, add: Any) -> None:
    with proxy.hold("CreateTaskRuns") as hold:
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", DYING, proxy.url, add.key], env={**os.environ, "PYTHONPATH": str(CLIENT)}
        )
        await hold.arrived.wait()
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
    first = await add.with_(key="once").enqueue(1, 2)
    second = await add.with_(key="once").enqueue(1, 2)

    assert first.id == second.id
    assert not second.created

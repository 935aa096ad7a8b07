"""Waiting for many runs: few requests, new runs at once, and interruptions."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from faulty_proxy import FaultyProxy, faulty_proxy
from raw_worker import raw_worker
from runyard_client import Handle, NotAllowed, RequestTooLarge, Runyard, ServerUnavailable, TaskDeleted
from runyard_client.connection.waiting import MAX_POLLS
from runyard_client.testing.server import RunyardServer, start_server

UNKNOWN_ID = "0192f1f5-77a0-7c4e-b5d0-3f1c6a2e9b10"
POLL = "EndedTaskRuns"


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
def echo(runyard: Runyard, unique_key: Callable[[str], str]) -> Any:
    return make_echo(runyard, unique_key("echo"))


def make_echo(app: Runyard, key: str) -> Any:
    @app.task(key=key)
    async def echo(value: int) -> int:
        return value

    return echo


def polled(proxy: FaultyProxy) -> list[list[str]]:
    """Return the ids of each poll."""
    return [request.variables["ids"] for request in proxy.requests if request.operation == POLL]


def open_polls(proxy: FaultyProxy) -> int:
    return sum(request.operation == POLL and not request.ended.is_set() for request in proxy.requests)


async def start_waiting(proxy: FaultyProxy, handle: Handle[Any]) -> asyncio.Task[Any]:
    """Wait for a run's result in a task, and return it when its poll is open."""
    arrival = asyncio.create_task(proxy.next_request(POLL))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(handle.result())
    await arrival
    return waiting


async def test_many_runs_are_waited_for_with_few_requests(
    server: RunyardServer, proxy: FaultyProxy, runyard: Runyard, echo: Any
) -> None:
    handles = await runyard.enqueue_many(echo.call(number) for number in range(2500))
    waiting = asyncio.create_task(runyard.wait(handles))
    async with raw_worker(server.url, echo.key) as worker:
        await worker.complete(2500, result=7)
    ended, others = await waiting

    assert (ended, others) == (handles, [])
    assert [await handle.result() for handle in handles] == [7] * 2500
    assert max(len(ids) for ids in polled(proxy)) <= 1000
    assert proxy.count(POLL) < 100


async def test_a_new_run_gets_a_poll_while_others_wait(
    server: RunyardServer, proxy: FaultyProxy, runyard: Runyard, echo: Any
) -> None:
    first, second = await runyard.enqueue_many([echo.with_(delay=3600).call(1), echo.call(2)])
    first_waiting = await start_waiting(proxy, first)
    second_waiting = await start_waiting(proxy, second)

    assert polled(proxy) == [[first.id], [second.id]]
    async with raw_worker(server.url, echo.key) as worker:
        await worker.complete(result=2)
    assert await second_waiting == 2
    assert not first_waiting.done()
    first_waiting.cancel()


async def test_the_number_of_open_polls_is_bounded(
    server: RunyardServer, proxy: FaultyProxy, runyard: Runyard, echo: Any
) -> None:
    handles = await runyard.enqueue_many(echo.call(number) for number in range(MAX_POLLS + 3))
    waiting = [await start_waiting(proxy, handle) for handle in handles]

    assert open_polls(proxy) <= MAX_POLLS
    assert {id for ids in polled(proxy) for id in ids} == {handle.id for handle in handles}
    async with raw_worker(server.url, echo.key) as worker:
        await worker.complete(len(handles), result=5)
    assert await asyncio.gather(*waiting) == [5] * len(handles)


async def test_more_runs_than_fit_into_all_polls_take_turns(server: RunyardServer, runyard: Runyard, echo: Any) -> None:
    """Runs that do not end, and were polled last, must not keep others from being noticed."""
    runyard.connection().waiter.set_limits(max_polls=2, max_ids=2)
    soon = await runyard.enqueue_many(echo.call(number) for number in range(3))
    results = asyncio.gather(*(handle.result(20) for handle in soon))  # a long poll takes 30
    await soon[0].status()  # the waits have begun
    later = await runyard.enqueue_many(echo.with_(delay=3600).call(number) for number in range(6))
    unfinished = asyncio.create_task(runyard.wait(later))
    await later[0].status()
    async with raw_worker(server.url, echo.key) as worker:
        await worker.complete(3, result=1)

    assert await results == [1, 1, 1]
    unfinished.cancel()


async def test_several_waits_for_one_run_share_a_poll(
    server: RunyardServer, proxy: FaultyProxy, runyard: Runyard, echo: Any
) -> None:
    handle = await echo.enqueue(1)
    results = asyncio.gather(*(runyard.handle(handle.id, echo).result() for _ in range(20)))
    async with raw_worker(server.url, echo.key) as worker:
        await worker.complete(result=9)

    assert await results == [9] * 20
    assert set(map(tuple, polled(proxy))) == {(handle.id,)}


async def test_handles_are_yielded_as_their_runs_end(server: RunyardServer, runyard: Runyard, echo: Any) -> None:
    handles = await runyard.enqueue_many(echo.call(number) for number in range(4))
    await handles[3].cancel()
    await handles[2].delete()
    seen: list[str] = []
    async with raw_worker(server.url, echo.key) as worker:
        async for handle in runyard.as_completed(handles):
            seen.append(handle.id)
            if len(seen) in (2, 3):
                await worker.complete(result=len(seen))

    assert set(seen[:2]) == {handles[2].id, handles[3].id}
    assert seen[2:] == [handles[0].id, handles[1].id]
    assert [await handle.result() for handle in handles[:2]] == [2, 3]
    with pytest.raises(TaskDeleted):
        await handles[2].result()


async def test_handles_that_have_ended_are_yielded_without_a_request(
    runyard: Runyard, echo: Any, proxy: FaultyProxy
) -> None:
    handle = await echo.enqueue(1)
    await handle.cancel()
    await handle.wait()
    polls = proxy.count(POLL)

    assert [each async for each in runyard.as_completed([handle, handle])] == [handle, handle]
    assert await runyard.wait([handle]) == ([handle], [])
    assert proxy.count(POLL) == polls


async def test_waiting_with_a_time_limit_returns_what_has_ended(runyard: Runyard, echo: Any) -> None:
    first, second = await runyard.enqueue_many([echo.call(1), echo.call(2)])
    await first.cancel()
    await first.wait()

    assert await runyard.wait([first, second], timeout=0.05) == ([first], [second])


async def test_a_wait_that_is_cancelled_cancels_nothing_and_is_not_in_the_next_poll(
    proxy: FaultyProxy, runyard: Runyard, echo: Any
) -> None:
    first, second = await runyard.enqueue_many([echo.call(1), echo.call(2)])
    both = asyncio.create_task(runyard.wait([first, second]))
    poll = await proxy.next_request(POLL)
    other = asyncio.create_task(second.result())
    both.cancel()
    await asyncio.gather(both, return_exceptions=True)
    next_poll = asyncio.create_task(proxy.next_request(POLL))
    await asyncio.sleep(0)
    proxy.cut_connections()

    assert sorted(poll.variables["ids"]) == sorted([first.id, second.id])
    assert (await next_poll).variables["ids"] == [second.id]
    assert (await first.status()).type == "SCHEDULED"
    other.cancel()


async def test_the_last_wait_that_is_cancelled_ends_the_poll(proxy: FaultyProxy, echo: Any) -> None:
    handle = await echo.enqueue(1)
    waiting = await start_waiting(proxy, handle)
    poll = proxy.requests[-1]

    waiting.cancel()

    async with asyncio.timeout(20):  # less than the duration of a poll
        await poll.ended.wait()
    assert (await handle.status()).type == "SCHEDULED"


async def test_a_cut_connection_does_not_end_the_wait(server: RunyardServer, proxy: FaultyProxy, echo: Any) -> None:
    waiting = await start_waiting(proxy, await echo.enqueue(1))

    next_poll = asyncio.create_task(proxy.next_request(POLL))
    await asyncio.sleep(0)
    proxy.cut_connections()
    await next_poll
    async with raw_worker(server.url, echo.key) as worker:
        await worker.complete(result=4)

    assert await waiting == 4


async def test_a_result_whose_response_is_lost_is_requested_again(
    server: RunyardServer, proxy: FaultyProxy, echo: Any
) -> None:
    proxy.lose_responses(POLL)
    waiting = await start_waiting(proxy, await echo.enqueue(1))
    async with raw_worker(server.url, echo.key) as worker:
        await worker.complete(result=4)

    assert await waiting == 4
    assert [request.status for request in proxy.requests if request.operation == POLL] == ["lost", 200]


async def test_a_server_that_is_killed_and_started_again_does_not_end_the_wait(
    own_server: RunyardServer, unique_key: Callable[[str], str]
) -> None:
    app = Runyard(own_server.url)
    echo = make_echo(app, unique_key("echo"))
    kept, deleted = await app.enqueue_many([echo.call(1), echo.call(2)])
    results = asyncio.gather(kept.result(), deleted.result(), return_exceptions=True)
    with pytest.raises(TimeoutError):
        await kept.wait(0.05)

    await asyncio.to_thread(own_server.kill)
    await asyncio.to_thread(own_server.start)
    await app.handle(deleted.id).delete()
    async with raw_worker(own_server.url, echo.key) as worker:
        await worker.complete(result=3)
    first, second = await results
    await app.close()

    assert first == 3
    assert isinstance(second, TaskDeleted)


async def test_results_that_exceed_a_response_are_returned_by_several(
    tmp_path: Path, unique_key: Callable[[str], str]
) -> None:
    limits = {"RUNYARD_MAX_BODY_BYTES": "65536", "RUNYARD_MAX_MESSAGE_BYTES": "65536"}
    with start_server(tmp_path, RUNYARD_MAX_RESPONSE_BYTES="1048576", **limits) as small:
        async with faulty_proxy(small.url) as proxy, raw_worker(small.url, unique_key("echo")) as worker:
            app = Runyard(proxy.url)
            echo = make_echo(app, worker.task_key)
            handles = [app.handle(handle.id) for handle in await app.enqueue_many(echo.call(1) for _ in range(25))]
            for delivery in await worker.claim(25):
                await worker.end([delivery], type="COMPLETED", data={"result": "x" * 60_000})

            ended, _ = await app.wait(handles)

            assert [len(await handle.result()) for handle in ended] == [60_000] * 25
            assert proxy.count(POLL) == 2
            await app.close()


async def test_a_run_that_cannot_be_read_does_not_affect_the_others(
    server: RunyardServer, proxy: FaultyProxy, runyard: Runyard, echo: Any
) -> None:
    handles = await runyard.enqueue_many(echo.call(number) for number in range(5))
    async with raw_worker(server.url, echo.key) as worker:
        await worker.complete(5, result=1)
    # The polls of all five runs, of the first two and of the first one alone.
    too_large = {"errors": [{"message": "Too large.", "path": [POLL], "extensions": {"code": "RESPONSE_TOO_LARGE"}}]}
    proxy.refuse(POLL, 200, times=3, body=too_large)

    with pytest.raises(RequestTooLarge, match=r"^Too large\.$"):
        await runyard.wait(handles, timeout=60)

    assert sorted(handle.is_known_to_have_ended for handle in handles) == [False, True, True, True, True]
    assert [len(ids) for ids in polled(proxy)] == [5, 2, 1, 1, 3]


async def test_a_refused_token_ends_the_wait(proxy: FaultyProxy, echo: Any) -> None:
    handle = await echo.enqueue(1)
    proxy.refuse(POLL, 401, body={"errors": [{"message": "No.", "extensions": {"code": "UNAUTHENTICATED"}}]})

    with pytest.raises(NotAllowed, match=r"^No\.$"):
        await handle.result()


async def test_closing_the_app_ends_its_waits(proxy: FaultyProxy, runyard: Runyard, echo: Any) -> None:
    waiting = await start_waiting(proxy, await echo.enqueue(1))

    await runyard.close()

    with pytest.raises(ServerUnavailable, match=r"^The connection was closed"):
        await waiting

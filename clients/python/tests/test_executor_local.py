"""An executor in the process of the worker: its coordinator runs on the event loop of another thread."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from executing import WAIT_SECONDS, Peer, make_app
from runyard_client.worker.executors.links import LocalLink
from runyard_client.worker.messages import ExecutorFailed

app = make_app()
held = threading.Event()


@app.task(key="add")
async def add(first: int, second: int = 2) -> int:
    return first + second


@app.task(key="thread-name")
async def thread_name() -> str:
    return threading.current_thread().name


@app.task(key="sleeps")
async def sleeps():
    await asyncio.sleep(600)


@app.task(key="blocks-loop")
async def blocks_loop() -> bool:
    return held.wait(WAIT_SECONDS)


@app.task(key="stuck")
def stuck():
    held.wait(WAIT_SECONDS)


@pytest.fixture(autouse=True)
def release_threads():
    held.clear()
    yield
    held.set()


async def coordinate(work: Callable[[LocalLink, Peer], Coroutine[Any, Any, Any]], local_app=app) -> Any:
    """Run `work` as a coordinator on a thread of its own, with an executor on the loop of the test."""
    loop = asyncio.get_running_loop()

    async def work_with_link():
        link, peer = LocalLink(local_app, capacity=4, loop=loop), Peer()
        await link.start(peer.receive, peer.die)
        peer.send = link.send
        try:
            return await work(link, peer)
        finally:
            await link.close(WAIT_SECONDS)

    return await asyncio.to_thread(asyncio.run, work_with_link())


async def test_tasks_are_executed_on_the_loop_of_the_program():
    async def work(_link, peer):
        return [await peer.state("add", {"first": 1}), await peer.state("thread-name")]

    states = await coordinate(work)

    assert [state["data"]["result"] for state in states] == [3, threading.current_thread().name]


async def test_a_blocked_loop_does_not_block_the_coordinator():
    async def work(_link, peer):
        lease = peer.start("blocks-loop")
        peer.send({"type": "ping", "number": 1})
        held.set()
        return await peer.outcome(lease), await peer.next("pong")

    outcome, pong = await coordinate(work)

    assert outcome["state"]["data"] == {"result": True}
    assert pong["number"] == 1


async def test_an_executor_that_is_closed_early_releases_its_runs():
    async def work(link, peer):
        leases = [peer.start("sleeps"), peer.start("stuck")]
        await link.close(0)
        return [await peer.outcome(lease) for lease in leases]

    assert await coordinate(work) == [{"release": 0.0}, {"release": 0.0}]


async def test_a_start_hook_that_raises_prevents_the_start():
    broken = make_app()

    @broken.on_worker_start
    def fail():
        raise RuntimeError("no database")

    async def work(link, peer):
        raise AssertionError("it must not start")

    with pytest.raises(ExecutorFailed, match="RuntimeError: no database"):
        await coordinate(work, broken)


async def test_a_stop_is_no_death():
    async def work(link, peer):
        link.send({"type": "stop"})
        await link.wait_ended()
        return peer.messages

    assert await coordinate(work) == []

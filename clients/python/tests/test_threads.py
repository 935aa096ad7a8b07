"""The pool `thread`: its own daemon threads, one for each concurrent run."""

import asyncio
import contextvars
import threading

from executing import WAIT_SECONDS, executing, make_app
from runyard_client import current_run

app = make_app()
barriers: dict[str, threading.Barrier] = {}
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@app.task(key="meet")
def meet(name: str) -> str:
    barriers[name].wait(WAIT_SECONDS)
    return threading.current_thread().name


@app.task(key="thread")
def thread() -> list[object]:
    found = threading.current_thread()
    return [found.name, found.daemon, found is threading.main_thread()]


@app.task(key="own-context")
def own_context(value: str) -> list[str]:
    before = variable.get()
    variable.set(value)
    return [before, current_run().id]


@app.task(key="own-context-on-loop")
async def own_context_on_loop(value: str) -> list[str]:
    before = variable.get()
    variable.set(value)
    await asyncio.sleep(0)
    copied = await asyncio.to_thread(lambda: current_run().id)
    return [before, copied]


async def test_as_many_runs_as_the_concurrency_are_executed_at_a_time():
    barriers["four"] = threading.Barrier(4)

    async with executing(app, concurrency=4) as peer:
        leases = [peer.start("meet", {"name": "four"}) for _ in range(4)]
        names = {(await peer.outcome(lease))["state"]["data"]["result"] for lease in leases}

    assert len(names) == 4


async def test_threads_are_kept_and_do_not_delay_the_exit_of_the_process():
    async with executing(app) as peer:
        results = [(await peer.state("thread"))["data"]["result"] for _ in range(5)]

    assert results == [["runyard-task-1", True, False]] * 5


async def test_each_run_has_a_separate_context():
    async with executing(app, concurrency=1) as peer:
        for key in ("own-context", "own-context-on-loop"):
            for value in ("first", "second"):
                lease = peer.start(key, {"value": value})
                result = (await peer.outcome(lease))["state"]["data"]["result"]
                assert result == ["unset", f"run-of-{lease}"]


async def test_threads_end_with_their_executor():
    before = set(threading.enumerate())
    async with executing(app) as peer:
        await peer.execute("thread")
        started = set(threading.enumerate()) - before

    assert len(started) == 1
    for each in started:
        await asyncio.to_thread(each.join, WAIT_SECONDS)
        assert not each.is_alive()

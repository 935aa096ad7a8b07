"""The greenlet pool: functions run in reused greenlets, isolated as if each had its own."""

import asyncio
import gc
from contextlib import suppress
from contextvars import ContextVar
from weakref import ref

import pytest
from greenlet import getcurrent
from sqlalchemy.util import await_only

from db.postgresql.greenlets import GreenletPool

OWNER: ContextVar[str] = ContextVar("owner", default="none")
CONTEXT_VALUE: ContextVar[object] = ContextVar("context_value")


@pytest.fixture
def greenlets() -> GreenletPool:
    return GreenletPool()


async def return_later(value: object) -> object:
    await asyncio.sleep(0)
    return value


async def test_a_function_receives_the_values_it_awaits(greenlets: GreenletPool) -> None:
    assert await greenlets.run(lambda: [await_only(return_later(each)) for each in "abc"]) == ["a", "b", "c"]
    assert await greenlets.run(lambda one, two: (one, two), 1, 2) == (1, 2)


async def test_sequential_functions_share_a_greenlet_and_concurrent_ones_do_not(
    greenlets: GreenletPool,
) -> None:
    def work() -> int:
        await_only(return_later(None))
        return id(getcurrent())

    assert len({await greenlets.run(work) for _ in range(5)}) == 1
    assert len(set(await asyncio.gather(*(greenlets.run(work) for _ in range(5))))) == 5


async def test_an_exception_is_raised_and_does_not_affect_later_functions(greenlets: GreenletPool) -> None:
    async def fail() -> None:
        raise KeyError("inside")

    def work() -> object:
        with pytest.raises(KeyError):
            await_only(fail())
        return await_only(return_later("continued"))

    assert await greenlets.run(work) == "continued"
    with pytest.raises(ZeroDivisionError) as raised:
        await greenlets.run(lambda: 1 / 0)
    assert raised.value.__context__ is None
    assert await greenlets.run(lambda: "fine") == "fine"


async def test_a_failed_function_is_released_at_once(greenlets: GreenletPool) -> None:
    class Large:
        pass

    references: list[ref[Large]] = []

    def work() -> None:
        large = Large()
        references.append(ref(large))
        raise KeyError

    gc.collect()
    gc.disable()
    try:
        with suppress(KeyError):
            await greenlets.run(work)
        assert references[0]() is None
    finally:
        gc.enable()


async def test_a_cancelled_function_can_clean_up_and_its_greenlet_is_reused(greenlets: GreenletPool) -> None:
    started, steps = asyncio.Event(), list[str]()

    def work() -> None:
        started.set()
        try:
            await_only(asyncio.Event().wait())
        except asyncio.CancelledError:
            steps.append(str(await_only(return_later("cleaned up"))))
            raise

    task = asyncio.create_task(greenlets.run(work))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert steps == ["cleaned up"]
    assert await greenlets.run(lambda: await_only(return_later("next"))) == "next"


async def test_each_function_sees_the_context_variables_of_its_task(greenlets: GreenletPool) -> None:
    def work() -> list[str]:
        before = OWNER.get()
        await_only(return_later(None))
        return [before, OWNER.get()]

    async def run_as_owner(name: str) -> list[str]:
        OWNER.set(name)
        return await greenlets.run(work)

    names = [f"owner-{number}" for number in range(4)]
    assert await asyncio.gather(*map(run_as_owner, names)) == [[name, name] for name in names]
    assert await asyncio.gather(*map(run_as_owner, reversed(names))) == [[name, name] for name in reversed(names)]
    assert await greenlets.run(work) == ["none", "none"]


async def test_arguments_results_and_context_are_not_retained(greenlets: GreenletPool) -> None:
    class Large:
        pass

    references: list[ref[Large]] = []

    async def run_once() -> None:
        argument, result, in_context = Large(), Large(), Large()
        references.extend([ref(argument), ref(result), ref(in_context)])
        CONTEXT_VALUE.set(in_context)
        await greenlets.run(lambda _argument: result, argument)

    for _ in range(2):
        await asyncio.create_task(run_once())
    await asyncio.sleep(0)  # the event loop releases the last task
    gc.collect()

    assert [each() for each in references] == [None] * 6

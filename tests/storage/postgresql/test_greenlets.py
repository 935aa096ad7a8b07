"""Functions that wait in greenlets which are used again: each as if it had one of its own."""

import asyncio
import gc
from contextlib import suppress
from contextvars import ContextVar
from weakref import ref

import pytest
from greenlet import getcurrent
from sqlalchemy.util import await_only

from db.postgresql.greenlets import Greenlets

WHOSE: ContextVar[str] = ContextVar("whose", default="nobody's")
HELD: ContextVar[object] = ContextVar("held")


@pytest.fixture
def greenlets() -> Greenlets:
    return Greenlets()


async def given(value: object) -> object:
    await asyncio.sleep(0)
    return value


async def test_a_function_gets_what_it_waits_for(greenlets: Greenlets) -> None:
    assert await greenlets.run(lambda: [await_only(given(each)) for each in "abc"]) == ["a", "b", "c"]
    assert await greenlets.run(lambda one, two: (one, two), 1, 2) == (1, 2)


async def test_one_after_the_other_has_the_same_greenlet_and_several_at_once_have_different_ones(
    greenlets: Greenlets,
) -> None:
    def work() -> int:
        await_only(given(None))
        return id(getcurrent())

    assert len({await greenlets.run(work) for _ in range(5)}) == 1
    assert len(set(await asyncio.gather(*(greenlets.run(work) for _ in range(5))))) == 5


async def test_what_fails_is_raised_and_leaves_nothing_behind(greenlets: Greenlets) -> None:
    async def fail() -> None:
        raise KeyError("inside")

    def work() -> object:
        with pytest.raises(KeyError):
            await_only(fail())
        return await_only(given("went on"))

    assert await greenlets.run(work) == "went on"
    with pytest.raises(ZeroDivisionError) as raised:
        await greenlets.run(lambda: 1 / 0)
    assert raised.value.__context__ is None
    assert await greenlets.run(lambda: "fine") == "fine"


async def test_what_has_failed_is_let_go_of_at_once(greenlets: Greenlets) -> None:
    class Large:
        pass

    kept: list[ref[Large]] = []

    def work() -> None:
        large = Large()
        kept.append(ref(large))
        raise KeyError

    gc.collect()
    gc.disable()
    try:
        with suppress(KeyError):
            await greenlets.run(work)
        assert kept[0]() is None
    finally:
        gc.enable()


async def test_a_function_that_is_cancelled_may_tidy_up_and_its_greenlet_serves_the_next(greenlets: Greenlets) -> None:
    begun, steps = asyncio.Event(), list[str]()

    def work() -> None:
        begun.set()
        try:
            await_only(asyncio.Event().wait())
        except asyncio.CancelledError:
            steps.append(str(await_only(given("tidied"))))
            raise

    task = asyncio.create_task(greenlets.run(work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert steps == ["tidied"]
    assert await greenlets.run(lambda: await_only(given("next"))) == "next"


async def test_each_function_has_the_context_of_its_task(greenlets: Greenlets) -> None:
    def work() -> list[str]:
        before = WHOSE.get()
        await_only(given(None))
        return [before, WHOSE.get()]

    async def as_somebody(name: str) -> list[str]:
        WHOSE.set(name)
        return await greenlets.run(work)

    names = [f"{number}'s" for number in range(4)]
    assert await asyncio.gather(*map(as_somebody, names)) == [[name, name] for name in names]
    assert await asyncio.gather(*map(as_somebody, reversed(names))) == [[name, name] for name in reversed(names)]
    assert await greenlets.run(work) == ["nobody's", "nobody's"]


async def test_nothing_that_was_given_or_answered_is_kept(greenlets: Greenlets) -> None:
    class Large:
        pass

    kept: list[ref[Large]] = []

    async def as_task() -> None:
        argument, answer, in_context = Large(), Large(), Large()
        kept.extend([ref(argument), ref(answer), ref(in_context)])
        HELD.set(in_context)
        await greenlets.run(lambda _argument: answer, argument)

    for _ in range(2):
        await asyncio.create_task(as_task())
    await asyncio.sleep(0)  # the loop lets go of the last task's step
    gc.collect()

    assert [each() for each in kept] == [None] * 6

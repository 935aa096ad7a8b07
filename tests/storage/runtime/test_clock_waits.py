"""Waiting for a time of a clock that is set meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from db.runtime import clock as clock_module
from db.runtime.clock import ClockWaits
from tests.client import TIMEOUT_SECONDS

HOUR = timedelta(hours=1)

MAX_NOTICE = timedelta(seconds=0.05)
"""Time after which a step of the clock has been noticed."""


class SettableClock:
    """The machine's clock, set ahead or back by `offset`."""

    def __init__(self) -> None:
        self.offset = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset


@pytest.fixture(autouse=True)
def frequent_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "CLOCK_CHECK_SECONDS", 0.01)


async def start(wait: Callable[[], Awaitable[None]]) -> "asyncio.Task[None]":
    """Start a task that waits, and return it when it waits."""
    is_waiting = asyncio.Event()

    async def run() -> None:
        is_waiting.set()
        await wait()

    task = asyncio.create_task(run())
    await is_waiting.wait()
    return task


async def test_a_wait_ends_when_the_clock_is_set_ahead_of_its_time() -> None:
    clock = SettableClock()
    waits = ClockWaits(clock.now)
    tasks = [await start(lambda: waits.wait(asyncio.Event(), clock.now() + HOUR)) for _ in range(3)]

    clock.offset = 2 * HOUR

    async with asyncio.timeout(TIMEOUT_SECONDS):
        await asyncio.gather(*tasks)


async def test_a_wait_lasts_until_its_time_when_the_clock_is_set_back() -> None:
    clock = SettableClock()
    waits = ClockWaits(clock.now)
    event = asyncio.Event()
    until = clock.now() + timedelta(seconds=0.05)
    clock.offset = -HOUR

    task = await start(lambda: waits.wait(event, until))
    # A wait that starts later and ends first.
    await waits.wait(asyncio.Event(), clock.now() + timedelta(seconds=0.1))
    was_done = task.done()
    event.set()
    await task

    assert not was_done


async def test_a_step_ends_no_wait_for_a_later_time() -> None:
    clock = SettableClock()
    waits = ClockWaits(clock.now)
    event = asyncio.Event()
    later = await start(lambda: waits.wait(event, clock.now() + 3 * HOUR))
    sooner = await start(lambda: waits.wait(event, clock.now() + HOUR))

    clock.offset = 2 * HOUR
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await sooner
    was_done = later.done()
    event.set()
    await later

    assert not was_done


@pytest.mark.parametrize("step", [2 * HOUR, -2 * HOUR])
async def test_a_wait_for_seconds_ends_when_they_have_elapsed_although_the_clock_is_set(step: timedelta) -> None:
    clock, elapsed = SettableClock(), 0.0
    waits = ClockWaits(clock.now, lambda: elapsed)
    waiting = await start(lambda: waits.wait(asyncio.Event(), seconds=3600))

    clock.offset = step
    # A wait that ends when the step has been noticed.
    noticing = await start(lambda: ClockWaits(clock.now).wait(asyncio.Event(), clock.now() + 2 * MAX_NOTICE))
    await noticing
    was_done = waiting.done()
    elapsed = 3600.0
    clock.offset = 2 * step

    async with asyncio.timeout(TIMEOUT_SECONDS):
        await waiting
    assert not was_done


async def test_a_set_event_ends_the_wait() -> None:
    waits = ClockWaits(SettableClock().now)
    event = asyncio.Event()
    task = await start(lambda: waits.wait(event, None))

    event.set()

    async with asyncio.timeout(TIMEOUT_SECONDS):
        await task


async def test_no_timer_remains_when_nothing_waits() -> None:
    clock = SettableClock()
    waits = ClockWaits(clock.now)

    await waits.wait(asyncio.Event(), clock.now() + timedelta(seconds=0.02))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while waits._check_timer is not None:  # noqa: ASYNC110 - a timer of the event loop ends it
            await asyncio.sleep(clock_module.CLOCK_CHECK_SECONDS)

"""Deadlines, and the timer that callbacks with one timeout share: cancelled callbacks are not called."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from db.runtime.deadlines import Deadline, SharedTimer


class Loop:
    """A fake event loop with a manual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, callback: Callable[[], None]) -> object:
        self.timers.append((at, callback))
        return object()

    def advance_to(self, now: float) -> None:
        """Set the time and call the timers that are due."""
        self.now = now
        due, self.timers = self.timers, []
        for at, callback in due:
            callback() if at <= now else self.timers.append((at, callback))


class RecordingCallback:
    """A timeout callback that records when it was called."""

    def __init__(self, loop: Loop) -> None:
        self.loop: Any = loop
        self.called_at: list[float] = []

    def on_timeout(self) -> None:
        self.called_at.append(self.loop.now)


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def timer() -> SharedTimer:
    return SharedTimer(10)


def schedule_at(timer: SharedTimer, loop: Loop, *times: float) -> list[RecordingCallback]:
    """Schedule one callback at each of these times and return the callbacks."""
    callbacks: list[RecordingCallback] = []
    for loop.now in times:
        callbacks.append(RecordingCallback(loop))
        timer.schedule(callbacks[-1])
    return callbacks


def test_each_callback_is_called_once_when_its_timeout_expires(timer: SharedTimer, loop: Loop) -> None:
    first, second, third = schedule_at(timer, loop, 0, 1, 1)

    for now in (9.9, 10, 10.9, 11, 30):
        loop.advance_to(now)

    assert (first.called_at, second.called_at, third.called_at) == ([10], [11], [11])


def test_cancelled_callbacks_are_not_called(timer: SharedTimer, loop: Loop) -> None:
    first, second, third = schedule_at(timer, loop, 0, 1, 2)
    timer.cancel(first)
    timer.cancel(third)

    for now in (10, 11, 12):
        loop.advance_to(now)

    assert (first.called_at, second.called_at, third.called_at) == ([], [11], [])


def test_all_callbacks_share_one_timer_and_none_is_left_without_callbacks(timer: SharedTimer, loop: Loop) -> None:
    for _ in range(100):
        (each,) = schedule_at(timer, loop, 0)
        timer.cancel(each)
    assert [at for at, _ in loop.timers] == [10]

    loop.advance_to(10)
    assert loop.timers == []

    (after_a_pause,) = schedule_at(timer, loop, 50)
    loop.advance_to(60)
    assert after_a_pause.called_at == [60]


def test_a_callback_can_schedule_and_cancel_others(timer: SharedTimer, loop: Loop) -> None:
    first, second = schedule_at(timer, loop, 0, 0)
    third = RecordingCallback(loop)

    def on_timeout() -> None:
        timer.cancel(second)
        timer.schedule(third)

    first.on_timeout = on_timeout
    loop.advance_to(10)
    assert [at for at, _ in loop.timers] == [20]
    loop.advance_to(20)

    assert (second.called_at, third.called_at) == ([], [20])


def test_other_callbacks_are_called_even_if_one_fails(timer: SharedTimer, loop: Loop) -> None:
    first, second = schedule_at(timer, loop, 0, 0)

    def on_timeout() -> None:
        raise RuntimeError("it fails")

    first.on_timeout = on_timeout
    with pytest.raises(RuntimeError):
        loop.advance_to(10)
    loop.advance_to(10)

    assert second.called_at == [10]


def test_another_event_loop_has_its_own_timer(timer: SharedTimer, loop: Loop) -> None:
    schedule_at(timer, loop, 0)
    other = Loop()
    (of_other,) = schedule_at(timer, other, 5)

    other.advance_to(15)

    assert of_other.called_at == [15]


async def test_a_field_may_extend_the_deadline() -> None:
    deadline = Deadline(SharedTimer(0))
    deadline.extend(3600)

    # A deadline of zero seconds would expire in the next iteration of the event loop.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not deadline.uncancel()
    deadline.end()


async def test_a_deadline_may_be_extended_several_times() -> None:
    deadline = Deadline(SharedTimer(0))
    deadline.extend(0)
    deadline.extend(3600)

    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not deadline.uncancel()
    deadline.end()


async def test_a_deadline_does_not_claim_a_cancellation_by_others() -> None:
    async def work() -> bool:
        deadline = Deadline(SharedTimer(0))
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return deadline.uncancel()
        finally:
            deadline.end()
        return True

    assert await work() is False
    current = asyncio.current_task()
    assert current is not None
    current.uncancel()


async def test_an_expired_deadline_leaves_no_pending_cancellation_behind() -> None:
    current = asyncio.current_task()
    assert current is not None
    deadline = Deadline(SharedTimer(0))
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    assert current.cancelling() == 1

    deadline.end()

    assert current.cancelling() == 0
    assert not deadline.uncancel()

"""Alarms of one length ring when their time is over, by one timer, and those that are unset do not."""

from collections.abc import Callable
from typing import Any

import pytest

from db.runtime.deadlines import Alarms


class Loop:
    """An event loop whose time is ours."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, ring: Callable[[], None]) -> object:
        self.timers.append((at, ring))
        return object()

    def go_to(self, now: float) -> None:
        """Let this be the time, and all timers ring that are due."""
        self.now = now
        due, self.timers = self.timers, []
        for at, ring in due:
            ring() if at <= now else self.timers.append((at, ring))


class Rings:
    """An alarm that notes when it rang."""

    def __init__(self, loop: Loop) -> None:
        self.loop: Any = loop
        self.rang: list[float] = []

    def ring(self) -> None:
        self.rang.append(self.loop.now)


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def alarms() -> Alarms:
    return Alarms(10)


def set_at(alarms: Alarms, loop: Loop, *moments: float) -> list[Rings]:
    """Alarms that are set at these moments."""
    made: list[Rings] = []
    for loop.now in moments:
        made.append(Rings(loop))
        alarms.set(made[-1])
    return made


def test_each_rings_once_when_its_time_is_over(alarms: Alarms, loop: Loop) -> None:
    first, second, third = set_at(alarms, loop, 0, 1, 1)

    for now in (9.9, 10, 10.9, 11, 30):
        loop.go_to(now)

    assert (first.rang, second.rang, third.rang) == ([10], [11], [11])


def test_those_that_are_unset_do_not_ring(alarms: Alarms, loop: Loop) -> None:
    first, second, third = set_at(alarms, loop, 0, 1, 2)
    alarms.unset(first)
    alarms.unset(third)

    for now in (10, 11, 12):
        loop.go_to(now)

    assert (first.rang, second.rang, third.rang) == ([], [11], [])


def test_one_timer_serves_them_all_and_none_is_left_where_none_is_set(alarms: Alarms, loop: Loop) -> None:
    for _ in range(100):
        (each,) = set_at(alarms, loop, 0)
        alarms.unset(each)
    assert [at for at, _ in loop.timers] == [10]

    loop.go_to(10)
    assert loop.timers == []

    (after_a_pause,) = set_at(alarms, loop, 50)
    loop.go_to(60)
    assert after_a_pause.rang == [60]


def test_what_rings_may_set_and_unset_others(alarms: Alarms, loop: Loop) -> None:
    first, second = set_at(alarms, loop, 0, 0)
    third = Rings(loop)

    def ring() -> None:
        alarms.unset(second)
        alarms.set(third)

    first.ring = ring
    loop.go_to(10)
    assert [at for at, _ in loop.timers] == [20]
    loop.go_to(20)

    assert (second.rang, third.rang) == ([], [20])


def test_others_ring_even_if_one_fails(alarms: Alarms, loop: Loop) -> None:
    first, second = set_at(alarms, loop, 0, 0)

    def ring() -> None:
        raise RuntimeError("it fails")

    first.ring = ring
    with pytest.raises(RuntimeError):
        loop.go_to(10)
    loop.go_to(10)

    assert second.rang == [10]


def test_another_event_loop_has_a_timer_of_its_own(alarms: Alarms, loop: Loop) -> None:
    set_at(alarms, loop, 0)
    other = Loop()
    (of_other,) = set_at(alarms, other, 5)

    other.go_to(15)

    assert of_other.rang == [15]

"""The database clock: servers on one PostgreSQL database share its time, whatever their system clocks say."""

import time
from datetime import UTC, datetime, timedelta

from db.postgresql.notifier import DatabaseClock

HOUR = timedelta(hours=1)
TOLERANCE = timedelta(seconds=30)


def is_about(shown: datetime, expected: datetime) -> bool:
    return abs(shown - expected) < TOLERANCE


def test_the_clock_continues_from_the_time_of_the_database() -> None:
    clock = DatabaseClock()
    ahead = datetime.now(UTC) + HOUR

    clock.set(ahead, time.monotonic() - 0.5, error=0.001)

    first, second = clock.now(), clock.now()
    assert ahead + timedelta(seconds=0.5) <= first <= second
    assert is_about(first, ahead)


def test_a_less_precise_reading_changes_nothing() -> None:
    clock = DatabaseClock()
    ahead = datetime.now(UTC) + HOUR
    clock.set(ahead, time.monotonic(), error=0.001)

    clock.set(ahead + HOUR, time.monotonic(), error=0.5)

    assert is_about(clock.now(), ahead)


def test_the_first_reading_after_a_reconnect_replaces_the_time() -> None:
    clock = DatabaseClock()
    ahead = datetime.now(UTC) + HOUR
    clock.set(ahead, time.monotonic(), error=0.001)

    clock.accept_next_reading()
    clock.set(ahead + HOUR, time.monotonic(), error=0.5)

    assert is_about(clock.now(), ahead + HOUR)


def test_the_clock_never_goes_back() -> None:
    clock = DatabaseClock()
    ahead = datetime.now(UTC) + HOUR
    clock.set(ahead, time.monotonic(), error=0.001)
    shown = clock.now()

    clock.accept_next_reading()
    clock.set(ahead - HOUR, time.monotonic(), error=0.001)

    assert clock.now() == shown

"""Servers on one PostgreSQL go by its clock, however wrong their machines' are."""

import time
from datetime import UTC, datetime, timedelta

from db.postgresql.notifier import DatabaseClock

HOUR = timedelta(hours=1)
NEARLY = timedelta(seconds=30)


def is_about(shown: datetime, expected: datetime) -> bool:
    return abs(shown - expected) < NEARLY


def test_it_shows_what_the_database_showed_and_goes_on_from_there() -> None:
    clock = DatabaseClock()
    ahead = datetime.now(UTC) + HOUR

    clock.set(ahead, time.monotonic() - 0.5, error=0.001)

    first, second = clock.now(), clock.now()
    assert ahead + timedelta(seconds=0.5) <= first <= second
    assert is_about(first, ahead)


def test_a_reading_that_is_less_exact_changes_nothing() -> None:
    clock = DatabaseClock()
    ahead = datetime.now(UTC) + HOUR
    clock.set(ahead, time.monotonic(), error=0.001)

    clock.set(ahead + HOUR, time.monotonic(), error=0.5)

    assert is_about(clock.now(), ahead)


def test_a_new_connection_may_be_to_another_machine_whose_first_reading_counts() -> None:
    clock = DatabaseClock()
    ahead = datetime.now(UTC) + HOUR
    clock.set(ahead, time.monotonic(), error=0.001)

    clock.forget()
    clock.set(ahead + HOUR, time.monotonic(), error=0.5)

    assert is_about(clock.now(), ahead + HOUR)


def test_it_never_goes_back() -> None:
    clock = DatabaseClock()
    ahead = datetime.now(UTC) + HOUR
    clock.set(ahead, time.monotonic(), error=0.001)
    shown = clock.now()

    clock.forget()
    clock.set(ahead - HOUR, time.monotonic(), error=0.001)

    assert clock.now() == shown

"""The current time, as an object that tests can replace."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from math import inf
from typing import Protocol

CLOCK_CHECK_SECONDS = 2.0
"""Interval at which waiting tasks read the machine's clock again, because it may have been set."""

MIN_STEP_SECONDS = 0.1
"""Smallest step of a clock after which waiting tasks calculate their remaining time again."""

MAX_TIMER_SECONDS = 86_400.0
"""Maximum duration of one timer of the event loop. Longer waits use several."""


class Clock(Protocol):
    """A source of the current time, which can also wait for a time."""

    def now(self) -> datetime:
        """Return the current time as an aware datetime in UTC. May be called from any thread."""
        ...

    def elapsed(self) -> float:
        """Return the seconds since an arbitrary time. Setting a clock does not change them. Callable from any thread.

        The time in which the machine was suspended counts on Linux; other systems may omit it.
        """
        ...

    async def wait(self, event: asyncio.Event, until: datetime | None = None, *, seconds: float | None = None) -> None:
        """Wait until `event` is set, the clock shows `until`, or `seconds` have elapsed, whichever is first.

        Setting the clock does not change when `seconds` have elapsed. Without both, waits for the event only.
        """
        ...


def elapsed_seconds() -> float:
    """Return the seconds since the machine was started, as `Clock.elapsed`."""
    return time.clock_gettime(_BOOT_CLOCK) if _BOOT_CLOCK is not None else time.monotonic()


_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class SystemClock:
    """The machine's clock, which people and programs may set."""

    def __init__(self) -> None:
        self._waits = ClockWaits(self.now, self.elapsed)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def elapsed(self) -> float:
        return elapsed_seconds()

    async def wait(self, event: asyncio.Event, until: datetime | None = None, *, seconds: float | None = None) -> None:
        await self._waits.wait(event, until, seconds=seconds)


class ClockWaits:
    """Waits for times of a clock that may be set.

    Timers of the event loop measure durations and do not notice when the clock is set. While tasks wait, one timer
    compares the two. After a difference, all tasks calculate their remaining time again.
    """

    def __init__(self, now: Callable[[], datetime], elapsed: Callable[[], float] = elapsed_seconds) -> None:
        self._now = now
        self._elapsed = elapsed
        self._timeouts: set[asyncio.Timeout] = set()
        self._check_timer: asyncio.TimerHandle | None = None
        self._difference = 0.0
        """The clock's time minus that of the event loop, in seconds."""

    async def wait(self, event: asyncio.Event, until: datetime | None = None, *, seconds: float | None = None) -> None:
        """As `Clock.wait`."""
        if until is None and seconds is None:
            await event.wait()
            return
        until_elapsed = None if seconds is None else self._elapsed() + seconds
        while not event.is_set() and (remaining := self._remaining_seconds(until, until_elapsed)) > 0:
            timeout = asyncio.timeout(min(remaining, MAX_TIMER_SECONDS))
            self._add(timeout)
            try:
                async with timeout:
                    await event.wait()
            except TimeoutError:
                continue
            finally:
                self._timeouts.discard(timeout)

    def _remaining_seconds(self, until: datetime | None, until_elapsed: float | None) -> float:
        by_clock = inf if until is None else (until - self._now()).total_seconds()
        return by_clock if until_elapsed is None else min(by_clock, until_elapsed - self._elapsed())

    def _add(self, timeout: asyncio.Timeout) -> None:
        self._timeouts.add(timeout)
        if self._check_timer is None:
            self._difference = self._read_difference()
            self._start_check_timer()

    def _start_check_timer(self) -> None:
        self._check_timer = asyncio.get_running_loop().call_later(CLOCK_CHECK_SECONDS, self._check)

    def _check(self) -> None:
        self._check_timer = None
        if not self._timeouts:
            return
        self._start_check_timer()
        difference = self._read_difference()
        if abs(difference - self._difference) > MIN_STEP_SECONDS:
            self._difference = difference
            now = asyncio.get_running_loop().time()
            for timeout in self._timeouts:
                if not timeout.expired():
                    timeout.reschedule(now)

    def _read_difference(self) -> float:
        return self._now().timestamp() - asyncio.get_running_loop().time()

"""The clock of a PostgreSQL database, which all servers on the database share.

Its time is read at intervals and extrapolated with a clock of this machine that cannot be set. The machine's own time
of day does not matter.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from db.runtime.clock import ClockWaits, elapsed_seconds

log = logging.getLogger("runyard.database")

MAX_DRIFT = 0.0001
"""Upper bound for the drift between the clocks of two machines, in seconds per second."""

STEP_SECONDS = 2.0
"""Smallest difference between a reading and the extrapolation that counts as a step: the clock was set."""

FOLLOW_STEP_AFTER_SECONDS = 60.0
"""How long a step must last before it is followed."""


class DatabaseClock:
    """The database's clock. It always advances, and never goes back.

    A small difference is adopted with the next reading. Where the new time is behind, the clock advances at half speed
    until the time is reached. A step of more than STEP_SECONDS is followed when all readings of
    FOLLOW_STEP_AFTER_SECONDS have shown it, or when another server follows it.
    """

    def __init__(self, elapsed: Callable[[], float] = elapsed_seconds) -> None:
        """`elapsed`: as `Clock.elapsed`."""
        self._elapsed = elapsed
        self._waits = ClockWaits(self.now, elapsed)
        self._step_listeners: list[Callable[[], None]] = []
        self._read_time: datetime | None = None
        """Time of the last accepted reading."""
        self._read_at = 0.0
        self._error = 0.0
        """Maximum error of that reading, in seconds."""
        self._accepts_any_precision = False
        self._follows_next_step = False
        self._held: tuple[datetime, float] | None = None
        """If the reading was behind the time that the clock showed: that time, and the elapsed time then."""
        self._step: tuple[float, float] | None = None
        """The step that is not yet followed, in seconds, and the elapsed time at its first reading."""

    def on_step(self, callback: Callable[[], None]) -> None:
        """Call `callback` when a step of the database's clock is followed, directly before the time changes."""
        self._step_listeners.append(callback)

    def now(self) -> datetime:
        """Return the time. The clock must have been read (`set`)."""
        assert self._read_time is not None
        elapsed = self._elapsed()
        now = self._read_time + timedelta(seconds=elapsed - self._read_at)
        if self._held is None:
            return now
        held_time, held_at = self._held
        return max(now, held_time + timedelta(seconds=(elapsed - held_at) / 2))

    def elapsed(self) -> float:
        return self._elapsed()

    async def wait(self, event: asyncio.Event, until: datetime | None = None, *, seconds: float | None = None) -> None:
        await self._waits.wait(event, until, seconds=seconds)

    def set(self, database_time: datetime, read_at: float, error: float) -> None:
        """Record that the database's clock showed `database_time`, ± `error` seconds, at the elapsed time `read_at`.

        A reading that is less precise than the extrapolation is ignored: a busy machine reads late.
        """
        if self._read_time is None:
            self._accept(database_time, read_at, error)
            return
        extrapolation_error = self._error + MAX_DRIFT * (read_at - self._read_at)
        extrapolated = self._read_time + timedelta(seconds=read_at - self._read_at)
        difference = (database_time - extrapolated).total_seconds()
        if abs(difference) > STEP_SECONDS + error + extrapolation_error:
            self._record_step(difference, database_time, read_at, error)
            return
        self._step = None
        agrees = abs(difference) <= error + extrapolation_error
        if error <= extrapolation_error or (self._accepts_any_precision and not agrees):
            self._accept(database_time, read_at, error)
        self._accepts_any_precision = False

    def accept_next_reading(self) -> None:
        """Accept the next reading at any precision, because it may come from another machine, unless it shows a step."""
        self._accepts_any_precision = True

    def follow_next_step(self) -> None:
        """Follow a step with the next reading that shows it, because another server does."""
        self._follows_next_step = True

    def _record_step(self, difference: float, database_time: datetime, read_at: float, error: float) -> None:
        if self._step is None or abs(difference - self._step[0]) > STEP_SECONDS:
            self._step = difference, read_at
            log.warning(
                "The database's clock was set %s by %.1f seconds. The step is followed if it lasts for %d seconds.",
                "ahead" if difference > 0 else "back",
                abs(difference),
                FOLLOW_STEP_AFTER_SECONDS,
            )
        if self._follows_next_step or read_at - self._step[1] >= FOLLOW_STEP_AFTER_SECONDS:
            log.warning("The step of the database's clock by %.1f seconds has lasted and is followed.", difference)
            for callback in self._step_listeners:
                callback()
            self._step = None
            self._accept(database_time, read_at, error)

    def _accept(self, database_time: datetime, read_at: float, error: float) -> None:
        shown = None if self._read_time is None else (self.now(), self._elapsed())
        self._read_time, self._read_at, self._error = database_time, read_at, error
        self._accepts_any_precision, self._follows_next_step, self._held = False, False, None
        if shown is not None and shown[0] > self.now():
            self._held = shown

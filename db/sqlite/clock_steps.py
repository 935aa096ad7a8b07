"""Steps of the machine's clock, after which the stored ends of leases are shifted.

A lease lasts for a duration, and is stored as the time at which it ends. When the clock is set, that time has to
follow.
"""

import logging
from datetime import datetime

from db.runtime.clock import Clock

log = logging.getLogger("runyard.database")

MIN_STEP_SECONDS = 2.0
"""Smallest step after which leases are shifted. Smaller ones add up until they reach it."""


class ClockSteps:
    """Compares the time of day with the elapsed time. Used by one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        _, self._handled = self._read()

    def unhandled(self) -> tuple[float, datetime]:
        """Return by how many seconds the clock was set ahead since the last handled step, and the time it shows.

        The step is negative when the clock was set back, and 0 when it is smaller than MIN_STEP_SECONDS.
        """
        now, difference = self._read()
        step = difference - self._handled
        return (step if abs(step) >= MIN_STEP_SECONDS else 0.0), now

    def mark_handled(self, step: float) -> None:
        """Record that the leases were shifted by `step` seconds. 0 changes nothing."""
        if step:
            self._handled += step
            log.warning(
                "The machine's clock was set %s by %.1f seconds. Leases keep their remaining time.",
                "ahead" if step > 0 else "back",
                abs(step),
            )

    def _read(self) -> tuple[datetime, float]:
        """Return the time, and its difference to the elapsed time in seconds."""
        now = self._clock.now()
        return now, now.timestamp() - self._clock.elapsed()

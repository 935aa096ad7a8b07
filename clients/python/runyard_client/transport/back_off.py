"""Delays between attempts."""

import random
from collections.abc import Callable

FIRST_SECONDS = 0.1
MAX_SECONDS = 15.0


class BackOff:
    """Exponential back-off with full jitter: each delay is random, up to a limit that doubles from 0.1 s to 15 s.

    Args:
        chance: returns a random number from 0 to 1.
    """

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._ceiling = FIRST_SECONDS

    def next_delay(self) -> float:
        """Return the time to wait before the next attempt, in seconds."""
        ceiling, self._ceiling = self._ceiling, min(self._ceiling * 2, MAX_SECONDS)
        return ceiling * self._chance()

    def reset(self) -> None:
        """Begin again with the shortest delay, after a success."""
        self._ceiling = FIRST_SECONDS

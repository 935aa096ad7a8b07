"""Figures that a server keeps about its own work: plain numbers, added to where the work is done, read by whoever asks.

Adding costs less than a microsecond and knows nothing of who reads. Each is added to by one thread alone.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ITEMS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)


class Distribution:
    """How often values were how large."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """How many values were at most each bound and above the one before; last, how many were above all."""
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(slots=True)
class Commits:
    """What transactions that wrote were like."""

    items: Distribution = field(default_factory=lambda: Distribution(ITEMS))
    """The items of all requests that were gathered into it."""
    seconds: Distribution = field(default_factory=lambda: Distribution(SECONDS))
    """From the first statement until it was on disk, or given up."""
    waits: Distribution = field(default_factory=lambda: Distribution(SECONDS))
    """How long requests waited until a transaction was begun for them."""


@dataclass(frozen=True, slots=True)
class Connections:
    """A pool of connections to the database."""

    used: int
    idle: int
    most: int
    waiting: int
    """How many wait for a connection."""
    waits: Distribution
    """How long those waited who got one, or gave up."""

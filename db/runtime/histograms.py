"""Statistics that a server records about itself: plain numbers, updated where the work is done and read by metrics.

An update costs less than a microsecond and does not depend on readers. Each object is updated by a single thread.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RUN_SECONDS_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
"""For task runs, which may take milliseconds or a day."""
ITEM_BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)


class Histogram:
    """Distribution of values over buckets."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Number of values in each bucket: at most its bound, above the previous one. The last bucket has no bound."""
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(slots=True)
class CommitStats:
    """Statistics of transactions that wrote."""

    items: Histogram = field(default_factory=lambda: Histogram(ITEM_BUCKETS))
    """Number of items in a transaction, over all its requests."""
    duration_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS_BUCKETS))
    """Duration of a transaction from its first statement until it was durable or had failed."""
    wait_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS_BUCKETS))
    """How long requests waited for a transaction to begin."""


@dataclass(frozen=True, slots=True)
class ConnectionPoolStats:
    """Statistics of a pool of database connections."""

    used: int
    idle: int
    max_size: int
    waiting: int
    """Number of callers that wait for a connection."""
    wait_seconds: Histogram
    """How long callers waited until they received a connection or stopped waiting."""

"""Limits on the number of waiting runs on each side of a task key's queue.

The limits apply to runs that clients add. Runs that rules or the lease sweeper requeue are always accepted, because a
reported failure must not be lost.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from db.connection import Connection
from db.runtime.timestamps import seconds_between
from db.statements import queue_stats
from db.statements.queue_stats import Side
from resolvers.errors import QueueFull

COUNT_TTL_SECONDS = 1.0
"""Time for which a cached count is used when other servers add runs to the same queues."""

MAX_CACHED_COUNTS = 10_000
"""Maximum number of cached counts."""


@dataclass(slots=True)
class _Headroom:
    """Number of runs that may be added to a side without counting it again, and the time of the last count."""

    remaining: int
    counted_at: str


@dataclass(slots=True)
class CapacityReservation:
    """Number of runs that one batch of changes may add to each side."""

    capacity: "QueueCapacity"
    remaining: Mapping[Side, int]
    argument: str
    """Name of the argument in a refusal."""
    reserved: Counter[Side] = field(default_factory=Counter[Side])

    def reserve(self, side: Side) -> None:
        """Reserve capacity for one run on a side of this reservation. Raises QueueFull when none is left."""
        if self.reserved[side] >= self.remaining[side]:
            task_key, is_retry = side
            raise QueueFull(self.argument, task_key, is_retry=is_retry, limit=self.capacity.max_waiting(side))
        self.reserved[side] += 1
        self.capacity.count_added(side)


class QueueCapacity:
    """The limits of the queues, and cached counts of their remaining capacity.

    Counting a side reads all of its waiting runs, so one count is used for as many runs as it leaves capacity for. When
    other servers add runs to the same queues, it is used for half of that capacity and for `COUNT_TTL_SECONDS`. Cached
    counts are hints: a run is refused only after a new count.
    """

    def __init__(self, *, max_scheduled: int, max_retry: int, is_shared: bool) -> None:
        self.max_scheduled = max_scheduled
        self.max_retry = max_retry
        self._is_shared = is_shared
        self._headroom: dict[Side, _Headroom] = {}

    def max_waiting(self, side: Side) -> int:
        """Return the maximum number of waiting runs of the side."""
        return self.max_retry if side[1] else self.max_scheduled

    def begin_reservation(self, connection: Connection, sides: Iterable[Side], *, argument: str) -> CapacityReservation:
        """Return a reservation for a batch that adds at most one run for each item of `sides`, which may repeat a side.

        Costs one statement when the batch may exceed a cached count, otherwise none.
        """
        requested = Counter(sides)
        remaining: dict[Side, int] = {}
        for side, count in requested.items():
            cached = self._cached_remaining(side, connection.now)
            if cached is not None and count <= cached:
                remaining[side] = count
        if uncached := requested.keys() - remaining.keys():
            for side, count in queue_stats.count_waiting(connection, uncached).items():
                remaining[side] = max(0, self.max_waiting(side) - count)
                self._cache_remaining(side, remaining[side], connection.now)
        return CapacityReservation(self, remaining, argument)

    def without_cached_counts(self) -> "QueueCapacity":
        """Return the same limits for decisions that add no runs, and must not change the cached counts."""
        return QueueCapacity(max_scheduled=self.max_scheduled, max_retry=self.max_retry, is_shared=self._is_shared)

    def count_added(self, side: Side) -> None:
        """Reduce the cached capacity of a side by an added run."""
        if cached := self._headroom.get(side):
            cached.remaining -= 1

    def _cached_remaining(self, side: Side, now: str) -> int | None:
        cached = self._headroom.get(side)
        if cached is None or (self._is_shared and abs(seconds_between(cached.counted_at, now)) > COUNT_TTL_SECONDS):
            return None
        return cached.remaining

    def _cache_remaining(self, side: Side, remaining: int, now: str) -> None:
        _, is_retry = side
        if is_retry:
            # A cached count would be wrong: rules and the lease sweeper add to the retry side without a reservation.
            return
        if len(self._headroom) >= MAX_CACHED_COUNTS:
            self._headroom.clear()
        self._headroom[side] = _Headroom(remaining // 2 if self._is_shared else remaining, now)

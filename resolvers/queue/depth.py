"""Queue depths for metrics: of a bounded number of task keys, and of all others together."""

from collections.abc import Mapping
from dataclasses import dataclass

from db.connection import Connection
from db.records import QueueStats
from db.runtime.timestamps import seconds_between
from db.statements.queue_stats import read_queue_stats

OTHER = "other"
"""Key for the sum of all queues that are not listed separately."""


@dataclass(slots=True)
class QueueDepth:
    """Numbers of runs in one queue, or in several queues together."""

    scheduled: int = 0
    retry: int = 0
    delayed: int = 0
    leased: int = 0
    oldest_wait_seconds: float = 0.0
    """Time for which the oldest due run has been due; 0 if no run is due."""

    @classmethod
    def of(cls, stats: QueueStats, now: str) -> "QueueDepth":
        wait = 0.0 if stats.oldest_due_at is None else max(0.0, seconds_between(stats.oldest_due_at, now))
        return cls(stats.scheduled, stats.retry, stats.delayed, stats.leased, wait)

    @property
    def runs(self) -> int:
        return self.scheduled + self.retry + self.delayed + self.leased

    def add(self, other: "QueueDepth") -> None:
        """Add the depth of another queue."""
        self.scheduled += other.scheduled
        self.retry += other.retry
        self.delayed += other.delayed
        self.leased += other.leased
        self.oldest_wait_seconds = max(self.oldest_wait_seconds, other.oldest_wait_seconds)


def read_depths(connection: Connection, limit: int) -> dict[str, QueueDepth]:
    """Return the depths of the `limit` deepest non-empty queues by task key, and of all others together as `other`."""
    queues = read_queue_stats(connection, None)
    return limit_depths({key: QueueDepth.of(stats, connection.now) for key, stats in queues.items()}, limit)


def limit_depths(depths: Mapping[str, QueueDepth], limit: int) -> dict[str, QueueDepth]:
    """Keep the `limit` deepest of these queues and add all others together as `other`."""
    deepest = sorted(depths, key=lambda key: (-depths[key].runs, key))
    named = {key: depths[key] for key in deepest[:limit] if key != OTHER}
    if len(named) < len(depths):
        rest = QueueDepth()
        for key in depths.keys() - named.keys():
            rest.add(depths[key])
        named[OTHER] = rest
    return named

"""Queue statistics by task key: numbers of runs in the database, and of subscribers at this server."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from db.connection import Connection
from db.records import QueueStats
from db.runtime.timestamps import seconds_between
from db.statements.queue_pauses import paused_queues
from db.statements.queue_stats import read_queue_stats
from resolvers.queue.capacity import QueueCapacity
from resolvers.queue.queue_ids import encode_queue_id


@dataclass(frozen=True, slots=True)
class TaskQueueStats:
    """Queue statistics and limits of one task key."""

    task_key: str
    scheduled: int
    retry: int
    delayed: int
    leased: int
    oldest_wait_seconds: float | None
    subscribers: int
    max_scheduled: int
    max_retry: int
    paused_at: str | None
    """When the queue was paused; None when it is not paused."""

    @property
    def is_paused(self) -> bool:
        return self.paused_at is not None

    @property
    def id(self) -> str:
        return encode_queue_id(self.task_key)


def read_task_queues(
    connection: Connection, task_keys: Sequence[str] | None, subscriber_counts: Counter[str], capacity: QueueCapacity
) -> list[TaskQueueStats]:
    """Return the statistics of these keys, in the same order.

    Without `task_keys`, returns those of every key that is paused, has runs in its queue or subscribers, sorted by key.
    """
    found = read_queue_stats(connection, task_keys)
    paused = paused_queues(connection, task_keys)
    keys = sorted(found.keys() | paused.keys() | subscriber_counts.keys()) if task_keys is None else task_keys
    return [
        _to_stats(
            found.get(key) or QueueStats(key),
            subscriber_counts[key],
            capacity,
            connection.now,
            paused_at=paused.get(key),
        )
        for key in keys
    ]


def _to_stats(
    stats: QueueStats, subscribers: int, capacity: QueueCapacity, now: str, *, paused_at: str | None
) -> TaskQueueStats:
    return TaskQueueStats(
        task_key=stats.task_key,
        scheduled=stats.scheduled,
        retry=stats.retry,
        delayed=stats.delayed,
        leased=stats.leased,
        oldest_wait_seconds=None
        if stats.oldest_due_at is None
        else max(0.0, seconds_between(stats.oldest_due_at, now)),
        subscribers=subscribers,
        max_scheduled=capacity.max_scheduled,
        max_retry=capacity.max_retry,
        paused_at=paused_at,
    )

"""How it stands with each task key's queue: what waits and is leased, as the database has it, and who listens here."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from db.connection import Connection
from db.records import QueueFigures
from db.runtime.timestamps import seconds_between
from db.statements.queue_stats import queue_figures
from resolvers.queue.capacity import QueueBounds


@dataclass(frozen=True, slots=True)
class TaskQueueFigures:
    """One task key's queue at a glance."""

    task_key: str
    scheduled: int
    retry: int
    delayed: int
    leased: int
    oldest_wait_seconds: float | None
    subscribers: int
    max_scheduled: int
    max_retry: int


def read_task_queues(
    connection: Connection, task_keys: Sequence[str] | None, listening: Counter[str], bounds: QueueBounds
) -> list[TaskQueueFigures]:
    """The queues of these keys, in their order; or of every key with work or listeners, in the order of the keys."""
    found = queue_figures(connection, task_keys)
    keys = sorted(found.keys() | listening.keys()) if task_keys is None else task_keys
    return [_shown(found.get(key) or QueueFigures(key), listening[key], bounds, connection.now) for key in keys]


def _shown(figures: QueueFigures, subscribers: int, bounds: QueueBounds, now: str) -> TaskQueueFigures:
    return TaskQueueFigures(
        task_key=figures.task_key,
        scheduled=figures.scheduled,
        retry=figures.retry,
        delayed=figures.delayed,
        leased=figures.leased,
        oldest_wait_seconds=None if figures.oldest_due_at is None else seconds_between(figures.oldest_due_at, now),
        subscribers=subscribers,
        max_scheduled=bounds.max_scheduled,
        max_retry=bounds.max_retry,
    )

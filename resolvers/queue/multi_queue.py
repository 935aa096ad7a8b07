"""A fair choice over the queues of several task keys."""

from collections import deque
from collections.abc import Container, Iterable, Mapping

from db.records import QueueEntryRecord
from resolvers.queue.task_queue import TaskQueue


class MultiQueue:
    """Several task queues that take turns: no key waits more than one turn of each other key that has work."""

    def __init__(self, queues: Iterable[TaskQueue]) -> None:
        self._turns = deque(queues)

    @classmethod
    def of(
        cls,
        entries: Iterable[QueueEntryRecord],
        keys_in_turn: Iterable[str],
        retries_in_a_row: Mapping[str, int] | None = None,
    ) -> "MultiQueue":
        """The due runs `entries`, by key; the first of `keys_in_turn` has the first turn.

        `retries_in_a_row` is what their queues had of it when they were last looked at.
        """
        retries = retries_in_a_row or {}
        by_key: dict[str, list[QueueEntryRecord]] = {key: [] for key in keys_in_turn}
        for entry in entries:
            by_key[entry.task_key].append(entry)
        return cls(TaskQueue(key, of_key, retries.get(key, 0)) for key, of_key in by_key.items())

    def take(self, wanted: Container[str]) -> QueueEntryRecord | None:
        """The next run of a key that is wanted; None where no such key has any. The key then goes to the end of the line."""
        for place, queue in enumerate(self._turns):
            if len(queue) and queue.task_key in wanted:
                del self._turns[place]
                self._turns.append(queue)
                return queue.take()
        return None

    @property
    def retries_in_a_row(self) -> dict[str, int]:
        """For each key, how many of its retry side have gone out since the last of its scheduled side."""
        return {queue.task_key: queue.retries_in_a_row for queue in self._turns}

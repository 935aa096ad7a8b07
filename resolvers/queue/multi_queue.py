"""Round robin over the queues of several task keys."""

from collections import deque
from collections.abc import Container, Iterable, Mapping

from db.records import QueueEntryRecord
from resolvers.queue.task_queue import Admits, TaskQueue, admit_all


class MultiQueue:
    """Task queues that are served in turn: a key waits at most one turn of each other key that has due runs."""

    def __init__(self, queues: Iterable[TaskQueue]) -> None:
        self._queues = list(queues)
        # Most of many keys have no due run. Each run that is taken must not search them.
        self._nonempty = deque(queue for queue in self._queues if queue)

    @classmethod
    def of(
        cls,
        entries: Iterable[QueueEntryRecord],
        key_order: Iterable[str],
        consecutive_retries: Mapping[str, int] | None = None,
    ) -> "MultiQueue":
        """Group the due runs `entries` by task key. Keys are served in `key_order`, which must contain every key.

        `consecutive_retries`: the value of each queue after the previous claim.
        """
        retries = consecutive_retries or {}
        by_key: dict[str, list[QueueEntryRecord]] = {key: [] for key in key_order}
        for entry in entries:
            by_key[entry.task_key].append(entry)
        return cls(TaskQueue(key, of_key, retries.get(key, 0)) for key, of_key in by_key.items())

    def take(self, task_keys: Container[str], admits: Admits = admit_all) -> QueueEntryRecord | None:
        """Take the next run of one of `task_keys` that `admits` accepts and move its key to the end of the order.

        Drops the runs that are not accepted. Returns None if these keys have no other run.
        """
        for index, queue in enumerate(self._nonempty):
            if queue.task_key in task_keys and (entry := queue.take(admits)) is not None:
                del self._nonempty[index]
                if queue:
                    self._nonempty.append(queue)
                return entry
        return None

    @property
    def next_due_at(self) -> dict[str, str]:
        """Due time of the next run that has not been taken, by key. Keys without such a run are omitted."""
        return {queue.task_key: due_at for queue in self._nonempty if (due_at := queue.next_due_at) is not None}

    @property
    def consecutive_retries(self) -> dict[str, int]:
        """Number of runs taken from the retry side since the last run of the scheduled side, by key."""
        return {queue.task_key: queue.consecutive_retries for queue in self._queues}

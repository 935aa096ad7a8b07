"""One task key's due runs, as a claim has found them."""

from collections import deque
from collections.abc import Iterable

from db.records import QueueEntryRecord


class TaskQueue:
    """The due runs of one key in the order in which they are to go out: the retry side first, then by due time."""

    def __init__(self, task_key: str, entries: Iterable[QueueEntryRecord]) -> None:
        self.task_key = task_key
        self._entries = deque(
            sorted(entries, key=lambda each: (not each.is_retry, each.available_at, each.task_run_id))
        )

    def __len__(self) -> int:
        return len(self._entries)

    def take(self) -> QueueEntryRecord:
        """The run that is next; IndexError where there is none."""
        return self._entries.popleft()

"""Delivery order of the due runs of one task key, within one claim."""

from collections import deque
from collections.abc import Iterable

from db.records import QueueEntryRecord

MAX_CONSECUTIVE_RETRIES = 4
"""Number of runs taken from the retry side in a row before a due run of the scheduled side is taken."""


class TaskQueue:
    """The due runs of one key in delivery order: the retry side first, each side sorted by due time.

    A retry side that is never empty does not starve the scheduled side: see `MAX_CONSECUTIVE_RETRIES`.
    """

    def __init__(self, task_key: str, entries: Iterable[QueueEntryRecord], consecutive_retries: int = 0) -> None:
        """`consecutive_retries`: the value of this key's queue after the previous claim."""
        self.task_key = task_key
        self.consecutive_retries = consecutive_retries
        """Number of runs taken from the retry side since the last run of the scheduled side."""
        ordered = sorted(entries, key=lambda each: (each.available_at, each.task_run_id))
        self._retry = deque(each for each in ordered if each.is_retry)
        self._scheduled = deque(each for each in ordered if not each.is_retry)

    def __len__(self) -> int:
        return len(self._retry) + len(self._scheduled)

    def take(self) -> QueueEntryRecord:
        """Take the next run. Raises IndexError if the queue is empty."""
        if self._retry and (self.consecutive_retries < MAX_CONSECUTIVE_RETRIES or not self._scheduled):
            self.consecutive_retries += 1
            return self._retry.popleft()
        entry = self._scheduled.popleft()
        self.consecutive_retries = 0
        return entry

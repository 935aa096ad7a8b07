"""Delivery order of the due runs of one task key, within one claim."""

from collections import deque
from collections.abc import Callable, Iterable

from db.records import QueueEntryRecord

MAX_CONSECUTIVE_RETRIES = 4
"""Number of runs taken from the retry side in a row before a due run of the scheduled side is taken."""

Admits = Callable[[QueueEntryRecord], bool]
"""Returns whether a run can be delivered now."""


def admit_all(_entry: QueueEntryRecord) -> bool:
    return True


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

    def take(self, admits: Admits = admit_all) -> QueueEntryRecord | None:
        """Take the next run that `admits` accepts, and drop the runs before it. Return None when no run is left."""
        while self._retry or self._scheduled:
            is_retry_next = self.consecutive_retries < MAX_CONSECUTIVE_RETRIES or not self._scheduled
            side = self._retry if self._retry and is_retry_next else self._scheduled
            entry = side.popleft()
            if admits(entry):
                self.consecutive_retries = self.consecutive_retries + 1 if side is self._retry else 0
                return entry
        return None

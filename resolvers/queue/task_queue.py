"""One task key's due runs, as a claim has found them."""

from collections import deque
from collections.abc import Iterable

from db.records import QueueEntryRecord

MOST_RETRIES_IN_A_ROW = 4
"""How many runs of a key's retry side go out, where its scheduled side has some due, before one of these does."""


class TaskQueue:
    """The due runs of one key in the order in which they are to go out: the retry side first, then by due time.

    A retry side that never runs dry leaves the scheduled side a turn now and then.
    """

    def __init__(self, task_key: str, entries: Iterable[QueueEntryRecord], retries_in_a_row: int = 0) -> None:
        """`retries_in_a_row` is what the queue of this key had before it was looked at anew."""
        self.task_key = task_key
        self.retries_in_a_row = retries_in_a_row
        """How many of the retry side have gone out since the last of the scheduled side."""
        ordered = sorted(entries, key=lambda each: (each.available_at, each.task_run_id))
        self._retry = deque(each for each in ordered if each.is_retry)
        self._scheduled = deque(each for each in ordered if not each.is_retry)

    def __len__(self) -> int:
        return len(self._retry) + len(self._scheduled)

    def take(self) -> QueueEntryRecord:
        """The run that is next; IndexError where there is none."""
        if self._retry and (self.retries_in_a_row < MOST_RETRIES_IN_A_ROW or not self._scheduled):
            self.retries_in_a_row += 1
            return self._retry.popleft()
        entry = self._scheduled.popleft()
        self.retries_in_a_row = 0
        return entry

"""Delivery order of the due runs of one task key, within one claim."""

from collections import deque
from collections.abc import Callable, Iterable
from itertools import groupby

from db.records import QueueEntryRecord

MAX_CONSECUTIVE_RETRIES = 4
"""Number of runs taken from the retry side in a row before a due run of the scheduled side is taken."""

Admits = Callable[[QueueEntryRecord], bool]
"""Returns whether a run can be delivered now."""


def admit_all(_entry: QueueEntryRecord) -> bool:
    return True


class _Level:
    """The due runs of one priority, each side sorted by due time."""

    def __init__(self, ordered: Iterable[QueueEntryRecord]) -> None:
        self.retry, self.scheduled = deque[QueueEntryRecord](), deque[QueueEntryRecord]()
        for entry in ordered:
            (self.retry if entry.is_retry else self.scheduled).append(entry)


class TaskQueue:
    """The due runs of one key in delivery order: by priority, then the retry side first, each side sorted by due time.

    A retry side that is never empty does not starve the scheduled side of its priority: see `MAX_CONSECUTIVE_RETRIES`.
    """

    def __init__(self, task_key: str, entries: Iterable[QueueEntryRecord], consecutive_retries: int = 0) -> None:
        """`consecutive_retries`: the value of this key's queue after the previous claim."""
        self.task_key = task_key
        self.consecutive_retries = consecutive_retries
        """Number of runs taken from the retry side since the last run of the scheduled side."""
        ordered = sorted(entries, key=lambda each: (-each.priority, each.available_at, each.task_run_id))
        self._levels = deque(_Level(of_level) for _, of_level in groupby(ordered, lambda each: each.priority))
        """The runs by priority, highest first. None is empty."""

    def __len__(self) -> int:
        return sum(len(level.retry) + len(level.scheduled) for level in self._levels)

    @property
    def next_due_at(self) -> str | None:
        """Due time of the first run; None when no run is left."""
        sides = (side for level in self._levels for side in (level.retry, level.scheduled))
        return min((side[0].available_at for side in sides if side), default=None)

    def take(self, admits: Admits = admit_all) -> QueueEntryRecord | None:
        """Take the next run that `admits` accepts, and drop the runs before it. Return None when no run is left."""
        while self._levels:
            level = self._levels[0]
            is_retry_next = self.consecutive_retries < MAX_CONSECUTIVE_RETRIES or not level.scheduled
            side = level.retry if level.retry and is_retry_next else level.scheduled
            entry = side.popleft()
            if not (level.retry or level.scheduled):
                self._levels.popleft()
            if admits(entry):
                self.consecutive_retries = self.consecutive_retries + 1 if entry.is_retry else 0
                return entry
        return None

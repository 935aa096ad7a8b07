"""Metrics of task runs: how they end, how long they wait and run. Counts what this server has committed."""

from collections import Counter
from collections.abc import Sequence

from db.connection import Notification, TaskRunsMeasured
from db.runtime.histograms import RUN_SECONDS_BUCKETS, Histogram
from resolvers.queue.depth import OTHER

MAX_TASK_KEYS = 100
"""Number of task keys that are counted by themselves: those whose runs were the first to end. The others are `other`."""


class TaskRunMetrics:
    """Numbers since the start of the server. Pass `record` to `Database.listen`."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, str]] = Counter()
        """Number of runs that have ended, by task key and state type. A run that is rerun can end several times."""
        self.wait_seconds = Histogram(RUN_SECONDS_BUCKETS)
        """Delay between the expected and the first actual start of each run that has started."""
        self.run_seconds = Histogram(RUN_SECONDS_BUCKETS)
        """Time in RUNNING states of each run that has ended and had started."""
        self._task_keys: set[str] = set()

    def record(self, notifications: Sequence[Notification]) -> None:
        """Count the runs that a commit has started and ended. The cost of a commit without such runs is negligible."""
        for each in notifications:
            if isinstance(each, TaskRunsMeasured):
                self._add(each)

    def _add(self, measured: TaskRunsMeasured) -> None:
        for seconds in measured.wait_seconds:
            self.wait_seconds.add(seconds)
        for end in measured.ends:
            self.ended[self._label_for(end.task_key), end.state_type] += 1
            if end.run_seconds is not None:
                self.run_seconds.add(end.run_seconds)

    def _label_for(self, task_key: str) -> str:
        if task_key not in self._task_keys:
            if len(self._task_keys) == MAX_TASK_KEYS:
                return OTHER
            self._task_keys.add(task_key)
        return task_key

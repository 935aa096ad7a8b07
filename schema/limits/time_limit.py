"""Time limit for queries and mutations."""

from db.runtime.deadlines import Deadline, SharedTimer

__all__ = ["Deadline", "TimeLimit"]


class TimeLimit:
    """A limit on the duration of operations. All operations share one timer."""

    def __init__(self, seconds: float) -> None:
        self._timer = SharedTimer(seconds)

    def start(self) -> Deadline:
        """Return a deadline that cancels the current task when the limit is exceeded. The caller must end it."""
        return Deadline(self._timer)

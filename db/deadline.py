"""How long something may take. asyncio.timeout does the same at three times the price, and every operation would pay it."""

import asyncio


class Cancelling:
    """Cancels the task that made it, and tells that apart from what others cancel."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        task = asyncio.current_task(self.loop)
        assert task is not None
        self._task = task
        self._cancelled_before = task.cancelling()
        self.has_acted = False
        """Whether it has cancelled the task, whoever else has."""
        self._is_taken_back = False

    def cancel(self) -> None:
        self.has_acted = True
        self._task.cancel()

    def has_cancelled(self) -> bool:
        """Whether it is this, and nobody else, that has cancelled the task; the task may go on then."""
        return self.has_acted and self._take_back()

    def end(self) -> None:
        """Have no more to do with the task."""
        if self.has_acted:
            self._take_back()

    def _take_back(self) -> bool:
        """Let the task be cancelled by others alone; whether it is by none."""
        if self._is_taken_back:
            return False
        self._is_taken_back = True
        return self._task.uncancel() <= self._cancelled_before


class Deadline(Cancelling):
    """Cancels the task that made it when its time is up, unless it is ended before."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._at = self.loop.time() + seconds
        self._timer = self.loop.call_at(self._at, self.cancel)

    def extend(self, seconds: float) -> None:
        """Let it take so much longer."""
        self._at += seconds
        self._timer.cancel()
        self._timer = self.loop.call_at(self._at, self.cancel)

    def end(self) -> None:
        self._timer.cancel()
        super().end()

"""How long something may take. asyncio.timeout does the same at three times the price, and every operation would pay it."""

import asyncio


class Deadline:
    """Cancels the task that made it when its time is up, unless it is ended before."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._task = task
        self._cancelled_before = task.cancelling()
        self._at = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._at, self._pass)
        self.has_passed = False
        self._is_taken_back = False

    def extend(self, seconds: float) -> None:
        """Let it take so much longer."""
        self._at += seconds
        self._timer.cancel()
        self._timer = self._loop.call_at(self._at, self._pass)

    def end(self) -> None:
        """Let its time pass, if it has not."""
        self._timer.cancel()
        if self.has_passed:
            self._take_back()

    def has_cancelled(self) -> bool:
        """Whether it is this, and nobody else, that has cancelled the task; the task may go on then."""
        return self.has_passed and self._take_back()

    def _pass(self) -> None:
        self.has_passed = True
        self._task.cancel()

    def _take_back(self) -> bool:
        """Let the task be cancelled by others alone; whether it is by none."""
        if self._is_taken_back:
            return False
        self._is_taken_back = True
        return self._task.uncancel() <= self._cancelled_before

"""How long an operation may take. asyncio.timeout does the same at three times the price, and every operation pays it."""

import asyncio


class Deadline:
    """Cancels the task that made it when its time is up, unless it is ended before."""

    def __init__(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._at = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._at, self._pass)
        self._has_passed = False

    def extend(self, seconds: float) -> None:
        """Let it take so much longer."""
        self._at += seconds
        self._timer.cancel()
        self._timer = self._loop.call_at(self._at, self._pass)

    def end(self) -> None:
        self._timer.cancel()

    def has_cancelled(self) -> bool:
        """Whether it is this, and nobody else, that has cancelled the task; the task may go on then."""
        return self._has_passed and self._task.uncancel() == 0

    def _pass(self) -> None:
        self._has_passed = True
        self._task.cancel()

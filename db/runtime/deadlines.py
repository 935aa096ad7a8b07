"""Time limits for operations, at a fraction of the cost of asyncio.timeout, which every operation would pay."""

import asyncio
from typing import Protocol


class TimeoutCallback(Protocol):
    """An object that `SharedTimer` calls when its timeout expires."""

    loop: asyncio.AbstractEventLoop

    def on_timeout(self) -> None: ...


class SharedTimer:
    """Timeouts of equal length that share one timer of the event loop.

    They expire in the order in which they are scheduled, and nearly all are cancelled before: a separate timer for each
    would be created and discarded. Used by one event loop at a time.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._scheduled: dict[TimeoutCallback, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def schedule(self, callback: TimeoutCallback) -> float:
        """Schedule `callback`, which must not be scheduled yet. Return when it is called, by the event loop's clock."""
        loop = callback.loop
        if loop is not self._loop:
            # The previous event loop has ended, and its timer with it.
            self._loop, self._scheduled, self._timer = loop, {}, None
        self._scheduled[callback] = expires_at = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_at(expires_at, self._run_expired)
        return expires_at

    def cancel(self, callback: TimeoutCallback) -> None:
        """Cancel the timeout if it has not expired."""
        self._scheduled.pop(callback, None)

    def _run_expired(self) -> None:
        assert self._loop is not None
        self._timer = None
        now = self._loop.time()
        try:
            while self._scheduled and (earliest := next(iter(self._scheduled.items())))[1] <= now:
                del self._scheduled[earliest[0]]
                earliest[0].on_timeout()
        finally:
            # A callback may have scheduled another one.
            if self._scheduled and self._timer is None:
                self._timer = self._loop.call_at(next(iter(self._scheduled.values())), self._run_expired)


class TaskCancellation:
    """Cancels the task that created it, and distinguishes this from cancellations by others."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        task = asyncio.current_task(self.loop)
        assert task is not None
        self._task = task
        self._earlier_cancellations = task.cancelling()
        self.has_requested_cancel = False
        """Whether this object has cancelled the task, regardless of others."""
        self._is_uncancelled = False

    def cancel(self) -> None:
        self.has_requested_cancel = True
        self._task.cancel()

    def uncancel(self) -> bool:
        """Return whether this object alone has cancelled the task, which may then continue."""
        return self.has_requested_cancel and self._uncancel_once()

    def end(self) -> None:
        """Detach from the task and withdraw the cancellation."""
        if self.has_requested_cancel:
            self._uncancel_once()

    def _uncancel_once(self) -> bool:
        """Withdraw the cancellation, once. Return whether the task is not cancelled by others."""
        if self._is_uncancelled:
            return False
        self._is_uncancelled = True
        return self._task.uncancel() <= self._earlier_cancellations


class Deadline(TaskCancellation):
    """Cancels the task that created it after a timeout, unless it ends before."""

    def __init__(self, timer: SharedTimer) -> None:
        super().__init__()
        self._timer = timer
        self._extension_timer: asyncio.TimerHandle | None = None
        """Separate timer of an extended deadline."""
        self._expires_at = timer.schedule(self)

    def on_timeout(self) -> None:
        """Cancel the task."""
        self.cancel()

    def extend(self, seconds: float) -> None:
        """Postpone the deadline by `seconds`."""
        self._cancel_timers()
        self._expires_at += seconds
        self._extension_timer = self.loop.call_at(self._expires_at, self.cancel)

    def end(self) -> None:
        self._cancel_timers()
        super().end()

    def _cancel_timers(self) -> None:
        self._timer.cancel(self)
        if self._extension_timer is not None:
            self._extension_timer.cancel()

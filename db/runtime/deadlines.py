"""How long something may take. asyncio.timeout does the same, at several times what is a part of each operation here."""

import asyncio
from typing import Protocol


class Alarm(Protocol):
    """What is to happen when a time is over."""

    loop: asyncio.AbstractEventLoop

    def ring(self) -> None: ...


class Alarms:
    """Alarms that ring so many seconds after they are set. One timer serves them all, for they ring in the order in which
    they are set, and nearly none does: a timer for each would be made and thrown away. Of one event loop at a time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._set: dict[Alarm, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, alarm: Alarm) -> float:
        """Let it ring, unless it is unset before. It may not be set yet. When it will ring."""
        loop = alarm.loop
        if loop is not self._loop:
            # The one before has ended, and its timer with it.
            self._loop, self._set, self._timer = loop, {}, None
        self._set[alarm] = at = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_at(at, self._ring)
        return at

    def unset(self, alarm: Alarm) -> None:
        """Let it not ring, if it has not."""
        self._set.pop(alarm, None)

    def _ring(self) -> None:
        assert self._loop is not None
        self._timer = None
        now = self._loop.time()
        try:
            while self._set and (due := next(iter(self._set.items())))[1] <= now:
                del self._set[due[0]]
                due[0].ring()
        finally:
            # One that has rung may have set another one.
            if self._set and self._timer is None:
                self._timer = self._loop.call_at(next(iter(self._set.values())), self._ring)


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

    def __init__(self, alarms: Alarms) -> None:
        super().__init__()
        self._alarms = alarms
        self._later: asyncio.TimerHandle | None = None
        """A timer of its own, where it has been extended."""
        self._at = alarms.set(self)

    def ring(self) -> None:
        """Its time is up."""
        self.cancel()

    def extend(self, seconds: float) -> None:
        """Let it take so much longer."""
        self._unset()
        self._at += seconds
        self._later = self.loop.call_at(self._at, self.cancel)

    def end(self) -> None:
        self._unset()
        super().end()

    def _unset(self) -> None:
        self._alarms.unset(self)
        if self._later is not None:
            self._later.cancel()

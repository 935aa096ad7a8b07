"""Messages between the event loops of two threads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any


class Mailbox:
    """Calls functions on a loop, from any thread and in order. Calls that are made together wake the loop once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._is_scheduled = False

    def post(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function on the loop soon. Does nothing if the loop is closed."""
        self._calls.append((function, arguments))
        if self._is_scheduled:
            return
        self._is_scheduled = True
        try:
            self._loop.call_soon_threadsafe(self._run)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _run(self) -> None:
        # Cleared first: a call that is added from now on either is taken below or schedules another run.
        self._is_scheduled = False
        while self._calls:
            function, arguments = self._calls.popleft()
            try:
                function(*arguments)
            except Exception as error:  # noqa: BLE001 - one failing call must not prevent the others
                context = {"message": "A message between threads could not be handled", "exception": error}
                self._loop.call_exception_handler(context)

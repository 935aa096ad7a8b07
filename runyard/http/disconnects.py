"""Cancellation of requests whose client has disconnected."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from db.runtime.deadlines import SharedTimer, TaskCancellation

Receive = Callable[[], Awaitable[Any]]

WATCH_DELAY_SECONDS = 0.25
"""Delay before a request is watched. Nearly all requests end earlier, and watching costs more than a small request."""


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client disconnects. The request body must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        continue


class DisconnectWatcher(TaskCancellation):
    """Cancels the task that created it when the client disconnects before it receives a response."""

    def __init__(self, timer: SharedTimer, receive: Receive) -> None:
        """Watch the client after the delay of `timer`. The request body must have been read before."""
        super().__init__()
        self._timer = timer
        self._receive = receive
        self._watch_task: asyncio.Task[None] | None = None
        timer.schedule(self)

    def end(self) -> None:
        self._timer.cancel(self)
        if self._watch_task is not None:
            self._watch_task.cancel()
        super().end()

    def on_timeout(self) -> None:
        """Start to watch the client."""
        self._watch_task = self.loop.create_task(self._watch())

    async def _watch(self) -> None:
        await wait_for_disconnect(self._receive)
        self.cancel()

"""Whether a client is still there: work that nobody waits for is not to be gone on with."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[Any]]

AT_ONCE_SECONDS = 0.25
"""Requests answered in this time, which are nearly all, are not watched: watching costs more than a small one."""


async def until_gone(receive: Receive) -> None:
    """Return when the client has gone away. Its request has to have been read."""
    while (await receive())["type"] != "http.disconnect":
        continue


class Presence:
    """Watches for a client that goes away before it is answered, and cancels the task that watches then."""

    def __init__(self, receive: Receive, at_once: float = AT_ONCE_SECONDS) -> None:
        """The client's request has to have been read."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._cancelled_before = task.cancelling()
        self._receive = receive
        self._watching: asyncio.Task[None] | None = None
        self._timer = loop.call_later(at_once, self._begin)

    def end(self) -> None:
        """Let it go where it likes."""
        self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()

    def has_cancelled(self) -> bool:
        """Whether it is this, and nobody else, that has cancelled the task; the task may go on then."""
        watching = self._watching
        has_gone = watching is not None and watching.done() and not watching.cancelled()
        return has_gone and self._task.uncancel() <= self._cancelled_before

    def _begin(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        await until_gone(self._receive)
        self._task.cancel()

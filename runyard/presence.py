"""Whether a client is still there: work that nobody waits for is not to be gone on with."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from resolvers.storage import Cancelling

Receive = Callable[[], Awaitable[Any]]

AT_ONCE_SECONDS = 0.25
"""Requests answered in this time, which are nearly all, are not watched: watching costs more than a small one."""


async def until_gone(receive: Receive) -> None:
    """Return when the client has gone away. Its request has to have been read."""
    while (await receive())["type"] != "http.disconnect":
        continue


class Presence(Cancelling):
    """Watches for a client that goes away before it is answered, and cancels the task that watches then."""

    def __init__(self, receive: Receive) -> None:
        """The client's request has to have been read."""
        super().__init__()
        self._receive = receive
        self._watching: asyncio.Task[None] | None = None
        self._timer = self.loop.call_later(AT_ONCE_SECONDS, self._begin)

    def end(self) -> None:
        self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()
        super().end()

    def _begin(self) -> None:
        self._watching = self.loop.create_task(self._watch())

    async def _watch(self) -> None:
        await until_gone(self._receive)
        self.cancel()

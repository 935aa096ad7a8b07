"""Whether a client is still there: work that nobody waits for is not to be gone on with."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from resolvers.storage import Alarms, Cancelling

Receive = Callable[[], Awaitable[Any]]

AT_ONCE_SECONDS = 0.25
"""Requests answered in this time, which are nearly all, are not watched: watching costs more than a small one."""


async def until_gone(receive: Receive) -> None:
    """Return when the client has gone away. Its request has to have been read."""
    while (await receive())["type"] != "http.disconnect":
        continue


class Presence(Cancelling):
    """Watches for a client that goes away before it is answered, and cancels the task that watches then."""

    def __init__(self, alarms: Alarms, receive: Receive) -> None:
        """The client's request has to have been read. Watching begins when one of these alarms rings."""
        super().__init__()
        self._alarms = alarms
        self._receive = receive
        self._watching: asyncio.Task[None] | None = None
        alarms.set(self)

    def end(self) -> None:
        self._alarms.unset(self)
        if self._watching is not None:
            self._watching.cancel()
        super().end()

    def ring(self) -> None:
        """Begin to watch: the request is not answered at once."""
        self._watching = self.loop.create_task(self._watch())

    async def _watch(self) -> None:
        await until_gone(self._receive)
        self.cancel()

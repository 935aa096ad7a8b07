"""Those who wait for task runs: for one, for all of several, or for each of several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runyard_client.connection.app_connection import Connection
    from runyard_client.connection.waiting import End


class EndsOfRuns:
    """Completes a future when all of these runs have ended. `ends` has those that have ended until then."""

    def __init__(self, ids: Collection[str]) -> None:
        self.future: Future[None] = Future()
        self.ends: dict[str, End] = {}
        self._missing = len(ids)

    def notify(self, end: End) -> None:
        """Receive the end of a run, on the background loop."""
        self.ends[end.id] = end
        self._missing -= 1
        if self._missing == 0 and self.future.set_running_or_notify_cancel():
            self.future.set_result(None)


async def wait_for_ends(connection: Connection, ids: Collection[str], timeout: float | None) -> dict[str, End]:  # noqa: ASYNC109
    """Return the ends of these different runs that have ended when all have, or after `timeout` seconds."""
    watch = EndsOfRuns(ids)
    connection.waiter.watch(ids, watch)
    try:
        async with asyncio.timeout(timeout):
            await asyncio.wrap_future(watch.future)
    except TimeoutError:
        pass
    finally:
        _forget(connection, ids, watch)
    return dict(watch.ends)


def wait_for_ends_sync(connection: Connection, ids: Collection[str], timeout: float | None) -> dict[str, End]:
    """Return the ends of these runs, as `wait_for_ends` does. Blocks."""
    watch = EndsOfRuns(ids)
    connection.waiter.watch(ids, watch)
    try:
        watch.future.result(timeout)
    except TimeoutError:
        pass
    finally:
        _forget(connection, ids, watch)
    return dict(watch.ends)


def _forget(connection: Connection, ids: Collection[str], watch: EndsOfRuns) -> None:
    if len(watch.ends) < len(ids):
        connection.waiter.forget(ids, watch)


class _Stream:
    """Passes the ends of runs to an event loop."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[End] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def notify(self, end: End) -> None:
        if not self._loop.is_closed():  # closed: no caller waits any longer
            self._loop.call_soon_threadsafe(self.queue.put_nowait, end)


async def iterate_ends(connection: Connection, ids: Collection[str]) -> AsyncGenerator[End]:
    """Yield the end of each of these different runs as soon as it has ended."""
    stream = _Stream()
    connection.waiter.watch(ids, stream)
    missing = set(ids)
    try:
        while missing:
            end = await stream.queue.get()
            missing.discard(end.id)
            yield end
    finally:
        if missing:
            connection.waiter.forget(missing, stream)

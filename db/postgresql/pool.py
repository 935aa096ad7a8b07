"""A pool of connections that reuses idle ones without asyncpg.

asyncpg's pool opens connections, counts them, and makes callers wait for one. It also creates a task for each
connection that is released, which costs as much as a small statement. A usable connection that no caller waits for is
kept here.
"""

import time
from contextlib import suppress
from typing import Any

from db.postgresql.connection import Raw
from db.postgresql.driver import DRIVER_ERRORS, asyncpg, terminate
from db.runtime.histograms import SECONDS_BUCKETS, ConnectionPoolStats, Histogram

CANCEL_TIMEOUT_SECONDS = 1.0
"""How long a cancelled statement may take to end before its connection is closed."""


class Pool:
    """The connections of one database, each used by one caller at a time."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._idle: list[Raw] = []
        self._waiting = 0
        self._is_closing = False
        self._wait_seconds = Histogram(SECONDS_BUCKETS)

    async def acquire(self) -> Raw:
        """Return a connection. Discards idle connections that the database has closed."""
        started_at = time.monotonic()
        try:
            while self._idle:
                raw = self._idle.pop()
                if _is_open(raw):
                    return raw
                with suppress(asyncpg.InterfaceError):
                    await self._pool.release(raw)
            self._waiting += 1
            try:
                return await self._pool.acquire()
            finally:
                self._waiting -= 1
        finally:
            self._wait_seconds.add(time.monotonic() - started_at)

    async def release(self, raw: Raw, *, is_reusable: bool) -> None:
        """Make the connection available to others. One that is not reusable may be closed, or execute a statement."""
        if is_reusable and not self._waiting and not self._is_closing:
            self._idle.append(raw)
        else:
            await _roll_back(raw)
            await self._pool.release(raw, timeout=CANCEL_TIMEOUT_SECONDS)

    @property
    def stats(self) -> ConnectionPoolStats:
        """Statistics of the pool."""
        idle = self._pool.get_idle_size() + sum(map(_is_open, self._idle))
        return ConnectionPoolStats(
            self._pool.get_size() - idle, idle, self._pool.get_max_size(), self._waiting, self._wait_seconds
        )

    async def close(self) -> None:
        """Close all connections, those in use after their release."""
        self._is_closing = True
        while self._idle:
            with suppress(asyncpg.InterfaceError):
                await self._pool.release(self._idle.pop())
        await self._pool.close()

    def terminate(self) -> None:
        """Close all connections at once."""
        self._pool.terminate()


async def _roll_back(raw: Raw) -> None:
    """Roll back the transaction of a failed read, if there is one. Waits until a cancelled statement has ended."""
    if not _is_open(raw) or not raw.is_in_transaction():
        return
    try:
        await raw.execute("ROLLBACK", timeout=CANCEL_TIMEOUT_SECONDS)
    except DRIVER_ERRORS:
        terminate(raw)
    except BaseException:
        terminate(raw)
        raise


def _is_open(raw: Raw) -> bool:
    try:
        return not raw.is_closed()
    except asyncpg.InterfaceError:
        # Raised when asyncpg has noticed that the connection is closed and has released it.
        return False

"""Connections that are kept at hand between their uses.

asyncpg's pool makes connections, counts them, and lets others wait for one. For each that comes back it makes a task as
well, which costs as much as a small statement; so what comes back in order, and nobody waits for, does not go back to it.
"""

import time
from contextlib import suppress
from typing import Any

from db.postgresql.connection import Raw
from db.postgresql.driver import asyncpg
from db.runtime.histograms import SECONDS, Connections, Distribution

CANCEL_SECONDS = 1.0
"""How long a statement may take to end that is cancelled, before its connection is dropped."""


class Pool:
    """The connections of one database, lent one at a time."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._at_hand: list[Raw] = []
        self._waiting = 0
        self._is_closing = False
        self._waits = Distribution(SECONDS)

    async def take(self) -> Raw:
        """A connection; one that the database has closed meanwhile is let go of."""
        began_at = time.monotonic()
        try:
            while self._at_hand:
                raw = self._at_hand.pop()
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
            self._waits.add(time.monotonic() - began_at)

    async def give_back(self, raw: Raw, *, in_order: bool) -> None:
        """Let others have it. Where it is not in order, something may be under way on it, or it may be closed."""
        if in_order and not self._waiting and not self._is_closing:
            self._at_hand.append(raw)
        else:
            await self._pool.release(raw, timeout=CANCEL_SECONDS)

    @property
    def figures(self) -> Connections:
        """How many connections there are, and how long is waited for one."""
        idle = self._pool.get_idle_size() + sum(map(_is_open, self._at_hand))
        return Connections(self._pool.get_size() - idle, idle, self._pool.get_max_size(), self._waiting, self._waits)

    async def close(self) -> None:
        """Close all, those that are lent as soon as they are given back."""
        self._is_closing = True
        while self._at_hand:
            with suppress(asyncpg.InterfaceError):
                await self._pool.release(self._at_hand.pop())
        await self._pool.close()

    def terminate(self) -> None:
        """Close all at once."""
        self._pool.terminate()


def _is_open(raw: Raw) -> bool:
    try:
        return not raw.is_closed()
    except asyncpg.InterfaceError:
        # asyncpg knows that it is closed, and has it back.
        return False

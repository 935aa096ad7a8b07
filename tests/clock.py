"""A clock that the test controls."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

START = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)

SHORT_SECONDS = 0.03
"""Waits that are shorter pass by themselves: those between two attempts, when another transaction has a lock."""


class ManualClock:
    """A clock that stands still until `advance` is called, which wakes the waiters whose time has come."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now
        self._elapsed = 0.0
        self._advanced = asyncio.Event()
        self._awaited: list[datetime | None] = []
        self._waits = asyncio.Event()

    def now(self) -> datetime:
        return self._now

    def elapsed(self) -> float:
        return self._elapsed

    def set_ahead(self, seconds: float) -> None:
        """Set the clock ahead, or back when negative, although no time passes. Wakes the waiters."""
        self._elapsed -= seconds
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._elapsed += seconds
        self._advanced.set()
        self._advanced = asyncio.Event()

    async def wait(self, event: asyncio.Event, until: datetime | None = None, *, seconds: float | None = None) -> None:
        if until is None and seconds is not None and seconds < SHORT_SECONDS:
            with suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), seconds)
            return
        until_elapsed = None if seconds is None else self._elapsed + seconds
        while not event.is_set() and ((awaited := self._earlier(until, until_elapsed)) is None or awaited > self._now):
            waits = [asyncio.ensure_future(each.wait()) for each in (event, self._advanced)]
            self._awaited.append(awaited)
            self._waits.set()
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._awaited.remove(awaited)
                for each in waits:
                    each.cancel()

    def _earlier(self, until: datetime | None, until_elapsed: float | None) -> datetime | None:
        if until_elapsed is None:
            return until
        elapses_at = self._now + timedelta(seconds=until_elapsed - self._elapsed)
        return elapses_at if until is None else min(until, elapses_at)

    @asynccontextmanager
    async def passing_waits(self, seconds: float) -> AsyncIterator[None]:
        """During the block, advance the clock by `seconds` whenever some task waits that long."""

        async def advance() -> None:
            while True:
                await self.wait_for_waiter(seconds)
                self.advance(seconds)

        advancing = asyncio.create_task(advance())
        try:
            yield
        finally:
            advancing.cancel()

    async def wait_for_waiter(self, seconds: float) -> None:
        """Wait until some task waits for the time `seconds` from now."""
        await self.wait_for_waiters(seconds, 1)

    async def wait_for_waiters(self, seconds: float, count: int) -> None:
        """Wait until `count` tasks wait for the time `seconds` from now."""
        while self._awaited.count(self._now + timedelta(seconds=seconds)) < count:
            self._waits.clear()
            await self._waits.wait()

    async def wait_until_idle(self, count: int) -> None:
        """Wait until `count` tasks wait without a near deadline, at most for the poll, which tests put years away."""
        far = timedelta(days=365)
        while sum(until is None or until > self._now + far for until in self._awaited) < count:
            self._waits.clear()
            await self._waits.wait()

    def in_seconds(self, seconds: float) -> str:
        """Return the time `seconds` from now, as a client sends it."""
        return (self._now + timedelta(seconds=seconds)).isoformat()

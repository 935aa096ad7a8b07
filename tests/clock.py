"""A clock that a test owns."""

import asyncio
from datetime import UTC, datetime, timedelta

START = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)


class ManualClock:
    """Stands still until it is told to advance, and then wakes whoever waited for a moment that has come."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now
        self._advanced = asyncio.Event()
        self._awaited: list[datetime | None] = []
        self._waits = asyncio.Event()

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._advanced.set()
        self._advanced = asyncio.Event()

    async def wait(self, event: asyncio.Event, until: datetime | None) -> None:
        while not event.is_set() and (until is None or until > self._now):
            waits = [asyncio.ensure_future(each.wait()) for each in (event, self._advanced)]
            self._awaited.append(until)
            self._waits.set()
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._awaited.remove(until)
                for each in waits:
                    each.cancel()

    async def somebody_waits(self, seconds: float) -> None:
        """Return when somebody waits for the moment `seconds` from now."""
        await self.waiters(seconds, 1)

    async def waiters(self, seconds: float, count: int) -> None:
        """Return when `count` wait for the moment `seconds` from now."""
        while self._awaited.count(self._now + timedelta(seconds=seconds)) < count:
            self._waits.clear()
            await self._waits.wait()

    async def idle(self, count: int) -> None:
        """Return when `count` wait for a hint alone: for ever, or until a poll that is as far away as tests put it."""
        far = timedelta(days=365)
        while sum(until is None or until > self._now + far for until in self._awaited) < count:
            self._waits.clear()
            await self._waits.wait()

    def in_seconds(self, seconds: float) -> str:
        """The instant `seconds` from now, as a client would send it."""
        return (self._now + timedelta(seconds=seconds)).isoformat()

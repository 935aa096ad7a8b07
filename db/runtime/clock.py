"""What time it is, handed in, so that a test can own it."""

import asyncio
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time, and waits for a moment of it."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC. Called from any thread."""
        ...

    async def wait(self, event: asyncio.Event, until: datetime | None) -> None:
        """Return once `event` is set or the clock shows `until`, whichever comes first; never before either."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def wait(self, event: asyncio.Event, until: datetime | None) -> None:
        if until is None:
            await event.wait()
            return
        while not event.is_set() and (seconds := (until - self.now()).total_seconds()) > 0:
            # A day at a time: far instants are beyond what a timer takes, and the machine's clock may be set.
            try:
                async with asyncio.timeout(min(seconds, 86_400)):
                    await event.wait()
            except TimeoutError:
                continue

"""The current time, as an object that tests can replace."""

import asyncio
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A source of the current time, which can also wait for a time."""

    def now(self) -> datetime:
        """Return the current time as an aware datetime in UTC. May be called from any thread."""
        ...

    async def wait(self, event: asyncio.Event, until: datetime | None) -> None:
        """Wait until `event` is set or the clock shows `until`, whichever is first. None waits for the event only."""
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
            # Waits for at most a day, because timers are limited and the machine's clock may be adjusted.
            try:
                async with asyncio.timeout(min(seconds, 86_400)):
                    await event.wait()
            except TimeoutError:
                continue

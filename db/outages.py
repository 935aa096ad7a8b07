"""Outages of the database, during which no worker can renew a lease."""

from dataclasses import dataclass, replace
from datetime import datetime

from db.runtime.clock import Clock
from db.runtime.timestamps import format_timestamp


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which the database could not be reached."""

    since: str | None
    """When the database was last used before the outage; None when unknown."""
    until: str | None
    """When the database was used again; None when the current transaction is the first to do so."""


class OutageTracker:
    """Tracks the last successful use of the database, and the outage that has not been handled yet."""

    def __init__(self, clock: Clock, outage: Outage | None = None) -> None:
        self.outage = outage
        self.clock = clock
        self._last_success_at: datetime = clock.now()

    def record_success(self) -> None:
        """Record that the database was used successfully."""
        self._last_success_at = self.clock.now()
        if self.outage is not None and self.outage.until is None:
            self.outage = replace(self.outage, until=format_timestamp(self._last_success_at))

    def record_failure(self) -> None:
        """Record that the database could not be used. An outage that has not been handled continues."""
        since = self.outage.since if self.outage else format_timestamp(self._last_success_at)
        self.outage = Outage(since, until=None)

    def resolve(self, outage: Outage) -> None:
        """Mark this outage as handled. An outage that was recorded since then remains."""
        if self.outage is outage:
            self.outage = None

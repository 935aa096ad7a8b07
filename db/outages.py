"""Whether the database was out of reach, and for how long: nobody could renew a lease meanwhile."""

from dataclasses import dataclass, replace
from datetime import datetime

from db.runtime.clock import Clock
from db.runtime.timestamps import instant


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which the database could not be reached."""

    since: str | None
    """When it was reached last; None where nobody knows."""
    until: str | None
    """When it was reached again; None where that is now."""


class Contact:
    """When the database was last reached, and the outage whose consequences nobody has seen to yet."""

    def __init__(self, clock: Clock, outage: Outage | None = None) -> None:
        self.outage = outage
        self.clock = clock
        self._reached_at: datetime = clock.now()

    def reached(self) -> None:
        """The database has just done what it was asked for."""
        self._reached_at = self.clock.now()
        if self.outage is not None and self.outage.until is None:
            self.outage = replace(self.outage, until=instant(self._reached_at))

    def lost(self) -> None:
        """The database could not be used. An outage that nobody has seen to goes on."""
        since = self.outage.since if self.outage else instant(self._reached_at)
        self.outage = Outage(since, until=None)

    def made_good(self, outage: Outage) -> None:
        """This outage has been seen to. One that has been noticed since then has not."""
        if self.outage is outage:
            self.outage = None

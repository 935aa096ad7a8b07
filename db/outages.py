"""Outages: times in which no worker could renew a lease, because no server was running or the database was unavailable."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from db.errors import ServerWasSuspended
from db.runtime.clock import Clock
from db.runtime.timestamps import format_timestamp

MAX_SILENCE_SECONDS = 10.0
"""Time without a heartbeat after which the servers count as not running: twice the interval of heartbeats."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which this server did not serve, up to the current transaction. Other servers may have served."""

    since: str | None
    """When this server last used the database; None when it has just started."""
    concerns_all_servers: bool = False
    """Whether it is certain that no other server served meanwhile, or that the database's clock was set."""


class OutageTracker:
    """Tracks the last successful use of the database, and the outage that has not been handled yet."""

    def __init__(self, clock: Clock, max_silence_seconds: float, outage: Outage | None = None) -> None:
        """`max_silence_seconds`: time without a use of the database after which this server counts as suspended.

        A running server uses the database more often, at least for its heartbeats.
        """
        self.clock = clock
        self._max_silence = max_silence_seconds
        self._outage = outage
        self._last_success_at: datetime = clock.now()
        self._last_success_elapsed = clock.elapsed()

    @property
    def outage(self) -> Outage | None:
        """The outage that is not handled yet."""
        self._check_silence()
        return self._outage

    def record_success(self) -> None:
        """Record that the database was used successfully."""
        self._check_silence()
        self._last_success_at = self.clock.now()
        self._last_success_elapsed = self.clock.elapsed()

    def record_failure(self) -> None:
        """Record that the database could not be used. An outage that is not handled yet continues."""
        if self._outage is None:
            self._outage = Outage(format_timestamp(self._last_success_at))

    def record_clock_step(self) -> None:
        """Record that the clock is about to be set ahead or back: leases would end too early, or too late."""
        self._outage = Outage(format_timestamp(self.clock.now()), concerns_all_servers=True)

    def start_check(self) -> Callable[[], None]:
        """Return a function that raises ServerWasSuspended when this server was suspended since this call.

        A transaction calls it after it has read the time, in any thread: leases may have expired in a suspension that
        began after the outage was looked up.
        """
        started_at = self.clock.elapsed()

        def check() -> None:
            if self.clock.elapsed() - started_at > self._max_silence:
                raise ServerWasSuspended("The server was suspended before the transaction began.")

        return check

    def resolve(self, outage: Outage) -> None:
        """Mark this outage as handled. An outage that was recorded since then remains."""
        if self._outage is outage:
            self._outage = None
            self._last_success_elapsed = self.clock.elapsed()

    def _check_silence(self) -> None:
        if self.clock.elapsed() - self._last_success_elapsed > self._max_silence:
            self.record_failure()

"""Heartbeats of servers, and the extension of leases after a time in which no server was running.

While no server runs, or while the database is unavailable, no worker can renew a lease. Every server records a heartbeat
at intervals. After an outage, a server reads the last one before it writes anything else: if no server
was running, all leases are extended by that time, once. If another server was running, workers could renew with it, and
nothing is extended.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from db.connection import Connection
from db.outages import Outage
from db.records import JsonText
from db.runtime.timestamps import seconds_between
from db.statements import heartbeats, queue, workers

log = logging.getLogger("runyard.queue")


STALE_SECONDS = 3600.0
"""Age after which the record of a server is deleted. Servers that stop delete theirs."""


@dataclass(frozen=True, slots=True)
class ServerHeartbeat:
    """A server that is running, and the workers that are connected to it."""

    server_id: str
    workers: JsonText | None
    """The workers, serialized; None when no other server uses the database."""


def record_heartbeats(connection: Connection, servers: Sequence[ServerHeartbeat]) -> list[Exception | None]:
    """Record that these servers are running, and their workers."""
    heartbeats.record_heartbeat(connection)
    for each in servers:
        if each.workers is not None:
            workers.record_workers(connection, each.server_id, each.workers)
            workers.forget_stale_servers(connection, STALE_SECONDS)
    return [None] * len(servers)


def forget_servers(connection: Connection, server_ids: Sequence[str]) -> list[Exception | None]:
    """Delete the records of servers that stop."""
    for server_id in server_ids:
        workers.forget_server(connection, server_id)
    return [None] * len(server_ids)


@dataclass(frozen=True, slots=True)
class OutageRecovery:
    """The write operation with which a server ends an outage."""

    max_silence_seconds: float
    """Time without a heartbeat after which no server counts as running."""

    def __call__(self, connection: Connection, outages: Sequence[Outage]) -> list[Exception | None]:
        """Extend the acknowledged leases by the time in which no server was running, up to their full time from now.

        Leases that expired in that time are held again. Must run before the lease sweep and renewals read the leases.
        """
        for outage in outages:
            last_heartbeat = heartbeats.lock_last_heartbeat(connection)
            seconds = self._seconds_without_server(outage, last_heartbeat, connection.now)
            if seconds is None:
                continue
            count = queue.extend_leases(connection, seconds)
            if count > 0:
                log.warning("No server was running for %s; extended %d leases", _describe(seconds), count)
            # The last heartbeat is in the future after the clock was set back.
            if count > 0 or (last_heartbeat is not None and last_heartbeat > connection.now):
                heartbeats.restart_heartbeat(connection)
        return [None] * len(outages)

    def _seconds_without_server(self, outage: Outage, last_heartbeat: str | None, now: str) -> float | None:
        """Return how long no server was running, infinite when that is unknown; None when another server was running."""
        started_at = outage.since or last_heartbeat
        if started_at is None:
            # Servers recorded no heartbeats before this version.
            return float("inf")
        other_server_was_running = last_heartbeat is not None and last_heartbeat > (outage.since or "")
        if outage.concerns_all_servers or not other_server_was_running:
            seconds = seconds_between(started_at, now)
            # The machine's clock was set back while no server was running.
            return seconds if seconds >= 0 else float("inf")
        assert last_heartbeat is not None
        seconds = seconds_between(last_heartbeat, now)
        return seconds if seconds > self.max_silence_seconds else None


def _describe(seconds: float) -> str:
    return "an unknown time" if seconds == float("inf") else f"{seconds:.1f} seconds"

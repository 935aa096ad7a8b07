"""Waiting for leases that need the attention of their workers: they are lost, or their runs are being cancelled.

Nothing is renewed or acknowledged.
"""

from collections.abc import Sequence

from db.connection import CancelRequested, Connection, LeaseEnded, Notification
from db.database import Database
from db.statements import waits
from resolvers.delivery.leases import LeaseResult, LeaseStatus
from resolvers.wait_registry import WaitRegistry


def create_registry(database: Database, poll_seconds: float) -> WaitRegistry:
    """Return the registry of the requests that wait for signals of leases."""
    return WaitRegistry(database, poll_seconds=poll_seconds, find=waits.signalled_leases, id_of=_signalled_lease_of)


def _signalled_lease_of(notification: Notification) -> str | None:
    return notification.lease_id if isinstance(notification, LeaseEnded | CancelRequested) else None


def read_signals(connection: Connection, lease_ids: Sequence[str]) -> list[LeaseResult]:
    """Return those of the leases that are LOST, or HELD while their runs are being cancelled, in the order of the ids."""
    found = waits.signalled_leases(connection, lease_ids)
    return [_signal(lease_id, found[lease_id]) for lease_id in lease_ids if lease_id in found]


def _signal(lease_id: str, expires_at: str | None) -> LeaseResult:
    if expires_at is None:
        return LeaseResult(lease_id, LeaseStatus.LOST)
    return LeaseResult(lease_id, LeaseStatus.HELD, expires_at, cancel_requested=True)

"""What becomes of a lease: acknowledged, given back, or done with. Each takes a list, in a constant number of statements."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from db import queue
from db.connection import Connection, LeaseSettled, Notice
from db.records import QueueEntryRecord
from db.vocabulary import StateType
from resolvers.queue.placement import put_back, take_over


class LeaseStatus(StrEnum):
    """Whether the lease is the caller's."""

    HELD = "HELD"
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class LeaseResult:
    """How it stands with a lease that somebody named."""

    lease_id: str
    status: LeaseStatus
    lease_expires_at: str | None = None
    cancel_requested: bool = False


def acknowledge_leases(connection: Connection, lease_ids: Sequence[str]) -> list[LeaseResult | Exception]:
    """Take over the runs: from now the leases outlive the stream, each for the time that its worker asked for.

    A lease that is not held any more is LOST; naming it returns the subscriber's credit all the same.
    """
    held = queue.queue_entries_by_lease(connection, lease_ids)
    changed = [entry for entry, _ in held.values() if take_over(entry, connection.now)]
    queue.update_queue_entries(connection, changed)
    connection.announce(LeaseSettled(lease_id) for lease_id in lease_ids)
    return [_result(lease_id, *held.get(lease_id, (None, None))) for lease_id in lease_ids]


def give_back(connection: Connection, lease_ids: Sequence[str]) -> list[bool | Exception]:
    """Put runs that were delivered and not taken over at the head of their keys; whether there was anything to give."""
    held = queue.queue_entries_by_lease(connection, lease_ids)
    unstarted = {lease_id: entry for lease_id, (entry, _) in held.items() if not entry.is_acknowledged}
    return_to_queue(connection, list(unstarted.values()))
    return [lease_id in unstarted for lease_id in lease_ids]


def give_back_all(connection: Connection, servers: Sequence[str]) -> list[int | Exception]:
    """Put everything that was delivered and not taken over at the head of its key, and say how much it was.

    For a server that starts as the only one of its database: nobody is there to take over what its predecessor sent.
    """
    unstarted = queue.unacknowledged_entries(connection)
    return_to_queue(connection, unstarted)
    return [len(unstarted)] * len(servers)


def finish_deliveries(connection: Connection, lease_ids: Sequence[str]) -> list[bool | Exception]:
    """End the leases and take the runs out of the queue; whether each was still held. For at-most-once delivery."""
    held = queue.queue_entries_by_lease(connection, lease_ids)
    queue.delete_queue_entries(connection, [entry.task_run_id for entry, _ in held.values()])
    connection.announce(LeaseSettled(lease_id) for lease_id in lease_ids)
    return [lease_id in held for lease_id in lease_ids]


def return_to_queue(connection: Connection, entries: Sequence[QueueEntryRecord]) -> None:
    """Make these entries wait again, at the head of their keys."""
    notices: list[Notice] = [put_back(entry) for entry in entries]
    queue.update_queue_entries(connection, entries)
    connection.announce(notices)


def _result(lease_id: str, entry: QueueEntryRecord | None, state_type: StateType | None) -> LeaseResult:
    if entry is None:
        return LeaseResult(lease_id, LeaseStatus.LOST)
    is_cancelling = state_type is StateType.CANCELLING
    return LeaseResult(lease_id, LeaseStatus.HELD, entry.lease_expires_at, is_cancelling)

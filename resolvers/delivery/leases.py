"""What becomes of a lease: acknowledged, given back, or done with. Each takes a list, in a constant number of statements."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from db.connection import Connection, LeaseSettled, Notice
from db.enums import StateType
from db.outages import Outage
from db.records import QueueEntryRecord
from db.runtime.timestamps import seconds_after, seconds_between
from db.statements import queue, task_runs
from resolvers.delivery.lease_recovery import hand_back
from resolvers.queue.entries import put_back, take_over

log = logging.getLogger("runyard.queue")


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


BEATS = 3
"""How often a worker is to renew in the time of a lease. An outage shorter than one beat costs nobody a lease."""


def let_leases_run_on(connection: Connection, outages: Sequence[Outage]) -> list[Exception | None]:
    """Give the workers that could not renew for a beat or more the whole time of their leases from the outage's end.

    Whatever ran out meanwhile is held again, until it has run out once more. For the first transaction after an outage:
    the sweep and the workers' renewals are to find the leases like this.
    """
    for outage in outages:
        back_at = outage.until or connection.now
        longest = BEATS * seconds_between(outage.since, back_at) if outage.since else float("inf")
        if (count := queue.let_leases_run_on(connection, back_at, longest)) > 0:
            log.warning("The database was out of reach until %s; %d leases run on from then.", back_at, count)
    return [None] * len(outages)


def finish_deliveries(connection: Connection, lease_ids: Sequence[str]) -> list[bool | Exception]:
    """End the leases and take the runs out of the queue; whether each was still held. For at-most-once delivery."""
    held = queue.queue_entries_by_lease(connection, lease_ids)
    queue.delete_queue_entries(connection, [entry.task_run_id for entry, _ in held.values()])
    connection.announce(LeaseSettled(lease_id) for lease_id in lease_ids)
    return [lease_id in held for lease_id in lease_ids]


@dataclass(frozen=True, slots=True)
class Renewal:
    """A worker's sign of life for a run."""

    lease_id: str
    lease_seconds: float


def renew_leases(connection: Connection, renewals: Sequence[Renewal]) -> list[LeaseResult | Exception]:
    """Let the leases run for so many seconds from now. Renewing acknowledges. LOST for one that is not held any more."""
    lease_ids = [renewal.lease_id for renewal in renewals]
    held = queue.queue_entries_by_lease(connection, lease_ids)
    for renewal in renewals:
        if renewal.lease_id in held:
            entry, _ = held[renewal.lease_id]
            entry.is_acknowledged, entry.lease_seconds = True, renewal.lease_seconds
            entry.lease_expires_at = seconds_after(connection.now, renewal.lease_seconds)
    queue.update_queue_entries(connection, [entry for entry, _ in held.values()])
    connection.announce(LeaseSettled(lease_id) for lease_id in lease_ids)
    return [_result(lease_id, *held.get(lease_id, (None, None))) for lease_id in lease_ids]


@dataclass(frozen=True, slots=True)
class Release:
    """A worker hands a run back."""

    lease_id: str
    delay_seconds: float


def release_leases(connection: Connection, releases: Sequence[Release]) -> list[LeaseResult | Exception]:
    """Hand the runs back unfinished, each due again after its delay, at the head of its key.

    PENDING and RUNNING become SCHEDULED again. HELD for a lease that was held until now, LOST for any other.
    """
    delays = {each.lease_id: each.delay_seconds for each in releases}
    runs = queue.runs_by_lease(connection, list(delays))
    facts = task_runs.task_run_facts(connection, [(run_id, None) for run_id in runs.values()], whole=False)
    held = {
        lease_id: facts[run_id]
        for lease_id, run_id in runs.items()
        if run_id in facts and _is_held(facts[run_id].queue_entry, lease_id, connection.now)
    }
    cancelling = {lease_id for lease_id, each in held.items() if each.run.state_type is StateType.CANCELLING}
    hand_back(connection, [(each, delays[lease_id]) for lease_id, each in held.items()])
    connection.announce(LeaseSettled(each.lease_id) for each in releases)
    return [
        LeaseResult(
            each.lease_id,
            LeaseStatus.HELD if each.lease_id in held else LeaseStatus.LOST,
            cancel_requested=each.lease_id in cancelling,
        )
        for each in releases
    ]


def _is_held(entry: QueueEntryRecord | None, lease_id: str, now: str) -> bool:
    return entry is not None and entry.lease_id == lease_id and (entry.lease_expires_at or "") > now


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

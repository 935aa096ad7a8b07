"""Write operations on leases: acknowledge, renew, release and finish.

Each operation takes a list and executes a constant number of statements.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from db.connection import Connection, LeaseEnded, LeaseSettled
from db.database import Database
from db.enums import StateType
from db.errors import RowsLocked
from db.records import QueueEntryRecord
from db.runtime.timestamps import seconds_after
from db.statements import queue, task_runs
from resolvers.delivery.lease_recovery import requeue_released
from resolvers.queue.entries import requeue


class LeaseStatus(StrEnum):
    """Whether the caller holds the lease."""

    HELD = "HELD"
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class LeaseResult:
    """Result of an operation on one lease."""

    lease_id: str
    status: LeaseStatus
    lease_expires_at: str | None = None
    cancel_requested: bool = False

    @property
    def is_held(self) -> bool:
        return self.status is LeaseStatus.HELD


def acknowledge_leases(connection: Connection, lease_ids: Sequence[str]) -> list[LeaseResult | Exception]:
    """Acknowledge deliveries: each lease outlives its subscription and lasts for its `lease_seconds` from now.

    A lease that is no longer held is LOST. The credit for it returns to the subscriber in either case.
    """
    held = queue.acknowledge_entries(connection, lease_ids)
    connection.notify(LeaseSettled(lease_id) for lease_id in lease_ids)
    return [_result(lease_id, *held.get(lease_id, (None, None))) for lease_id in lease_ids]


def release_unacknowledged(connection: Connection, lease_ids: Sequence[str]) -> list[bool | Exception]:
    """Release and requeue unacknowledged deliveries of runs that have not started, at the head of their queues.

    Return for each lease whether its run has started, and `release_unconfirmed` must release it.
    """
    held = queue.queue_entries_by_lease(connection, lease_ids)
    unacknowledged = {lease_id: found for lease_id, found in held.items() if not found[0].is_acknowledged}
    # Changing the state of a run would lock it after its queue entry.
    started = {lease_id for lease_id, (_, state_type) in unacknowledged.items() if state_type is StateType.RUNNING}
    requeue_entries(connection, [entry for lease_id, (entry, _) in unacknowledged.items() if lease_id not in started])
    return [lease_id in started for lease_id in lease_ids]


def release_all_unacknowledged(connection: Connection, acknowledge_seconds: Sequence[float]) -> list[int | Exception]:
    """Requeue all unacknowledged deliveries, at the head of their queues, and return their number.

    Called when the only server of a database starts: the subscriptions of its predecessor have ended, and no worker can
    start what was sent to them. A worker may already execute a run that its claim has started, and can confirm it within
    `acknowledge_seconds` from now. No other transaction runs, so the order of locks does not matter.
    """
    unacknowledged = queue.unacknowledged_entries(connection)
    waiting = [entry for entry, type in unacknowledged if type is not StateType.RUNNING]
    requeue_entries(connection, waiting)
    started = [entry for entry, type in unacknowledged if type is StateType.RUNNING]
    for entry in started:
        entry.lease_expires_at = seconds_after(connection.now, max(acknowledge_seconds))
    queue.update_queue_entries(connection, started)
    return [len(waiting)] * len(acknowledge_seconds)


def finish_deliveries(connection: Connection, lease_ids: Sequence[str]) -> list[bool | Exception]:
    """End the leases and remove the runs from the queue, for at-most-once delivery. Return whether each was held."""
    held = queue.queue_entries_by_lease(connection, lease_ids)
    queue.delete_queue_entries(connection, [entry.task_run_id for entry, _ in held.values()])
    connection.notify(LeaseSettled(lease_id) for lease_id in lease_ids)
    connection.notify(LeaseEnded(lease_id) for lease_id in held)
    return [lease_id in held for lease_id in lease_ids]


@dataclass(frozen=True, slots=True)
class Renewal:
    """A request to renew one lease, for `lease_seconds` from now."""

    lease_id: str
    lease_seconds: float


def renew_leases(connection: Connection, renewals: Sequence[Renewal]) -> list[LeaseResult | Exception]:
    """Extend the leases, counted from now. Renewing also acknowledges. A lease that is no longer held is LOST."""
    lease_ids = [renewal.lease_id for renewal in renewals]
    held = queue.queue_entries_by_lease(connection, lease_ids)
    for renewal in renewals:
        if renewal.lease_id in held:
            entry, _ = held[renewal.lease_id]
            entry.is_acknowledged, entry.lease_seconds = True, renewal.lease_seconds
            entry.lease_expires_at = seconds_after(connection.now, renewal.lease_seconds)
    queue.update_queue_entries(connection, [entry for entry, _ in held.values()])
    connection.notify(LeaseSettled(lease_id) for lease_id in lease_ids)
    found = {lease_id: (entry.lease_expires_at, type) for lease_id, (entry, type) in held.items()}
    return [_result(lease_id, *found.get(lease_id, (None, None))) for lease_id in lease_ids]


async def renew_all_leases(database: Database, renewals: Sequence[Renewal]) -> list[LeaseResult | Exception]:
    """Renew leases as `renew_leases` does, also while another transaction has locked the rows of some of them.

    Raises RowsLocked for these when all others are renewed. Renewing again is safe.
    """
    try:
        return await database.write_all(renew_leases, renewals)
    except RowsLocked:
        if len(renewals) == 1:
            raise
    results = await asyncio.gather(
        *(database.write_all(renew_leases, [each]) for each in renewals), return_exceptions=True
    )
    for each in results:
        if isinstance(each, BaseException):
            raise each
    return [result for found in results if not isinstance(found, BaseException) for result in found]


@dataclass(frozen=True, slots=True)
class Release:
    """A request to release one lease. Its run is due again after `delay_seconds`."""

    lease_id: str
    delay_seconds: float


def release_leases(connection: Connection, releases: Sequence[Release]) -> list[LeaseResult | Exception]:
    """Release leases and requeue their unfinished runs, each due after its delay, at the head of its queue.

    PENDING and RUNNING become SCHEDULED, and a RUNNING that is released counts as no run. A run whose worker has
    received WAIT for a slot waits for the slot instead of the delay. CANCELLING becomes CANCELLED and leaves the queue;
    PAUSED stays PAUSED and leaves the queue. The result is HELD for a lease that was held until now, otherwise LOST.
    """
    delays = {each.lease_id: each.delay_seconds for each in releases}
    runs = queue.task_run_ids_by_lease(connection, list(delays))
    facts = task_runs.task_run_facts(
        connection, [(run_id, None) for run_id in runs.values()], include_large_columns=False
    )
    held = {
        lease_id: facts[run_id]
        for lease_id, run_id in runs.items()
        if run_id in facts and _is_held(facts[run_id].queue_entry, lease_id, connection.now)
    }
    cancelling = {lease_id for lease_id, each in held.items() if each.run.state_type is StateType.CANCELLING}
    requeue_released(connection, [(each, delays[lease_id]) for lease_id, each in held.items()])
    connection.notify(LeaseSettled(each.lease_id) for each in releases)
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


def requeue_entries(connection: Connection, entries: Sequence[QueueEntryRecord]) -> None:
    """End the leases of these entries and requeue them, at the head of their queues."""
    notifications = [notification for entry in entries for notification in requeue(entry)]
    queue.update_queue_entries(connection, entries)
    connection.notify(notifications)


def _result(lease_id: str, expires_at: str | None, state_type: StateType | None) -> LeaseResult:
    """Return the result for a lease that expires at this time; None for a lease that is no longer held."""
    if expires_at is None:
        return LeaseResult(lease_id, LeaseStatus.LOST)
    is_cancelling = state_type is StateType.CANCELLING
    return LeaseResult(lease_id, LeaseStatus.HELD, expires_at, is_cancelling)

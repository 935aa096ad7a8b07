"""Statements about the queue: runs that wait for a worker, and the leases of those that have one.

Callers read entries, decide, and write whole entries back; all of it in one transaction, so nothing can come between.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import BindParameter, Boolean, Text, bindparam, delete, func, literal_column, select, true, update

from db.connection import Connection, Row
from db.enums import StateType
from db.records import QueueEntryRecord
from db.row_mapping import columns_of, insert_of, row_of
from db.sql.dialects import for_each, has_tag_among, is_key_among, later, rows_of
from db.sql.statement import Statement
from db.tables import queue_entry, task_run

QUEUE_ENTRY_COLUMNS = columns_of(queue_entry, QueueEntryRecord)
QUEUE_ENTRY_WIDTH = len(QUEUE_ENTRY_COLUMNS)

_now: BindParameter[str] = bindparam("now", required=True)
_limit: BindParameter[int] = bindparam("limit", required=True)
_entries = select(*QUEUE_ENTRY_COLUMNS)

_INSERT = insert_of(queue_entry, QueueEntryRecord)
_UPDATE = Statement(
    update(queue_entry).where(queue_entry.c.task_run_id == bindparam("run_id", required=True)),
    [each.name for each in fields(QueueEntryRecord)],
)
_DELETE = Statement(delete(queue_entry).where(queue_entry.c.task_run_id == bindparam("run_id", required=True)))
_BY_RUN = Statement(_entries.where(is_key_among(queue_entry.c.task_run_id, "ids")))
_leased = select(*QUEUE_ENTRY_COLUMNS, task_run.c.state_type).join(task_run, task_run.c.id == queue_entry.c.task_run_id)
_LOCK = Statement(
    select(queue_entry.c.task_run_id)
    .where(is_key_among(queue_entry.c.task_run_id, "ids"))
    .order_by(queue_entry.c.task_run_id)
    .with_for_update()
)
_LOCK_BY_LEASE = Statement(
    select(queue_entry.c.task_run_id)
    .where(is_key_among(queue_entry.c.lease_id, "leases"))
    .order_by(queue_entry.c.task_run_id)
    .with_for_update()
)
_RUNS_BY_LEASE = Statement(
    select(queue_entry.c.lease_id, queue_entry.c.task_run_id).where(is_key_among(queue_entry.c.lease_id, "leases"))
)
_BY_LEASE = Statement(_leased.where(is_key_among(queue_entry.c.lease_id, "leases")))
_UNACKNOWLEDGED = Statement(_entries.where(queue_entry.c.lease_id.is_not(None), ~queue_entry.c.is_acknowledged))
_UNACKNOWLEDGED_AMONG = Statement(
    select(queue_entry.c.lease_id).where(is_key_among(queue_entry.c.lease_id, "leases"), ~queue_entry.c.is_acknowledged)
)

# One row for each side of each key. Both statements below look into the index of what waits once for each of them.
_sides = rows_of("sides", task_key=Text(), is_retry=Boolean())
_waiting = queue_entry.alias("waiting")
_of_side = (
    _waiting.c.lease_id.is_(None),
    _waiting.c.task_key == _sides.c.task_key,
    _waiting.c.is_retry == _sides.c.is_retry,
)
_due_of_side = (
    select(_waiting.c.task_run_id)
    .where(*_of_side, _waiting.c.available_at <= _now)
    .order_by(_waiting.c.available_at, _waiting.c.task_run_id)
    .limit(_limit)
    .correlate(_sides)
)
_locked_of_side = (
    select(*columns_of(_waiting, QueueEntryRecord))
    .where(*_of_side, _waiting.c.available_at <= _now)
    .order_by(_waiting.c.available_at, _waiting.c.task_run_id)
    .limit(_limit)
    .with_for_update(skip_locked=True)
    .correlate(_sides)
    .lateral("due")
)
_DUE = Statement(
    _entries.select_from(for_each(_sides, queue_entry)).where(queue_entry.c.task_run_id.in_(_due_of_side)),
    # What another server is claiming, or a change of state is about to take away, is passed over without waiting.
    postgresql=select(*columns_of(_locked_of_side, QueueEntryRecord)).select_from(_sides.join(_locked_of_side, true())),
)
_NEXT_DUE = Statement(
    select(select(func.min(_waiting.c.available_at)).where(*_of_side).correlate(_sides).scalar_subquery()).select_from(
        _sides
    )
)

_EXPIRED = Statement(
    select(queue_entry.c.task_run_id)
    .where(queue_entry.c.lease_id.is_not(None), queue_entry.c.lease_expires_at <= _now)
    .order_by(queue_entry.c.lease_expires_at)
    .limit(_limit)
)
_NEXT_EXPIRY = Statement(select(func.min(queue_entry.c.lease_expires_at)).where(queue_entry.c.lease_id.is_not(None)))

_run_on_until = later(
    bindparam("start", type_=queue_entry.c.lease_expires_at.type, required=True), queue_entry.c.lease_seconds
)
_LET_RUN_ON = Statement(
    update(queue_entry)
    .values(lease_expires_at=_run_on_until)
    .where(
        queue_entry.c.lease_id.is_not(None),
        queue_entry.c.is_acknowledged,
        queue_entry.c.lease_seconds <= bindparam("longest", required=True),
        queue_entry.c.lease_expires_at < _run_on_until,
    )
)

_WAITING_FOR_SLOT = Statement(
    _entries.join(task_run, task_run.c.id == queue_entry.c.task_run_id)
    .where(
        literal_column("queue_entry.waits_for_slot"),
        queue_entry.c.lease_id.is_(None),
        queue_entry.c.available_at > _now,
        has_tag_among(task_run.c.tags, "tags"),
    )
    .order_by(queue_entry.c.available_at)
    .limit(_limit)
    .with_for_update(of=queue_entry, skip_locked=True)
)


def queue_entry_from(row: Row) -> QueueEntryRecord:
    entry = QueueEntryRecord(*row[:QUEUE_ENTRY_WIDTH])
    entry.is_retry, entry.is_acknowledged = bool(entry.is_retry), bool(entry.is_acknowledged)
    entry.waits_for_slot = bool(entry.waits_for_slot)
    return entry


def insert_queue_entries(connection: Connection, entries: Sequence[QueueEntryRecord]) -> None:
    connection.run_many(_INSERT, [row_of(entry) for entry in entries])


def update_queue_entries(connection: Connection, entries: Sequence[QueueEntryRecord]) -> None:
    """Write these entries over what was there."""
    connection.run_many(_UPDATE, [{"run_id": entry.task_run_id, **row_of(entry)} for entry in entries])


def delete_queue_entries(connection: Connection, task_run_ids: Sequence[str]) -> None:
    connection.run_many(_DELETE, [{"run_id": each} for each in task_run_ids])


def queue_entries_by_run(connection: Connection, task_run_ids: Sequence[str]) -> dict[str, QueueEntryRecord]:
    """The entries of those runs that have one."""
    return {row[0]: queue_entry_from(row) for row in connection.fetch(_BY_RUN, {"ids": list(task_run_ids)})}


def lock_queue_entries(connection: Connection, task_run_ids: Sequence[str]) -> None:
    """Keep these runs' places as they are until the transaction ends, but for what it does."""
    connection.lock(_LOCK, {"ids": list(task_run_ids)})


def runs_by_lease(connection: Connection, lease_ids: Sequence[str]) -> dict[str, str]:
    """The runs under those of these leases that there are, by lease; whether one has run out is not looked at."""
    return {row[0]: row[1] for row in connection.fetch(_RUNS_BY_LEASE, {"leases": list(lease_ids)})}


def queue_entries_by_lease(
    connection: Connection, lease_ids: Sequence[str]
) -> dict[str, tuple[QueueEntryRecord, StateType | None]]:
    """The entries under those of these leases that have not run out, each with the type of its run's state, by lease.

    Nobody else changes them before the transaction ends.
    """
    connection.lock(_LOCK_BY_LEASE, {"leases": list(lease_ids)})
    rows = connection.fetch(_BY_LEASE, {"leases": list(lease_ids)})
    found = ((queue_entry_from(row), row[QUEUE_ENTRY_WIDTH]) for row in rows)
    # Not a condition of the statement's: SQLite would read all that is leased, in the order in which it runs out.
    return {
        entry.lease_id or "": (entry, StateType(type) if type else None)
        for entry, type in found
        if (entry.lease_expires_at or "") > connection.now
    }


def unacknowledged_entries(connection: Connection) -> list[QueueEntryRecord]:
    """Every entry that was delivered and not yet taken over."""
    return [queue_entry_from(row) for row in connection.fetch(_UNACKNOWLEDGED)]


def due_entries(connection: Connection, task_keys: Sequence[str], per_side: int) -> list[QueueEntryRecord]:
    """What may be claimed now: for each key the first `per_side` of its retry side and as many of its scheduled side."""
    parameters = {"sides": _sides_of(task_keys), "now": connection.now, "limit": per_side}
    return [queue_entry_from(row) for row in connection.fetch(_DUE, parameters)]


def next_due_at(connection: Connection, task_keys: Sequence[str]) -> str | None:
    """When the next run of these keys is due, or has been: another server may be claiming it. None where none waits."""
    rows = connection.fetch(_NEXT_DUE, {"sides": _sides_of(task_keys)})
    return min((row[0] for row in rows if row[0] is not None), default=None)


def runs_with_expired_leases(connection: Connection, limit: int) -> list[str]:
    """The runs whose leases have run out, the longest ago first."""
    return [row[0] for row in connection.fetch(_EXPIRED, {"now": connection.now, "limit": limit})]


def let_leases_run_on(connection: Connection, start: str, longest_seconds: float) -> int:
    """Let acknowledged leases of at most so many seconds run for their whole time from `start`; how many had less left."""
    return connection.run(_LET_RUN_ON, {"start": start, "longest": longest_seconds})


def unacknowledged_among(connection: Connection, lease_ids: Sequence[str]) -> set[str]:
    """Those of these leases that are there and that nobody has taken over yet."""
    return {row[0] for row in connection.fetch(_UNACKNOWLEDGED_AMONG, {"leases": list(lease_ids)})}


def next_expiry_at(connection: Connection) -> str | None:
    """When the next lease runs out, or has run out; None where none is held."""
    ((expires_at,),) = connection.fetch(_NEXT_EXPIRY)
    return expires_at


def entries_waiting_for_slots(connection: Connection, tags: Sequence[str], limit: int) -> list[QueueEntryRecord]:
    """The entries that are to be due later because a limit on one of these tags was full, the next ones first."""
    parameters = {"now": connection.now, "tags": list(tags), "limit": limit}
    return [queue_entry_from(row) for row in connection.fetch(_WAITING_FOR_SLOT, parameters)]


def _sides_of(task_keys: Sequence[str]) -> list[Any]:
    return [[key, is_retry] for key in task_keys for is_retry in (1, 0)]

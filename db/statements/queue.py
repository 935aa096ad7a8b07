"""Statements for the queue: the entries of waiting runs, and the leases of delivered runs.

Callers read entries, decide, and write whole entries, all in one transaction. No other transaction can interfere.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Float,
    FromClause,
    Select,
    Text,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    true,
    union_all,
    update,
)

from db.connection import Connection, Row
from db.enums import StateType
from db.records import QueueEntryRecord
from db.row_mapping import insert_statement, record_columns, record_to_row, stored_column_names
from db.sql.lists import is_key_among, unnest_rows
from db.sql.planner_hints import is_in_subquery, nested_loop_join, with_selectivity
from db.sql.statement import Statement
from db.sql.text import collate_by_code_point
from db.sql.time_arithmetic import add_seconds, earlier_of
from db.tables import queue_entry, task_run

QUEUE_ENTRY_COLUMNS = record_columns(queue_entry, QueueEntryRecord)
QUEUE_ENTRY_WIDTH = len(QUEUE_ENTRY_COLUMNS)

MAX_SHIFT_SECONDS = 1e9
"""Limit on the change of a lease, in seconds: about 30 years. The result stays a valid timestamp."""

_now: BindParameter[str] = bindparam("now", required=True)
_limit: BindParameter[int] = bindparam("limit", required=True)
_entries = select(*QUEUE_ENTRY_COLUMNS)

_INSERT = insert_statement(queue_entry, QueueEntryRecord)
_UPDATE = Statement(
    update(queue_entry).where(queue_entry.c.task_run_id == bindparam("run_id", required=True)),
    stored_column_names(QueueEntryRecord),
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
_runs = unnest_rows("runs", id=queue_entry.c.task_run_id.type)
_held = queue_entry.alias("held")
_LOCK_BY_RUN_OR_LEASE = Statement(
    select(queue_entry.c.task_run_id)
    .where(
        is_in_subquery(
            queue_entry.c.task_run_id,
            union_all(select(_runs.c.id), select(_held.c.task_run_id).where(is_key_among(_held.c.lease_id, "leases"))),
        )
    )
    .order_by(queue_entry.c.task_run_id)
    .with_for_update()
)
_TASK_RUN_IDS_BY_LEASE = Statement(
    select(queue_entry.c.lease_id, queue_entry.c.task_run_id).where(is_key_among(queue_entry.c.lease_id, "leases"))
)
_by_lease = _leased.where(is_key_among(queue_entry.c.lease_id, "leases"))
_BY_LEASE = Statement(
    _by_lease, postgresql=_by_lease.order_by(queue_entry.c.task_run_id).with_for_update(of=queue_entry)
)


def _of_run(entry: FromClause, column: ColumnElement[Any]) -> ColumnElement[Any]:
    return select(column).where(task_run.c.id == entry.c.task_run_id).correlate(entry).scalar_subquery()


_UNACKNOWLEDGED = Statement(
    select(*QUEUE_ENTRY_COLUMNS, _of_run(queue_entry, task_run.c.state_type)).where(
        queue_entry.c.lease_id.is_not(None), ~queue_entry.c.is_acknowledged
    )
)
_LEASE_ACKNOWLEDGEMENTS = Statement(
    select(queue_entry.c.lease_id, queue_entry.c.is_acknowledged).where(is_key_among(queue_entry.c.lease_id, "leases"))
)

_expired = (
    select(queue_entry.c.task_run_id)
    .where(queue_entry.c.lease_id.is_not(None), queue_entry.c.lease_expires_at <= _now)
    .order_by(queue_entry.c.lease_expires_at)
    .limit(_limit)
)
_EXPIRED = Statement(
    _expired,
    postgresql=_expired.join(task_run, task_run.c.id == queue_entry.c.task_run_id).with_for_update(
        key_share=True, skip_locked=True
    ),
)
_NEXT_EXPIRY = Statement(select(func.min(queue_entry.c.lease_expires_at)).where(queue_entry.c.lease_id.is_not(None)))

_seconds: BindParameter[float] = bindparam("seconds", type_=Float(), required=True)
_now_value = bindparam("now", type_=queue_entry.c.lease_expires_at.type, required=True)
_shifted_expiry = add_seconds(queue_entry.c.lease_expires_at, _seconds)
_SHIFT_LEASES = Statement(
    update(queue_entry)
    .values(lease_expires_at=_shifted_expiry, times_out_at=add_seconds(queue_entry.c.times_out_at, _seconds))
    .where(queue_entry.c.lease_id.is_not(None))
)
# With a condition on the expiry, both databases could read all leased entries in the order of their expiry.
_is_expired_or_acknowledged = or_(queue_entry.c.lease_expires_at <= _now_value, queue_entry.c.is_acknowledged)
_acknowledge = (
    update(queue_entry)
    .values(
        is_acknowledged=or_(queue_entry.c.is_acknowledged, queue_entry.c.lease_expires_at > _now_value),
        lease_expires_at=case(
            (_is_expired_or_acknowledged, queue_entry.c.lease_expires_at),
            else_=add_seconds(_now_value, queue_entry.c.lease_seconds),
        ),
    )
    .returning(queue_entry.c.lease_id, queue_entry.c.lease_expires_at, _of_run(queue_entry, task_run.c.state_type))
)
_lease = bindparam("lease", type_=queue_entry.c.lease_id.type, required=True)
_ACKNOWLEDGE = Statement(_acknowledge.where(queue_entry.c.lease_id == _lease))
_to_acknowledge = queue_entry.alias("to_acknowledge")
_ACKNOWLEDGE_SEVERAL = Statement(
    _acknowledge.where(is_key_among(queue_entry.c.lease_id, "leases")),
    # An UPDATE alone would lock the entries in any order.
    postgresql=_acknowledge.where(
        is_in_subquery(
            queue_entry.c.task_run_id,
            select(_to_acknowledge.c.task_run_id)
            .where(is_key_among(_to_acknowledge.c.lease_id, "leases"))
            .order_by(_to_acknowledge.c.task_run_id)
            .with_for_update(),
        )
    ),
)
_extended_expiry = earlier_of(_shifted_expiry, add_seconds(_now_value, queue_entry.c.lease_seconds))
_is_extendable = (
    queue_entry.c.lease_id.is_not(None),
    queue_entry.c.is_acknowledged,
    queue_entry.c.lease_expires_at != _extended_expiry,
)
_extend_leases = update(queue_entry).values(lease_expires_at=_extended_expiry).where(*_is_extendable)
_leased_entry = queue_entry.alias("leased")
_EXTEND_LEASES = Statement(
    _extend_leases,
    # A lease that another transaction has locked must not delay the others.
    postgresql=_extend_leases.where(
        queue_entry.c.task_run_id.in_(
            select(_leased_entry.c.task_run_id)
            .where(_leased_entry.c.lease_id.is_not(None), _leased_entry.c.is_acknowledged)
            .order_by(_leased_entry.c.task_run_id)
            .with_for_update(skip_locked=True)
        )
    ),
)

# Runs that wait for a slot: their tags, and the task keys of each tag, are read with one search of the index for each.
_slot_waiter = queue_entry.alias("slot_waiter")
_is_unleased = with_selectivity(0.9, _slot_waiter.c.lease_id.is_(None))
_tags = unnest_rows("tags", tag=Text())


def _next_waiting_tag(*conditions: ColumnElement[bool]) -> Select[Any]:
    return select(func.min(_slot_waiter.c.waits_for_tag)).where(
        _slot_waiter.c.waits_for_tag.is_not(None), _is_unleased, *conditions
    )


def _next_waiting_key(tag: ColumnElement[str], *conditions: ColumnElement[bool]) -> Select[Any]:
    return select(func.min(_slot_waiter.c.task_key)).where(
        _slot_waiter.c.waits_for_tag == tag, _is_unleased, *conditions
    )


_waiting_tags = select(_next_waiting_tag().scalar_subquery().label("tag")).cte("waiting_tags", recursive=True)
_waiting_tags = _waiting_tags.union_all(
    select(
        _next_waiting_tag(_slot_waiter.c.waits_for_tag > _waiting_tags.c.tag).correlate(_waiting_tags).scalar_subquery()
    )
    .select_from(_waiting_tags)
    .where(_waiting_tags.c.tag.is_not(None))
)
_WAITING_TAGS = Statement(select(_waiting_tags.c.tag).where(_waiting_tags.c.tag.is_not(None)))

_waiting_keys = select(
    collate_by_code_point(_tags.c.tag).label("tag"),
    _next_waiting_key(_tags.c.tag).correlate(_tags).scalar_subquery().label("task_key"),
).cte("waiting_keys", recursive=True)
_waiting_keys = _waiting_keys.union_all(
    select(
        _waiting_keys.c.tag,
        _next_waiting_key(_waiting_keys.c.tag, _slot_waiter.c.task_key > _waiting_keys.c.task_key)
        .correlate(_waiting_keys)
        .scalar_subquery(),
    ).where(_waiting_keys.c.task_key.is_not(None))
)


def _first_of_key(*columns: ColumnElement[Any]) -> Select[Any]:
    return (
        select(*columns)
        .where(
            _slot_waiter.c.waits_for_tag == _waiting_keys.c.tag,
            _slot_waiter.c.task_key == _waiting_keys.c.task_key,
            _is_unleased,
        )
        .order_by(_slot_waiter.c.priority.desc(), _slot_waiter.c.available_at, _slot_waiter.c.task_run_id)
        .limit(_limit)
        .correlate(_waiting_keys)
    )


_locked_of_key = (
    _first_of_key(*record_columns(_slot_waiter, QueueEntryRecord)).with_for_update(skip_locked=True).lateral("first")
)
_FIRST_WAITING_FOR_SLOTS = Statement(
    _entries.select_from(nested_loop_join(_waiting_keys, queue_entry)).where(
        queue_entry.c.task_run_id.in_(_first_of_key(_slot_waiter.c.task_run_id))
    ),
    postgresql=select(*record_columns(_locked_of_key, QueueEntryRecord)).select_from(
        _waiting_keys.join(_locked_of_key, true())
    ),
)


def queue_entry_from(row: Row) -> QueueEntryRecord:
    entry = QueueEntryRecord(*row[:QUEUE_ENTRY_WIDTH])
    entry.is_retry, entry.is_acknowledged = bool(entry.is_retry), bool(entry.is_acknowledged)
    return entry


def insert_queue_entries(connection: Connection, entries: Sequence[QueueEntryRecord]) -> None:
    connection.run_many(_INSERT, [record_to_row(entry) for entry in entries])


def update_queue_entries(connection: Connection, entries: Sequence[QueueEntryRecord]) -> None:
    """Overwrite the stored entries of the same runs."""
    connection.run_many(_UPDATE, [{"run_id": entry.task_run_id, **record_to_row(entry)} for entry in entries])


def delete_queue_entries(connection: Connection, task_run_ids: Sequence[str]) -> None:
    connection.run_many(_DELETE, [{"run_id": each} for each in task_run_ids])


def queue_entries_by_run(connection: Connection, task_run_ids: Sequence[str]) -> dict[str, QueueEntryRecord]:
    """Return the entries of those runs that have one, by run id."""
    return {row[0]: queue_entry_from(row) for row in connection.fetch(_BY_RUN, {"ids": list(task_run_ids)})}


def lock_queue_entries(connection: Connection, task_run_ids: Sequence[str], lease_ids: Sequence[str] = ()) -> None:
    """Lock the queue entries of these runs and leases.

    No other transaction changes them before this transaction ends.
    """
    if lease_ids:
        connection.lock(_LOCK_BY_RUN_OR_LEASE, {"runs": [[id] for id in task_run_ids], "leases": list(lease_ids)})
    else:
        connection.lock(_LOCK, {"ids": list(task_run_ids)})


def task_run_ids_by_lease(connection: Connection, lease_ids: Sequence[str]) -> dict[str, str]:
    """Return the ids of the runs under these leases, by lease id. Expired leases are included, unknown ones omitted."""
    return {row[0]: row[1] for row in connection.fetch(_TASK_RUN_IDS_BY_LEASE, {"leases": list(lease_ids)})}


def queue_entries_by_lease(
    connection: Connection, lease_ids: Sequence[str]
) -> dict[str, tuple[QueueEntryRecord, StateType | None]]:
    """Lock and return the entries under these leases, each with the state type of its run, by lease id.

    Unknown and expired leases are omitted. No other transaction changes the entries before this transaction ends. The
    state type may be that from before the lock.
    """
    rows = connection.fetch_locked(_BY_LEASE, {"leases": list(lease_ids)})
    found = ((queue_entry_from(row), row[QUEUE_ENTRY_WIDTH]) for row in rows)
    # With a condition in the statement, SQLite would read all leased entries in the order of their expiry.
    return {
        entry.lease_id or "": (entry, StateType(type) if type else None)
        for entry, type in found
        if (entry.lease_expires_at or "") > connection.now
    }


def acknowledge_entries(connection: Connection, lease_ids: Sequence[str]) -> dict[str, tuple[str, StateType | None]]:
    """Acknowledge these leases. Nothing may be written after it, unless the transaction has locked rows before.

    Return when each of them expires, and the state type of its run, by lease id. A lease that is acknowledged already
    does not change. Unknown and expired leases are omitted.
    """
    if len(lease_ids) == 1:
        # PostgreSQL finds the entry once. For several leases, it may prefer to scan a small table.
        rows = connection.update_returning(_ACKNOWLEDGE, {"lease": lease_ids[0], "now": connection.now})
    else:
        rows = connection.update_returning(_ACKNOWLEDGE_SEVERAL, {"leases": list(lease_ids), "now": connection.now})
    return {
        lease_id: (expires_at, StateType(type) if type else None)
        for lease_id, expires_at, type in rows
        if expires_at > connection.now
    }


def unacknowledged_entries(connection: Connection) -> list[tuple[QueueEntryRecord, StateType]]:
    """Return every entry that is delivered and not yet acknowledged, with the state type of its run."""
    return [(queue_entry_from(row), StateType(row[QUEUE_ENTRY_WIDTH])) for row in connection.fetch(_UNACKNOWLEDGED)]


def runs_with_expired_leases(connection: Connection, limit: int) -> list[str]:
    """Lock and return the ids of at most `limit` runs whose leases have expired, earliest expiry first.

    Runs that another transaction has locked are skipped.
    """
    return [row[0] for row in connection.fetch(_EXPIRED, {"now": connection.now, "limit": limit})]


def extend_leases(connection: Connection, seconds: float) -> int:
    """Extend acknowledged leases by `seconds`, up to their full time from now, and return the number of changed leases.

    A lease that ends later than that is shortened to its full time. Leases that another transaction has locked are
    skipped.
    """
    return connection.run(_EXTEND_LEASES, {"now": connection.now, "seconds": min(seconds, MAX_SHIFT_SECONDS)})


def shift_leases(connection: Connection, seconds: float) -> None:
    """Let all leases and time limits end `seconds` later; earlier when negative."""
    connection.run(_SHIFT_LEASES, {"seconds": max(-MAX_SHIFT_SECONDS, min(seconds, MAX_SHIFT_SECONDS))})


def lease_acknowledgements(connection: Connection, lease_ids: Sequence[str]) -> dict[str, bool]:
    """Return those of these leases that exist, each with whether it is acknowledged."""
    rows = connection.fetch(_LEASE_ACKNOWLEDGEMENTS, {"leases": list(lease_ids)})
    return {lease_id: bool(is_acknowledged) for lease_id, is_acknowledged in rows}


def next_expiry_at(connection: Connection) -> str | None:
    """Return when the next lease expires or has expired, or None when no lease is held."""
    ((expires_at,),) = connection.fetch(_NEXT_EXPIRY)
    return expires_at


def tags_with_waiting_runs(connection: Connection) -> list[str]:
    """Return the tags whose slots unleased runs wait for, in their order."""
    return [row[0] for row in connection.fetch(_WAITING_TAGS)]


def first_waiting_for_slots(connection: Connection, tags: Sequence[str], per_key: int) -> list[QueueEntryRecord]:
    """Lock and return unleased entries that wait for a slot of these tags: for each tag, the first `per_key` of each key.

    They are the first by priority, then by due time. Those that another transaction has locked are skipped.
    """
    parameters = {"tags": [[tag] for tag in tags], "limit": per_key}
    return [queue_entry_from(row) for row in connection.fetch(_FIRST_WAITING_FOR_SLOTS, parameters)]

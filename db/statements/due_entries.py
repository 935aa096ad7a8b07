"""Statements of the claim: the due entries of task keys, and when the next one is due.

A *group* is the waiting entries of a task key that have one priority and are on one side. The index of waiting entries is
searched once for each key to find out whether it has any, once for each group to find it, and once for its first entries:
the cost does not depend on the number of entries. Keys whose queue is paused have no groups.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    BindParameter,
    Boolean,
    ColumnElement,
    FromClause,
    Text,
    bindparam,
    func,
    literal_column,
    select,
    true,
    union_all,
)

from db.connection import Connection, Row
from db.records import QueueEntryRecord
from db.row_mapping import record_columns
from db.sql.lists import is_empty_list, unnest_rows
from db.sql.planner_hints import nested_loop_join, with_selectivity
from db.sql.statement import Statement
from db.statements.queue import QUEUE_ENTRY_COLUMNS, QUEUE_ENTRY_WIDTH, queue_entry_from
from db.tables import paused_queue, queue_entry, task_run

_now: BindParameter[str] = bindparam("now", required=True)
_limit: BindParameter[int] = bindparam("limit", required=True)

_keys = unnest_rows("keys", task_key=Text())
_any_waiting = queue_entry.alias("any_waiting")
_has_waiting = (
    select(_any_waiting.c.task_key)
    .where(with_selectivity(0.9, _any_waiting.c.lease_id.is_(None)), _any_waiting.c.task_key == _keys.c.task_key)
    # PostgreSQL would otherwise search the table for an entry of a key that has many.
    .order_by(
        _any_waiting.c.is_retry, _any_waiting.c.waits_for_slot, _any_waiting.c.priority, _any_waiting.c.available_at
    )
    .limit(literal_column("1"))
    .correlate(_keys)
    .scalar_subquery()
    .is_not(None)
)
_is_paused = (
    select(paused_queue.c.task_key).where(paused_queue.c.task_key == _keys.c.task_key).correlate(_keys).exists()
)
_both_sides = union_all(
    select(literal_column("true", Boolean()).label("is_retry")), select(literal_column("false", Boolean()))
).subquery("both_sides")
_sides = (
    select(_keys.c.task_key, _both_sides.c.is_retry)
    .select_from(nested_loop_join(_keys, _both_sides))
    .where(_has_waiting, ~_is_paused)
    .subquery("sides")
)

_of_priority = queue_entry.alias("of_priority")


def _highest_priority(side: FromClause, *conditions: ColumnElement[bool]) -> ColumnElement[int]:
    """Return the highest priority of the entries of a side that can be due, with one search of the index."""
    return (
        select(_of_priority.c.priority)
        .where(
            with_selectivity(0.9, _of_priority.c.lease_id.is_(None)),
            ~_of_priority.c.waits_for_slot,
            _of_priority.c.task_key == side.c.task_key,
            _of_priority.c.is_retry == side.c.is_retry,
            *conditions,
        )
        .order_by(_of_priority.c.priority.desc())
        .limit(literal_column("1"))
        .correlate(side)
        .scalar_subquery()
    )


def _find_groups() -> CTE:
    """Build the groups of the keys: for each side, the next lower priority again and again until none is left."""
    found = select(_sides.c.task_key, _sides.c.is_retry, _highest_priority(_sides).label("priority")).cte(
        "groups", recursive=True
    )
    return found.union_all(
        select(
            found.c.task_key, found.c.is_retry, _highest_priority(found, _of_priority.c.priority < found.c.priority)
        ).where(found.c.priority.is_not(None))
    )


_groups = _find_groups()
_waiting = queue_entry.alias("waiting")
_of_group = (
    _waiting.c.lease_id.is_(None),
    ~_waiting.c.waits_for_slot,
    _waiting.c.task_key == _groups.c.task_key,
    _waiting.c.is_retry == _groups.c.is_retry,
    # The last row of each side has no priority, and matches nothing.
    _waiting.c.priority == _groups.c.priority,
)
_due_of_group = (
    select(_waiting.c.task_run_id)
    .where(*_of_group, _waiting.c.available_at <= _now)
    .order_by(_waiting.c.available_at, _waiting.c.task_run_id)
    .limit(_limit)
    .correlate(_groups)
)
_due_entries_of_group = (
    select(*record_columns(_waiting, QueueEntryRecord))
    .where(*_of_group, _waiting.c.available_at <= _now)
    .order_by(_waiting.c.available_at, _waiting.c.task_run_id)
    .limit(_limit)
    .correlate(_groups)
)
_locked_of_group = _due_entries_of_group.with_for_update(skip_locked=True).lateral("due")
# All other transactions lock runs before entries. A claim that changes runs locks both at once, and waits for neither.
_locked_with_run_of_group = (
    _due_entries_of_group.add_columns((~is_empty_list(task_run.c.tags)).label("has_tags"), task_run.c.cache_key)
    .join(task_run, task_run.c.id == _waiting.c.task_run_id)
    .with_for_update(key_share=True, skip_locked=True, of=[_waiting, task_run])
    .lateral("due")
)


def _of_run(entry: FromClause, column: ColumnElement[Any]) -> ColumnElement[Any]:
    return select(column).where(task_run.c.id == entry.c.task_run_id).correlate(entry).scalar_subquery()


_due_on_sqlite = (
    select(*QUEUE_ENTRY_COLUMNS, _of_run(queue_entry, ~is_empty_list(task_run.c.tags)))
    .select_from(nested_loop_join(_groups, queue_entry))
    .where(queue_entry.c.task_run_id.in_(_due_of_group))
)
_DUE = Statement(
    _due_on_sqlite,
    # Entries that another server is claiming, or that a state change is about to remove, are skipped without waiting.
    postgresql=select(
        *record_columns(_locked_of_group, QueueEntryRecord),
        _of_run(_locked_of_group, ~is_empty_list(task_run.c.tags)),
    ).select_from(_groups.join(_locked_of_group, true())),
)
_DUE_WITH_RUNS = Statement(
    _due_on_sqlite.add_columns(_of_run(queue_entry, task_run.c.cache_key)),
    postgresql=select(
        *record_columns(_locked_with_run_of_group, QueueEntryRecord),
        _locked_with_run_of_group.c.has_tags,
        _locked_with_run_of_group.c.cache_key,
    ).select_from(_groups.join(_locked_with_run_of_group, true())),
)
_NEXT_DUE = Statement(
    select(
        _groups.c.task_key,
        select(func.min(_waiting.c.available_at)).where(*_of_group).correlate(_groups).scalar_subquery(),
    ).select_from(_groups)
)


def due_entries(
    connection: Connection, task_keys: Sequence[str], per_group: int, *, locks_runs: bool = False
) -> list[QueueEntryRecord]:
    """Return the entries that can be claimed now: for each key, the first `per_group` entries of each group.

    Entries of expired runs are included. On PostgreSQL, the entries, and with `locks_runs` their runs as well, are locked
    until the transaction ends. Those that another transaction has locked are skipped. `cache_key` of the entries is read
    with `locks_runs` only.
    """
    parameters = {"keys": _rows_of(task_keys), "now": connection.now, "limit": per_group}
    statement = _DUE_WITH_RUNS if locks_runs else _DUE
    return [_due_entry_from(row) for row in connection.fetch(statement, parameters)]


def _due_entry_from(row: Row) -> QueueEntryRecord:
    entry = queue_entry_from(row)
    entry.has_tags = bool(row[QUEUE_ENTRY_WIDTH])
    if len(row) > QUEUE_ENTRY_WIDTH + 1:
        entry.cache_key = row[QUEUE_ENTRY_WIDTH + 1]
    return entry


def next_due_at(connection: Connection, task_keys: Sequence[str]) -> dict[str, str]:
    """Return when the next run of each key is due. Keys without a waiting run, and paused ones, are omitted.

    A time may have passed: another server may be claiming the run.
    """
    next_due: dict[str, str] = {}
    for key, due_at in connection.fetch(_NEXT_DUE, {"keys": _rows_of(task_keys)}):
        if due_at is not None:
            next_due[key] = min(due_at, next_due.get(key, due_at))
    return next_due


def _rows_of(task_keys: Sequence[str]) -> list[list[str]]:
    return [[key] for key in task_keys]

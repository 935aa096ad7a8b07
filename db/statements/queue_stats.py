"""Statements for queue statistics by task key."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    Boolean,
    ColumnElement,
    Text,
    and_,
    bindparam,
    func,
    literal_column,
    null,
    select,
    union_all,
)

from db.connection import Connection
from db.records import QueueStats
from db.sql.lists import is_among, unnest_rows
from db.sql.planner_hints import with_selectivity
from db.sql.statement import Statement
from db.tables import queue_entry

_now: BindParameter[str] = bindparam("now", required=True)
_zero: ColumnElement[int] = literal_column("0")


def _stats_statement(*keys: ColumnElement[bool]) -> Statement:
    """Build the statement for the statistics of these keys, or of all keys.

    Waiting entries and leased entries are each read from their own index.
    """
    entry = queue_entry.c
    is_due = and_(~entry.waits_for_slot, entry.available_at <= _now)
    waiting = (
        select(
            entry.task_key,
            func.count().filter(is_due, ~entry.is_retry).label("scheduled"),
            func.count().filter(is_due, entry.is_retry).label("retry"),
            func.count().filter(~is_due).label("delayed"),
            _zero.label("leased"),
            func.min(entry.available_at).filter(is_due).label("oldest_due_at"),
        )
        .where(with_selectivity(0.9, entry.lease_id.is_(None)), *keys)
        .group_by(entry.task_key)
    )
    leased = (
        select(entry.task_key, _zero, _zero, _zero, func.count(), null())
        .where(entry.lease_id.is_not(None), *keys)
        .group_by(entry.task_key)
    )
    both = union_all(waiting, leased).subquery()
    # Each key has at most one row of either kind, with zero or null in the columns of the other kind.
    totals = [func.max(both.c[name]) for name in ("scheduled", "retry", "delayed", "leased", "oldest_due_at")]
    return Statement(select(both.c.task_key, *totals).group_by(both.c.task_key))


_ALL_STATS = _stats_statement()
_STATS_BY_KEY = _stats_statement(is_among(queue_entry.c.task_key, "keys"))

_sides = unnest_rows("sides", task_key=Text(), is_retry=Boolean())
_waiting_on_side = (
    select(func.count())
    .select_from(queue_entry)
    .where(
        with_selectivity(0.9, queue_entry.c.lease_id.is_(None)),
        queue_entry.c.task_key == _sides.c.task_key,
        queue_entry.c.is_retry == _sides.c.is_retry,
    )
    .correlate(_sides)
    .scalar_subquery()
)
_WAITING = Statement(select(_sides.c.task_key, _sides.c.is_retry, _waiting_on_side).select_from(_sides))

Side = tuple[str, bool]
"""One side of a task key's queue: the key, and whether it is the retry side."""


def read_queue_stats(connection: Connection, task_keys: Sequence[str] | None) -> dict[str, QueueStats]:
    """Return the current queue statistics of these task keys by key, or of all keys for None.

    Keys without waiting or leased runs are omitted.
    """
    if task_keys is None:
        rows = connection.fetch(_ALL_STATS, {"now": connection.now})
    else:
        rows = connection.fetch(_STATS_BY_KEY, {"now": connection.now, "keys": list(task_keys)})
    return {row[0]: QueueStats(*row) for row in rows}


def count_waiting(connection: Connection, sides: Collection[Side]) -> dict[Side, int]:
    """Count the waiting runs on each of these sides, whether due or not."""
    parameters: dict[str, Any] = {"sides": [[key, int(is_retry)] for key, is_retry in sides]}
    return {(key, bool(is_retry)): count for key, is_retry, count in connection.fetch(_WAITING, parameters)}

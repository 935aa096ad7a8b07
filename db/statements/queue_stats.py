"""Statements about how much is in the queues, key by key."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    Boolean,
    ColumnElement,
    Text,
    bindparam,
    func,
    literal_column,
    null,
    select,
    union_all,
)

from db.connection import Connection
from db.records import QueueFigures
from db.sql.dialects import is_among, met_by, rows_of
from db.sql.statement import Statement
from db.tables import queue_entry

_now: BindParameter[str] = bindparam("now", required=True)
_nothing: ColumnElement[int] = literal_column("0")


def _figures_of(*keys: ColumnElement[bool]) -> Statement:
    """The figures of these keys, or of all. What waits is read from its index, what is leased from that of the leases."""
    entry = queue_entry.c
    is_due = entry.available_at <= _now
    waiting = (
        select(
            entry.task_key,
            func.count().filter(is_due, ~entry.is_retry).label("scheduled"),
            func.count().filter(is_due, entry.is_retry).label("retry"),
            func.count().filter(~is_due).label("delayed"),
            _nothing.label("leased"),
            func.min(entry.available_at).filter(is_due).label("oldest_due_at"),
        )
        .where(met_by(0.9, entry.lease_id.is_(None)), *keys)
        .group_by(entry.task_key)
    )
    leased = (
        select(entry.task_key, _nothing, _nothing, _nothing, func.count(), null())
        .where(entry.lease_id.is_not(None), *keys)
        .group_by(entry.task_key)
    )
    both = union_all(waiting, leased).subquery()
    # Each key has one row of either kind at most, and a nothing in the place of what the other knows.
    figures = [func.max(both.c[name]) for name in ("scheduled", "retry", "delayed", "leased", "oldest_due_at")]
    return Statement(select(both.c.task_key, *figures).group_by(both.c.task_key))


_OF_ALL = _figures_of()
_OF_KEYS = _figures_of(is_among(queue_entry.c.task_key, "keys"))

_sides = rows_of("sides", task_key=Text(), is_retry=Boolean())
_of_side = (
    select(func.count())
    .select_from(queue_entry)
    .where(
        met_by(0.9, queue_entry.c.lease_id.is_(None)),
        queue_entry.c.task_key == _sides.c.task_key,
        queue_entry.c.is_retry == _sides.c.is_retry,
    )
    .correlate(_sides)
    .scalar_subquery()
)
_WAITING = Statement(select(_sides.c.task_key, _sides.c.is_retry, _of_side).select_from(_sides))

Side = tuple[str, bool]
"""One side of a task key's queue: the key, and whether it is the retry side."""


def queue_figures(connection: Connection, task_keys: Sequence[str] | None) -> dict[str, QueueFigures]:
    """What waits and what is leased now, by task key; None for all keys. A key without either is left out."""
    if task_keys is None:
        rows = connection.fetch(_OF_ALL, {"now": connection.now})
    else:
        rows = connection.fetch(_OF_KEYS, {"now": connection.now, "keys": list(task_keys)})
    return {row[0]: QueueFigures(*row) for row in rows}


def count_waiting(connection: Connection, sides: Collection[Side]) -> dict[Side, int]:
    """How many runs wait on each of these sides, whether due or not."""
    parameters: dict[str, Any] = {"sides": [[key, int(is_retry)] for key, is_retry in sides]}
    return {(key, bool(is_retry)): count for key, is_retry, count in connection.fetch(_WAITING, parameters)}

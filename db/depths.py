"""How much waits under each task key, and how long already."""

from dataclasses import dataclass

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    bindparam,
    case,
    false,
    func,
    literal_column,
    null,
    select,
    union_all,
)

from db.connection import Connection
from db.instants import seconds_between
from db.statements import Statement
from db.tables import queue_entry

_now: BindParameter[str] = bindparam("now", required=True)
_one: ColumnElement[int] = literal_column("1")
_zero: ColumnElement[int] = literal_column("0")
# Of what waits, the index has all that is asked for, already in this order.
_waiting = (
    select(
        queue_entry.c.task_key,
        queue_entry.c.is_retry,
        func.count().label("waiting"),
        func.sum(case((queue_entry.c.available_at <= _now, _one), else_=_zero)).label("due"),
        func.min(queue_entry.c.available_at).label("first"),
        _zero.label("leased"),
    )
    .where(queue_entry.c.lease_id.is_(None))
    .group_by(queue_entry.c.task_key, queue_entry.c.is_retry)
)
_leased = (
    select(queue_entry.c.task_key, false(), _zero, _zero, null(), func.count())
    .where(queue_entry.c.lease_id.is_not(None))
    .group_by(queue_entry.c.task_key)
)
_DEPTHS = Statement(union_all(_waiting, _leased))


@dataclass(slots=True)
class QueueDepth:
    """How many runs are where in the queue of a key."""

    scheduled: int = 0
    """Due, and never tried before."""
    retry: int = 0
    """Due, and handed back or tried before."""
    delayed: int = 0
    """Due later."""
    leased: int = 0
    oldest_wait_seconds: float = 0.0
    """How long the run that has been due for longest has waited; 0 where none is due."""

    @property
    def runs(self) -> int:
        return self.scheduled + self.retry + self.delayed + self.leased

    def add(self, other: "QueueDepth") -> None:
        """Count another queue's runs, too."""
        self.scheduled += other.scheduled
        self.retry += other.retry
        self.delayed += other.delayed
        self.leased += other.leased
        self.oldest_wait_seconds = max(self.oldest_wait_seconds, other.oldest_wait_seconds)


def queue_depths(connection: Connection) -> dict[str, QueueDepth]:
    """The depth of every queue that is not empty, by task key. Reads the whole queue."""
    depths: dict[str, QueueDepth] = {}
    for key, is_retry, waiting, due, first, leased in connection.fetch(_DEPTHS, {"now": connection.now}):
        wait = max(0.0, seconds_between(first, connection.now)) if first else 0.0
        depth = QueueDepth(0 if is_retry else due, due if is_retry else 0, waiting - due, leased, wait)
        depths.setdefault(key, QueueDepth()).add(depth)
    return depths

"""Statements of the deadline sweeper: find runs that have expired, and runs that have been RUNNING for too long.

Statements that lock rows skip those that another transaction has locked, usually a claim or the sweeper of another server.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Select, bindparam, exists, func, or_, select, text, true

from db.connection import Connection
from db.enums import StateType
from db.sql.planner_hints import nested_loop_join
from db.sql.statement import Statement
from db.tables import CAN_EXPIRE, Timestamp, queue_entry, task_run

TIMED_STATES = (StateType.RUNNING, StateType.CANCELLING)
"""State types whose time limit is enforced. A PAUSED run times out when it is RUNNING again."""

_now: BindParameter[str] = bindparam("now", type_=Timestamp, required=True)
_limit: BindParameter[int] = bindparam("limit", required=True)

_has_timed_out = (
    queue_entry.c.times_out_at <= _now,
    task_run.c.id == queue_entry.c.task_run_id,
    or_(*(task_run.c.state_type == each.value for each in TIMED_STATES)),
)


def _of_expiring(*columns: ColumnElement[Any]) -> Select[Any]:
    """Select from runs that can expire. SQLite would read all runs that have not started without the hint."""
    return select(*columns).with_hint(task_run, "INDEXED BY ix_task_run_expiring", "sqlite").where(text(CAN_EXPIRE))


_expired = (
    _of_expiring(task_run.c.id).where(task_run.c.expires_at <= _now).order_by(task_run.c.expires_at).limit(_limit)
)
_locked_entry = (
    select(queue_entry.c.task_run_id)
    .where(queue_entry.c.task_run_id == task_run.c.id)
    .with_for_update(skip_locked=True)
    .correlate(task_run)
    .lateral("locked_entry")
)
_has_entry = exists().where(queue_entry.c.task_run_id == task_run.c.id)
_EXPIRED = Statement(
    _expired,
    # A claim locks the entries of runs without the runs.
    postgresql=_expired.select_from(task_run.outerjoin(_locked_entry, true()))
    .where(or_(_locked_entry.c.task_run_id.is_not(None), ~_has_entry))
    .with_for_update(of=task_run, key_share=True, skip_locked=True),
)
_TIMED_OUT = Statement(
    select(queue_entry.c.task_run_id)
    .select_from(nested_loop_join(queue_entry, task_run))
    .where(*_has_timed_out)
    .order_by(queue_entry.c.times_out_at)
    .limit(_limit)
    .with_for_update(key_share=True, skip_locked=True)
)


_PENDING = Statement(
    select(
        _of_expiring(task_run.c.id).where(task_run.c.expires_at <= _now).exists(),
        select(task_run.c.id).select_from(nested_loop_join(queue_entry, task_run)).where(*_has_timed_out).exists(),
        _of_expiring(func.min(task_run.c.expires_at)).where(task_run.c.expires_at > _now).scalar_subquery(),
        select(func.min(queue_entry.c.times_out_at)).where(queue_entry.c.times_out_at > _now).scalar_subquery(),
    )
)


@dataclass(frozen=True, slots=True)
class PendingDeadlines:
    """What the sweeper has to do."""

    has_expired: bool
    """Whether a run has expired and has not been cancelled."""
    has_timed_out: bool
    """Whether a run has exceeded its time limit and has not been ended."""
    next_at: str | None
    """The first time after now at which a run expires or times out; None when no run does."""


def expired_task_runs(connection: Connection, limit: int) -> list[str]:
    """Lock and return the ids of at most `limit` runs that have expired, earliest expiry first.

    Runs of which another transaction has locked the run or its queue entry are skipped.
    """
    return [row[0] for row in connection.fetch(_EXPIRED, {"now": connection.now, "limit": limit})]


def timed_out_task_runs(connection: Connection, limit: int) -> list[str]:
    """Lock and return the ids of at most `limit` runs whose time limit has passed, earliest first.

    Runs of which another transaction has locked the run or its queue entry are skipped.
    """
    return [row[0] for row in connection.fetch(_TIMED_OUT, {"now": connection.now, "limit": limit})]


def pending_deadlines(connection: Connection) -> PendingDeadlines:
    """Return which changes are pending, without locks."""
    ((has_expired, has_timed_out, *deadlines),) = connection.fetch(_PENDING, {"now": connection.now})
    next_at = min((each for each in deadlines if each is not None), default=None)
    return PendingDeadlines(bool(has_expired), bool(has_timed_out), next_at)

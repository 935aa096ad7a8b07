"""Statements that find what requests wait for: task runs that have ended, and leases that need the attention of a worker.

Rows are returned only for those: a statement that finds nothing transfers nothing, whatever the number of ids.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, bindparam, or_, select, true

from db.connection import Connection
from db.enums import TERMINAL, StateType
from db.sql.lists import unnest_rows
from db.sql.statement import Statement
from db.tables import Id, Timestamp, queue_entry, task_run

_ids = unnest_rows("ids", id=Id)
_terminal = [each.value for each in sorted(TERMINAL)]


def _is_ended(run: FromClause) -> ColumnElement[bool]:
    """Build the condition that the run of an outer join has ended or does not exist."""
    return or_(run.c.id.is_(None), *(run.c.state_type == each for each in _terminal))


def _is_signalled(lease: FromClause, state_type: ColumnElement[Any]) -> ColumnElement[bool]:
    """Build the condition that the lease of an outer join is lost, or that its run is CANCELLING."""
    has_expired = lease.c.lease_expires_at <= bindparam("now", type_=Timestamp, required=True)
    return or_(lease.c.lease_id.is_(None), has_expired, state_type == StateType.CANCELLING.value)


# On PostgreSQL, a subquery that is executed for each id. A join would read the whole table when that is cheaper for the
# number of ids that PostgreSQL assumes.
_run = (
    select(task_run.c.id, task_run.c.state_type)
    .where(task_run.c.id == _ids.c.id)
    .limit(1)
    .correlate(_ids)
    .lateral("run")
)
_ENDED = Statement(
    select(_ids.c.id, task_run.c.id.is_not(None))
    .select_from(_ids.outerjoin(task_run, task_run.c.id == _ids.c.id))
    .where(_is_ended(task_run)),
    postgresql=select(_ids.c.id, _run.c.id.is_not(None))
    .select_from(_ids.outerjoin(_run, true()))
    .where(_is_ended(_run)),
)

_lease = (
    select(queue_entry.c.lease_id, queue_entry.c.lease_expires_at, task_run.c.state_type)
    .join(task_run, task_run.c.id == queue_entry.c.task_run_id)
    .where(queue_entry.c.lease_id == _ids.c.id)
    .limit(1)
    .correlate(_ids)
    .lateral("lease")
)
_SIGNALLED = Statement(
    select(_ids.c.id, queue_entry.c.lease_expires_at)
    .select_from(
        _ids.outerjoin(queue_entry, queue_entry.c.lease_id == _ids.c.id).outerjoin(
            task_run, task_run.c.id == queue_entry.c.task_run_id
        )
    )
    .where(_is_signalled(queue_entry, task_run.c.state_type)),
    postgresql=select(_ids.c.id, _lease.c.lease_expires_at)
    .select_from(_ids.outerjoin(_lease, true()))
    .where(_is_signalled(_lease, _lease.c.state_type)),
)


def ended_task_runs(connection: Connection, ids: Sequence[str]) -> dict[str, bool]:
    """Return those of these ids whose task runs have ended or do not exist, with whether the run exists."""
    return {row[0]: bool(row[1]) for row in connection.fetch(_ENDED, {"ids": [[id] for id in ids]})}


def signalled_leases(connection: Connection, lease_ids: Sequence[str]) -> dict[str, str | None]:
    """Return those of these leases that are lost, or whose runs are CANCELLING, with the time at which each expires.

    The time is None for a lease that is lost: unknown, ended or expired.
    """
    rows = connection.fetch(_SIGNALLED, {"ids": [[id] for id in lease_ids], "now": connection.now})
    return {id: expires_at if expires_at and expires_at > connection.now else None for id, expires_at in rows}

"""Statements that find the runs which ended long ago, the longest ago first.

A background task run is looked at by itself. A task run of a flow run goes with its flow run, and a subflow stays as long as
the flow run that it is part of goes on: a flow run that is under way, or comes back, finds all that it has done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Table, bindparam, delete, func, literal_column, or_, select

from db.connection import Connection
from db.sql.dialects import is_among
from db.sql.statement import Statement
from db.tables import HAS_ENDED, IN_BACKGROUND, flow_run, task_run

_before: BindParameter[str] = bindparam("before", required=True)
_limit: BindParameter[int] = bindparam("limit", required=True)


def _is(condition: str) -> ColumnElement[Any]:
    """The condition in the very words of an index, so that the index serves."""
    return literal_column(condition)


def _is_in_state(run: Table) -> ColumnElement[bool]:
    # Not the bare column: SQLite would rather look for the states than for the time.
    return is_among(run.c.state_type.concat(literal_column("''")), "states")


_in_background = (
    _is(f"task_run.{IN_BACKGROUND}"),
    _is(f"task_run.{HAS_ENDED}"),
    task_run.c.state_timestamp < _before,
    _is_in_state(task_run),
)
_ENDED_IN_BACKGROUND = Statement(
    select(task_run.c.id)
    .where(*_in_background)
    .order_by(task_run.c.state_timestamp)
    .limit(_limit)
    .with_for_update(skip_locked=True)
)
_COUNT_IN_BACKGROUND = Statement(select(func.count()).select_from(task_run).where(*_in_background))

_parent_task_run, _parent = task_run.alias("parent_task_run"), flow_run.alias("parent")
_goes_on_above = (
    select(_parent.c.id)
    .join(_parent_task_run, _parent_task_run.c.flow_run_id == _parent.c.id)
    .where(
        _parent_task_run.c.id == flow_run.c.parent_task_run_id,
        or_(_parent.c.state_type.is_(None), ~_is(f"parent.{HAS_ENDED}")),
    )
    .correlate(flow_run)
    .exists()
)
_flow_runs = (
    _is(f"flow_run.{HAS_ENDED}"),
    flow_run.c.state_timestamp < _before,
    _is_in_state(flow_run),
    ~_goes_on_above,
)
_ENDED_FLOW_RUNS = Statement(
    select(flow_run.c.id)
    .where(*_flow_runs)
    .order_by(flow_run.c.state_timestamp)
    .limit(_limit)
    .with_for_update(skip_locked=True)
)
_TASK_RUNS_OF_FLOW_RUNS = Statement(
    select(task_run.c.id).where(is_among(task_run.c.flow_run_id, "flow_runs")).limit(_limit)
)
_DELETE_EMPTY_FLOW_RUNS = Statement(
    delete(flow_run).where(
        is_among(flow_run.c.id, "flow_runs"),
        ~select(task_run.c.id).where(task_run.c.flow_run_id == flow_run.c.id).correlate(flow_run).exists(),
    )
)
_COUNT_FLOW_RUNS = Statement(select(func.count()).select_from(flow_run).where(*_flow_runs))
_COUNT_IN_FLOW_RUNS = Statement(
    select(func.count())
    .select_from(task_run)
    .where(task_run.c.flow_run_id.in_(select(flow_run.c.id).where(*_flow_runs)))
)

_one: ColumnElement[int] = literal_column("1")
_ALONE = Statement(
    select(_one),
    postgresql=select(func.pg_try_advisory_xact_lock(literal_column("6871429351"))),
)


@dataclass(frozen=True, slots=True)
class Ended:
    """Runs that have been in one of these states since before an instant."""

    before: str
    states: Sequence[str]


def ended_in_background(connection: Connection, ended: Ended, limit: int) -> list[str]:
    """The background task runs that ended, so many at most; nobody else changes them before the transaction ends."""
    return _ids(connection, _ENDED_IN_BACKGROUND, ended, limit)


def ended_flow_runs(connection: Connection, ended: Ended, limit: int) -> list[str]:
    """The flow runs that ended, so many at most; nobody else changes them before the transaction ends."""
    return _ids(connection, _ENDED_FLOW_RUNS, ended, limit)


def task_runs_of_flow_runs(connection: Connection, flow_run_ids: Sequence[str], limit: int) -> list[str]:
    """Task runs of these flow runs, so many at most."""
    rows = connection.fetch(_TASK_RUNS_OF_FLOW_RUNS, {"flow_runs": list(flow_run_ids), "limit": limit})
    return [row[0] for row in rows]


def delete_empty_flow_runs(connection: Connection, flow_run_ids: Sequence[str]) -> int:
    """Delete those of these flow runs that have no task runs left, and say how many these were."""
    return connection.run(_DELETE_EMPTY_FLOW_RUNS, {"flow_runs": list(flow_run_ids)})


def count_ended(connection: Connection, ended: Ended) -> tuple[int, int]:
    """How many task runs, in the background and of flow runs, and how many flow runs have ended."""
    parameters = {"before": ended.before, "states": list(ended.states)}
    in_background, flow_runs, in_flow_runs = (
        connection.fetch(statement, parameters)[0][0]
        for statement in (_COUNT_IN_BACKGROUND, _COUNT_FLOW_RUNS, _COUNT_IN_FLOW_RUNS)
    )
    return in_background + in_flow_runs, flow_runs


def is_only_pruner(connection: Connection) -> bool:
    """Whether no other server prunes; none will begin to before the transaction ends."""
    return bool(connection.fetch_locked(_ALONE)[0][0])


def _ids(connection: Connection, statement: Statement, ended: Ended, limit: int) -> list[str]:
    parameters = {"before": ended.before, "states": list(ended.states), "limit": limit}
    return [row[0] for row in connection.fetch(statement, parameters)]

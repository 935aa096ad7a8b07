"""Statements that find and delete the runs that ended long ago, oldest first.

A background task run is pruned individually. A task run of a flow run is pruned together with its flow run, and a
subflow is kept until its parent flow run has ended. A flow run that is active, or that is retried, therefore finds all
its earlier work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Table, bindparam, delete, func, literal_column, or_, select

from db.connection import Connection
from db.sql.lists import is_among
from db.sql.statement import Statement
from db.tables import HAS_ENDED, IN_BACKGROUND, flow_run, task_run

_before: BindParameter[str] = bindparam("before", required=True)
_limit: BindParameter[int] = bindparam("limit", required=True)


def _index_condition(condition: str) -> ColumnElement[Any]:
    """Build the condition with the exact text of a partial index's predicate, which the use of the index requires."""
    return literal_column(condition)


def _is_in_state(run: Table) -> ColumnElement[bool]:
    # With the bare column, SQLite would search an index for the states instead of for the time.
    return is_among(run.c.state_type.concat(literal_column("''")), "states")


_background_conditions = (
    _index_condition(f"task_run.{IN_BACKGROUND}"),
    _index_condition(f"task_run.{HAS_ENDED}"),
    task_run.c.state_timestamp < _before,
    _is_in_state(task_run),
)
_ENDED_BACKGROUND_TASK_RUNS = Statement(
    select(task_run.c.id)
    .where(*_background_conditions)
    .order_by(task_run.c.state_timestamp)
    .limit(_limit)
    .with_for_update(skip_locked=True)
)
_COUNT_BACKGROUND_TASK_RUNS = Statement(select(func.count()).select_from(task_run).where(*_background_conditions))

_parent_task_run, _parent = task_run.alias("parent_task_run"), flow_run.alias("parent")
_has_active_parent = (
    select(_parent.c.id)
    .join(_parent_task_run, _parent_task_run.c.flow_run_id == _parent.c.id)
    .where(
        _parent_task_run.c.id == flow_run.c.parent_task_run_id,
        or_(_parent.c.state_type.is_(None), ~_index_condition(f"parent.{HAS_ENDED}")),
    )
    .correlate(flow_run)
    .exists()
)
_flow_run_conditions = (
    _index_condition(f"flow_run.{HAS_ENDED}"),
    flow_run.c.state_timestamp < _before,
    _is_in_state(flow_run),
    ~_has_active_parent,
)
_ENDED_FLOW_RUNS = Statement(
    select(flow_run.c.id)
    .where(*_flow_run_conditions)
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
_COUNT_FLOW_RUNS = Statement(select(func.count()).select_from(flow_run).where(*_flow_run_conditions))
_COUNT_TASK_RUNS_OF_FLOW_RUNS = Statement(
    select(func.count())
    .select_from(task_run)
    .where(task_run.c.flow_run_id.in_(select(flow_run.c.id).where(*_flow_run_conditions)))
)

_one: ColumnElement[int] = literal_column("1")
_TRY_ACQUIRE_LOCK = Statement(
    select(_one),
    postgresql=select(func.pg_try_advisory_xact_lock(literal_column("6871429351"))),
)


@dataclass(frozen=True, slots=True)
class PruneCriteria:
    """Selects runs that have been in one of `states` since before the timestamp `before`."""

    before: str
    states: Sequence[str]


def ended_background_task_runs(connection: Connection, criteria: PruneCriteria, limit: int) -> list[str]:
    """Lock at most `limit` background task runs that have ended, and return their ids, oldest first.

    Runs that another transaction has locked are skipped. No other transaction changes the returned runs before this
    transaction ends.
    """
    return _ids(connection, _ENDED_BACKGROUND_TASK_RUNS, criteria, limit)


def ended_flow_runs(connection: Connection, criteria: PruneCriteria, limit: int) -> list[str]:
    """Lock at most `limit` flow runs that have ended, and return their ids, oldest first.

    Runs that another transaction has locked are skipped. No other transaction changes the returned runs before this
    transaction ends.
    """
    return _ids(connection, _ENDED_FLOW_RUNS, criteria, limit)


def task_runs_of_flow_runs(connection: Connection, flow_run_ids: Sequence[str], limit: int) -> list[str]:
    """Return the ids of at most `limit` task runs of these flow runs."""
    rows = connection.fetch(_TASK_RUNS_OF_FLOW_RUNS, {"flow_runs": list(flow_run_ids), "limit": limit})
    return [row[0] for row in rows]


def delete_empty_flow_runs(connection: Connection, flow_run_ids: Sequence[str]) -> int:
    """Delete those of these flow runs that have no task runs left, and return their number."""
    return connection.run(_DELETE_EMPTY_FLOW_RUNS, {"flow_runs": list(flow_run_ids)})


def count_ended(connection: Connection, criteria: PruneCriteria) -> tuple[int, int]:
    """Count the runs to prune: task runs (background runs and those of flow runs), then flow runs."""
    parameters = {"before": criteria.before, "states": list(criteria.states)}
    background_count, flow_run_count, flow_run_task_count = (
        connection.fetch(statement, parameters)[0][0]
        for statement in (_COUNT_BACKGROUND_TASK_RUNS, _COUNT_FLOW_RUNS, _COUNT_TASK_RUNS_OF_FLOW_RUNS)
    )
    return background_count + flow_run_task_count, flow_run_count


def try_acquire_pruning_lock(connection: Connection) -> bool:
    """Acquire the lock for pruning until the transaction ends, and return whether no other server holds it.

    Does not wait. On SQLite, which has a single server, it always succeeds.
    """
    return bool(connection.fetch_locked(_TRY_ACQUIRE_LOCK)[0][0])


def _ids(connection: Connection, statement: Statement, criteria: PruneCriteria, limit: int) -> list[str]:
    parameters = {"before": criteria.before, "states": list(criteria.states), "limit": limit}
    return [row[0] for row in connection.fetch(statement, parameters)]

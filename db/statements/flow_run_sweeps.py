"""Statements of the flow run sweeper: find flow runs whose pause has timed out, and what has outlived its flow run.

Statements that lock rows skip those that another transaction has locked, usually the sweeper of another server.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Select, Text, bindparam, func, literal_column, or_, select

from db.connection import Connection
from db.enums import StateType
from db.sql.json_format import text_member
from db.sql.planner_hints import nested_loop_join
from db.sql.statement import Statement
from db.sql.text import collate_by_code_point
from db.tables import HAS_NOT_ENDED, IS_STOPPED, flow_run, flow_run_state, task_run

_limit: BindParameter[int] = bindparam("limit", required=True)
_now: BindParameter[str] = bindparam("now", type_=Text(), required=True)
_since: BindParameter[str] = bindparam("since", required=True)


def _is_in(state_type: ColumnElement[str], *types: StateType) -> ColumnElement[bool]:
    """Build the condition with literals, because the use of a partial index requires them."""
    return state_type.in_([literal_column(f"'{type}'") for type in types])


# --- pauses ---

# Text of a fixed width, which sorts by time.
_pause_timeout_at = collate_by_code_point(text_member(flow_run_state.c.details, "pause_timeout_at"))


def _of_paused(*columns: ColumnElement[Any]) -> Select[Any]:
    return (
        select(*columns)
        .select_from(flow_run.join(flow_run_state, flow_run_state.c.id == flow_run.c.state_id))
        .where(literal_column(f"flow_run.{HAS_NOT_ENDED}"), flow_run.c.state_type == literal_column("'PAUSED'"))
    )


_EXPIRED_PAUSES = Statement(
    _of_paused(flow_run.c.id, _pause_timeout_at)
    .where(_pause_timeout_at < _now)
    .limit(_limit)
    .with_for_update(of=flow_run, key_share=True, skip_locked=True)
)

# --- subflows ---

_parent_task_run, _parent = task_run.alias("parent_task_run"), flow_run.alias("parent")
_can_be_cancelled = or_(
    flow_run.c.deployment_id.is_(None),
    # The process of a subflow with a deployment is asked to stop, unless it has been asked or does not run.
    _is_in(flow_run.c.state_type, StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING),
)


def _of_orphaned_subflows(*columns: ColumnElement[Any]) -> Select[Any]:
    return (
        select(*columns)
        .select_from(
            flow_run.join(_parent_task_run, _parent_task_run.c.id == flow_run.c.parent_task_run_id).join(
                _parent, _parent.c.id == _parent_task_run.c.flow_run_id
            )
        )
        .where(
            literal_column(f"flow_run.{HAS_NOT_ENDED}"),
            flow_run.c.parent_task_run_id.is_not(None),
            _parent.c.state_type == StateType.CANCELLED.value,
            _can_be_cancelled,
        )
    )


_ORPHANED_SUBFLOWS = Statement(
    _of_orphaned_subflows(flow_run.c.id, flow_run.c.deployment_id.is_not(None))
    .limit(_limit)
    .with_for_update(of=[flow_run, _parent], key_share=True, skip_locked=True)
)

# --- task runs ---


def _of_orphaned_task_runs(*columns: ColumnElement[Any]) -> Select[Any]:
    return (
        select(*columns)
        .select_from(nested_loop_join(flow_run, task_run))
        .where(
            literal_column(f"flow_run.{IS_STOPPED}"),
            flow_run.c.state_timestamp >= _since,
            task_run.c.flow_run_id.is_not(None),
            task_run.c.flow_run_id == flow_run.c.id,
            literal_column(f"task_run.{HAS_NOT_ENDED}"),
        )
    )


_ORPHANED_TASK_RUNS = Statement(
    _of_orphaned_task_runs(task_run.c.id, task_run.c.state_type, flow_run.c.state_type)
    .limit(_limit)
    .with_for_update(of=[flow_run, task_run], key_share=True, skip_locked=True)
)

_one: ColumnElement[int] = literal_column("1")
_PENDING_WORK = Statement(
    select(
        _of_paused(func.min(_pause_timeout_at)).scalar_subquery(),
        _of_orphaned_subflows(_one).exists(),
        _of_orphaned_task_runs(_one).exists(),
    )
)


@dataclass(frozen=True, slots=True)
class PendingWork:
    """What the sweeper has to do."""

    next_pause_timeout_at: str | None
    """When the next pause times out or has timed out; None when no pause of a flow run has a timeout."""
    has_subflows: bool
    """Whether a subflow has outlived its parent flow run."""
    has_task_runs: bool
    """Whether a task run has outlived its flow run."""


@dataclass(frozen=True, slots=True)
class OrphanedTaskRun:
    """A task run that has not ended although its flow run has."""

    id: str
    state_type: StateType
    flow_run_state_type: StateType


def pending_work(connection: Connection, since: str) -> PendingWork:
    """Return which changes are pending, without locks. Task runs of flow runs that ended before `since` are ignored."""
    ((next_pause_timeout_at, has_subflows, has_task_runs),) = connection.fetch(_PENDING_WORK, {"since": since})
    return PendingWork(next_pause_timeout_at, bool(has_subflows), bool(has_task_runs))


def expired_pauses(connection: Connection, limit: int) -> Sequence[tuple[str, str]]:
    """Lock at most `limit` PAUSED flow runs whose pause has timed out. Return their ids and the times of the timeouts."""
    rows = connection.fetch(_EXPIRED_PAUSES, {"now": connection.now, "limit": limit})
    return [(row[0], row[1]) for row in rows]


def orphaned_subflows(connection: Connection, limit: int) -> Sequence[tuple[str, bool]]:
    """Lock at most `limit` subflows that have not ended and whose parent flow run is CANCELLED, together with it.

    Return their ids, and whether they have a deployment. Subflows with a deployment that are PAUSED or CANCELLING are
    omitted, because the rules do not let them become CANCELLING.
    """
    return [(row[0], bool(row[1])) for row in connection.fetch(_ORPHANED_SUBFLOWS, {"limit": limit})]


def orphaned_task_runs(connection: Connection, since: str, limit: int) -> Sequence[OrphanedTaskRun]:
    """Lock and return at most `limit` task runs that have not ended and whose flow run is CANCELLED or CRASHED.

    Their flow runs are locked too. Flow runs that ended before `since` are ignored.
    """
    rows = connection.fetch(_ORPHANED_TASK_RUNS, {"since": since, "limit": limit})
    return [OrphanedTaskRun(row[0], StateType(row[1]), StateType(row[2])) for row in rows]

"""Statements about task runs: create, move, read, delete."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    FromClause,
    Select,
    Text,
    and_,
    bindparam,
    delete,
    literal_column,
    null,
    select,
    update,
)

from db.connection import Connection, Row
from db.enums import StateType
from db.query.column_paths import MOST_ROW_STATEMENTS, columns_for_task_runs
from db.query.filters import TASK_RUN_FIELDS
from db.query.pagination import Listing, Selection
from db.records import QueueEntryRecord, StateDetails, StateRecord, TaskRunRecord
from db.row_mapping import (
    STATE_WIDTH,
    TASK_RUN_COLUMNS,
    TASK_RUN_SOURCE,
    TASK_RUN_WIDTH,
    columns_of,
    insert_of,
    row_of,
    select_task_runs,
    state_from,
    task_run_from,
)
from db.sql.dialects import is_among, is_key_among, is_one_of, rows_of
from db.sql.statement import Statement
from db.statements.queue import QUEUE_ENTRY_COLUMNS, QUEUE_ENTRY_WIDTH, lock_queue_entries, queue_entry_from
from db.tables import Id, flow_run, flow_run_state, queue_entry, task_run, task_run_state

TaskRunKey = tuple[str | None, str, str]
"""What tells task runs apart for their clients: flow run, task key, dynamic key."""

_BY_ID = Statement(select_task_runs().where(is_key_among(task_run.c.id, "ids")))

_keys = rows_of("keys", flow_run_id=Id, task_key=Text(), dynamic_key=Text())
_same_keys = and_(task_run.c.task_key == _keys.c.task_key, task_run.c.dynamic_key == _keys.c.dynamic_key)
# Two statements, so that each goes through its own partial index.
_BY_KEY_IN_FLOW_RUN = Statement(
    select_task_runs().join(_keys, and_(task_run.c.flow_run_id == _keys.c.flow_run_id, _same_keys))
)
_BY_KEY_IN_BACKGROUND = Statement(
    select_task_runs().join(_keys, and_(task_run.c.flow_run_id.is_(None), _keys.c.flow_run_id.is_(None), _same_keys))
)

_INSERT = insert_of(task_run, TaskRunRecord)
_PROGRESS = [
    "updated",
    "state_id",
    "state_type",
    "state_name",
    "state_timestamp",
    "run_count",
    "flow_run_run_count",
    "expected_start_time",
    "next_scheduled_start_time",
    "start_time",
    "end_time",
    "total_run_time_seconds",
    "start_delay_seconds",
]
_progress = attrgetter("id", *_PROGRESS)
_run_id: BindParameter[str] = bindparam("run_id", required=True)
_UPDATE_PROGRESS = Statement(update(task_run).where(task_run.c.id == _run_id), _PROGRESS)
_UPDATE_NAME = Statement(update(task_run).where(task_run.c.id == _run_id), ["updated", "name"])
_LOCK = Statement(
    select(task_run.c.id)
    .where(is_key_among(task_run.c.id, "ids"))
    .order_by(task_run.c.id)
    .with_for_update(key_share=True)
)
_EXISTING = Statement(select(task_run.c.id).where(is_key_among(task_run.c.id, "ids")))
_DELETE = Statement(delete(task_run).where(is_among(task_run.c.id, "ids")))


def task_runs_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, TaskRunRecord]:
    """The task runs that are there, by id, with their states."""
    rows = connection.fetch(_BY_ID, {"ids": list(ids)})
    return {row[0]: task_run_from(row, connection.now) for row in rows}


@lru_cache(maxsize=MOST_ROW_STATEMENTS)
def _row_by_id(paths: tuple[str, ...]) -> Statement:
    columns, source = columns_for_task_runs(paths)
    return Statement(select(*columns).select_from(source).where(task_run.c.id == _run_id))


def task_run_row(connection: Connection, id: str, paths: tuple[str, ...]) -> Row | None:
    """The columns that these paths name, of one run; None where none has this id."""
    rows = connection.fetch(_row_by_id(paths), {"run_id": id})
    return rows[0] if rows else None


def task_runs_by_key(connection: Connection, keys: Sequence[TaskRunKey]) -> dict[TaskRunKey, TaskRunRecord]:
    """The task runs that are there, by key."""
    rows = [
        row
        for statement, in_flow_run in ((_BY_KEY_IN_FLOW_RUN, True), (_BY_KEY_IN_BACKGROUND, False))
        if (asked := [list(key) for key in keys if (key[0] is not None) is in_flow_run])
        for row in connection.fetch(statement, {"keys": asked})
    ]
    records = [task_run_from(row, connection.now) for row in rows]
    return {(record.flow_run_id, record.task_key, record.dynamic_key): record for record in records}


def insert_task_runs(connection: Connection, records: Sequence[TaskRunRecord]) -> None:
    connection.run_many(_INSERT, [row_of(record) for record in records])


def update_task_run_progress(connection: Connection, records: Sequence[TaskRunRecord]) -> None:
    """Write where these runs stand now; not what their clients called them."""
    names = ("run_id", *_PROGRESS)
    connection.run_many(_UPDATE_PROGRESS, [dict(zip(names, _progress(each), strict=True)) for each in records])


def rename_task_runs(connection: Connection, records: Sequence[TaskRunRecord]) -> None:
    """Write these runs' names."""
    connection.run_many(
        _UPDATE_NAME, [{"run_id": each.id, "name": each.name, "updated": each.updated} for each in records]
    )


def lock_task_runs(connection: Connection, ids: Sequence[str]) -> None:
    """Keep these runs and their places in the queue as they are until the transaction ends, but for what it does."""
    connection.lock(_LOCK, {"ids": list(ids)})
    lock_queue_entries(connection, ids)


def existing_task_runs(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Which of these task runs are there."""
    return {row[0] for row in connection.fetch(_EXISTING, {"ids": list(ids)})}


def delete_task_runs(connection: Connection, ids: Sequence[str]) -> None:
    """Delete these runs, with their states, slots, queue entries and cached results."""
    connection.run(_DELETE, {"ids": list(ids)})


# --- what a change of state is decided by ---

_proposals = rows_of("proposals", run_id=Id, transition_id=Id)
_earlier = task_run_state.alias("earlier")


def _facts(entry: FromClause, *more: ColumnElement[Any], whole: bool = True) -> Select[Any]:
    """The facts for each proposal, with the run's place in the queue as `entry` has it."""
    run = TASK_RUN_COLUMNS if whole else [_without(each) for each in TASK_RUN_COLUMNS]
    earlier, in_queue = columns_of(_earlier, StateRecord), columns_of(entry, QueueEntryRecord)
    of_flow_run = (flow_run.c.state_type, flow_run.c.run_count, flow_run_state.c.details)
    return select(*run, *earlier, *in_queue, *of_flow_run, *more).select_from(
        TASK_RUN_SOURCE.join(_proposals, task_run.c.id == _proposals.c.run_id)
        .outerjoin(
            _earlier, and_(_earlier.c.run_id == task_run.c.id, _earlier.c.transition_id == _proposals.c.transition_id)
        )
        .outerjoin(entry, entry.c.task_run_id == task_run.c.id)
        .outerjoin(flow_run, flow_run.c.id == task_run.c.flow_run_id)
        .outerjoin(flow_run_state, flow_run_state.c.id == flow_run.c.state_id)
    )


def _without(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column, or in its place what takes no room, where only clients have a use for it."""
    left_out = _LEFT_OUT.get(column)
    return column if left_out is None else left_out


_LEFT_OUT: dict[ColumnElement[Any], ColumnElement[Any]] = {
    task_run.c.parameters: null(),
    task_run.c.task_inputs: literal_column("'{}'"),
    task_run_state.c.message: null(),
    task_run_state.c.data: null(),
}


# A statement sees what was committed when it began, but of a row that it locks it gets what is there then.
# The ids are those of the proposals: PostgreSQL would make a new plan each time for a list of them, which costs more.
_locked = (
    select(task_run.c.id, task_run.c.state_id, task_run.c.updated)
    .join(_proposals, task_run.c.id == _proposals.c.run_id)
    .order_by(task_run.c.id)
    .with_for_update(of=task_run, key_share=True)
    .cte("locked")
)
_locked_entry = (
    select(*QUEUE_ENTRY_COLUMNS)
    .where(is_one_of(queue_entry.c.task_run_id, select(_locked.c.id)))
    .order_by(queue_entry.c.task_run_id)
    .with_for_update()
    .cte("locked_entry")
)
_is_current = and_(
    _locked.c.updated == task_run.c.updated, _locked.c.state_id.is_not_distinct_from(task_run.c.state_id)
)


def _statements(*, whole: bool) -> tuple[Statement, Statement]:
    """What reads the facts and locks what they are about; and what reads them again."""
    on_postgresql = _facts(_locked_entry, _is_current, whole=whole).join(_locked, _locked.c.id == task_run.c.id)
    locking = Statement(_facts(queue_entry, literal_column("1"), whole=whole), postgresql=on_postgresql)
    return locking, Statement(_facts(queue_entry, whole=whole))


_WHOLE_FACTS = _statements(whole=True)
_SLIM_FACTS = _statements(whole=False)


@dataclass(frozen=True, slots=True)
class TaskRunFacts:
    """All that a change of a task run's state may depend on."""

    run: TaskRunRecord
    earlier: StateRecord | None
    """The state that this very transition has already made of the run, if it has."""
    queue_entry: QueueEntryRecord | None
    flow_run_state_type: StateType | None
    flow_run_run_count: int | None
    flow_run_details: StateDetails | None


def task_run_facts(
    connection: Connection, proposals: Sequence[tuple[str, str | None]], *, whole: bool = True
) -> dict[str, TaskRunFacts]:
    """The facts for each proposal (run id, transition id) whose run is there; nobody else changes them meanwhile.

    Where nobody is to be shown the runs, they need not be `whole`: what may take megabytes is left out then.
    """
    locking, again = _WHOLE_FACTS if whole else _SLIM_FACTS
    asked = [list(each) for each in proposals]
    rows = connection.fetch_locked(locking, {"proposals": asked})
    if not all(row[-1] for row in rows):
        # Somebody else changed one of them between the look at it and the lock, and may have given it a place in the queue.
        lock_queue_entries(connection, [run_id for run_id, _ in proposals])
        rows = connection.fetch(again, {"proposals": asked})
    return {row[0]: _facts_from(row, connection.now) for row in rows}


def _facts_from(row: tuple[Any, ...], now: str) -> TaskRunFacts:
    earlier = TASK_RUN_WIDTH + STATE_WIDTH
    entry = earlier + STATE_WIDTH
    flow = entry + QUEUE_ENTRY_WIDTH
    return TaskRunFacts(
        run=task_run_from(row, now),
        earlier=state_from(row[earlier:]) if row[earlier] is not None else None,
        queue_entry=queue_entry_from(row[entry:]) if row[entry] is not None else None,
        flow_run_state_type=StateType(row[flow]) if row[flow] is not None else None,
        flow_run_run_count=row[flow + 1],
        flow_run_details=StateDetails.from_json(row[flow + 2]) if row[flow + 2] is not None else None,
    )


# --- lists ---

TASK_RUNS = Listing(task_run, TASK_RUN_FIELDS, Selection(tuple(TASK_RUN_COLUMNS), TASK_RUN_SOURCE), task_run_from)
NO_COLUMNS = Selection((), task_run)
"""For pages of ids alone."""

"""Statements for task runs: create, update, read and delete."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    BindParameter,
    Boolean,
    ColumnElement,
    FromClause,
    Select,
    Text,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    null,
    select,
    update,
)

from db.connection import Connection, Row
from db.enums import StateType
from db.query.column_paths import MAX_CACHED_ROW_STATEMENTS, columns_for_task_runs
from db.query.filters import TASK_RUN_FIELDS
from db.query.pagination import Listing, Selection
from db.records import QueueEntryRecord, StateDetails, StateRecord, TaskRunRecord
from db.row_mapping import (
    STATE_WIDTH,
    TASK_RUN_COLUMNS,
    TASK_RUN_SOURCE,
    TASK_RUN_WIDTH,
    insert_statement,
    record_columns,
    record_to_row,
    select_task_runs,
    state_from_row,
    task_run_from_row,
)
from db.sql.lists import is_among, is_key_among, unnest_rows
from db.sql.planner_hints import is_in_subquery, nested_loop_join
from db.sql.statement import Statement
from db.statements.queue import QUEUE_ENTRY_COLUMNS, QUEUE_ENTRY_WIDTH, lock_queue_entries, queue_entry_from
from db.tables import HAS_NOT_ENDED, Id, flow_run, flow_run_state, queue_entry, task_run, task_run_state

TaskRunKey = tuple[str | None, str, str]
"""Identifies a task run for its clients: flow run id, task key and dynamic key."""

UniqueKey = tuple[str, str]
"""Task key and unique key, which at most one task run that has not ended has."""

_BY_ID = Statement(select_task_runs().where(is_key_among(task_run.c.id, "ids")))

_keys = unnest_rows("keys", flow_run_id=Id, task_key=Text(), dynamic_key=Text())
_same_keys = and_(task_run.c.task_key == _keys.c.task_key, task_run.c.dynamic_key == _keys.c.dynamic_key)
# Two statements, because each uses its own partial index.
_BY_KEY_IN_FLOW_RUN = Statement(
    select_task_runs().join(_keys, and_(task_run.c.flow_run_id == _keys.c.flow_run_id, _same_keys))
)
_BY_KEY_IN_BACKGROUND = Statement(
    select_task_runs().join(_keys, and_(task_run.c.flow_run_id.is_(None), _keys.c.flow_run_id.is_(None), _same_keys))
)

_unique_keys = unnest_rows("keys", task_key=Text(), unique_key=Text())
_BY_UNIQUE_KEY = Statement(
    select(*TASK_RUN_COLUMNS)
    .select_from(
        nested_loop_join(_unique_keys, task_run).outerjoin(task_run_state, task_run_state.c.id == task_run.c.state_id)
    )
    .where(
        task_run.c.task_key == _unique_keys.c.task_key,
        task_run.c.unique_key == _unique_keys.c.unique_key,
        # Written as in the partial index, which is not used otherwise.
        literal_column(f"task_run.{HAS_NOT_ENDED}"),
    )
)

_INSERT = insert_statement(task_run, TaskRunRecord)
_CURRENT_STATE_COLUMNS = [
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
_current_state_values = attrgetter("id", *_CURRENT_STATE_COLUMNS)
_run_id: BindParameter[str] = bindparam("run_id", required=True)
# A run that begins again has made no progress. The stored progress may be newer than that of the record.
_begins_again: BindParameter[bool] = bindparam("begins_again", type_=Boolean(), required=True)
_progress_after_change = case((_begins_again, null()), else_=task_run.c.progress)
_UPDATE_CURRENT_STATE = Statement(
    update(task_run).where(task_run.c.id == _run_id).values(progress=_progress_after_change), _CURRENT_STATE_COLUMNS
)
_EDITABLE_COLUMNS = ["updated", "name", "tags", "metadata", "priority", "expires_at", "slot_tags"]
_editable_values = attrgetter(
    "id", "updated", "name", "tags_json", "metadata", "priority", "expires_at", "slot_tags_json"
)
_UPDATE_EDITABLE = Statement(update(task_run).where(task_run.c.id == _run_id), _EDITABLE_COLUMNS)
_CLEAR_EXPIRY = Statement(update(task_run).where(task_run.c.id == _run_id).values(expires_at=null()))
_LOCK = Statement(
    select(task_run.c.id)
    .where(is_key_among(task_run.c.id, "ids"))
    .order_by(task_run.c.id)
    .with_for_update(key_share=True)
)
_EXISTING = Statement(select(task_run.c.id).where(is_key_among(task_run.c.id, "ids")))
_DELETE = Statement(delete(task_run).where(is_among(task_run.c.id, "ids")))


def task_runs_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, TaskRunRecord]:
    """Return the existing task runs by id, with their current states."""
    rows = connection.fetch(_BY_ID, {"ids": list(ids)})
    return {row[0]: task_run_from_row(row, connection.now) for row in rows}


@lru_cache(maxsize=MAX_CACHED_ROW_STATEMENTS)
def _row_by_id(paths: tuple[str, ...]) -> Statement:
    columns, source = columns_for_task_runs(paths)
    return Statement(select(*columns).select_from(source).where(task_run.c.id == _run_id))


def task_run_row(connection: Connection, id: str, paths: tuple[str, ...]) -> Row | None:
    """Return the columns at these paths of one task run, or None when no task run has this id."""
    rows = connection.fetch(_row_by_id(paths), {"run_id": id})
    return rows[0] if rows else None


@lru_cache(maxsize=MAX_CACHED_ROW_STATEMENTS)
def _rows_by_id(paths: tuple[str, ...]) -> Statement:
    columns, source = columns_for_task_runs(paths)
    return Statement(select(*columns).select_from(source).where(is_key_among(task_run.c.id, "ids")))


def task_run_rows(connection: Connection, ids: Sequence[str], paths: tuple[str, ...]) -> list[Row]:
    """Return the columns at these paths of the existing task runs, in any order."""
    return connection.fetch(_rows_by_id(paths), {"ids": list(ids)})


def task_runs_by_key(connection: Connection, keys: Sequence[TaskRunKey]) -> dict[TaskRunKey, TaskRunRecord]:
    """Return the existing task runs by key."""
    rows = [
        row
        for statement, in_flow_run in ((_BY_KEY_IN_FLOW_RUN, True), (_BY_KEY_IN_BACKGROUND, False))
        if (key_rows := [list(key) for key in keys if (key[0] is not None) is in_flow_run])
        for row in connection.fetch(statement, {"keys": key_rows})
    ]
    records = [task_run_from_row(row, connection.now) for row in rows]
    return {(record.flow_run_id, record.task_key, record.dynamic_key): record for record in records}


def task_runs_by_unique_key(connection: Connection, keys: Sequence[UniqueKey]) -> dict[UniqueKey, TaskRunRecord]:
    """Return the task runs that hold these keys: those that have not ended, at most one for each key."""
    rows = connection.fetch(_BY_UNIQUE_KEY, {"keys": [list(key) for key in keys]})
    records = [task_run_from_row(row, connection.now) for row in rows]
    return {(record.task_key, record.unique_key or ""): record for record in records}


def insert_task_runs(connection: Connection, records: Sequence[TaskRunRecord]) -> None:
    connection.run_many(_INSERT, [record_to_row(record) for record in records])


def update_current_states(connection: Connection, records: Sequence[TaskRunRecord]) -> None:
    """Store the state of these runs and what follows from it. RUNNING removes the progress that a worker has reported.

    Columns that only clients set, such as the name, are not written.
    """
    names = ("run_id", *_CURRENT_STATE_COLUMNS)
    rows = [dict(zip(names, _current_state_values(each), strict=True)) for each in records]
    for row in rows:
        row["begins_again"] = row["state_type"] == StateType.RUNNING
    connection.run_many(_UPDATE_CURRENT_STATE, rows)


def update_editable_columns(connection: Connection, records: Sequence[TaskRunRecord]) -> None:
    """Store the values of these runs that clients can change after the creation."""
    names = ("run_id", *_EDITABLE_COLUMNS)
    connection.run_many(_UPDATE_EDITABLE, [dict(zip(names, _editable_values(each), strict=True)) for each in records])


def clear_expiry(connection: Connection, ids: Sequence[str]) -> None:
    """Remove the time at which these runs expire."""
    connection.run_many(_CLEAR_EXPIRY, [{"run_id": id} for id in ids])


def lock_task_runs(connection: Connection, ids: Sequence[str], lease_ids: Sequence[str] = ()) -> None:
    """Lock these runs, their queue entries and those of these leases.

    No other transaction changes them before this transaction ends.
    """
    connection.lock(_LOCK, {"ids": list(ids)})
    lock_queue_entries(connection, ids, lease_ids)


def existing_task_runs(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Return the ids of those of these task runs that exist."""
    return {row[0] for row in connection.fetch(_EXISTING, {"ids": list(ids)})}


def delete_task_runs(connection: Connection, ids: Sequence[str]) -> None:
    """Delete these runs together with their states, slots, queue entries and cached results."""
    connection.run(_DELETE, {"ids": list(ids)})


# --- states under leases ---

_leases = unnest_rows("leases", run_id=Id, lease_id=Id)
# The id of a lease is created after the earlier states of its run, and before those that are entered under it.
_COUNT_STARTS = Statement(
    select(_leases.c.run_id, func.count())
    .select_from(nested_loop_join(_leases, task_run_state))
    .where(
        task_run_state.c.run_id == _leases.c.run_id,
        task_run_state.c.id > _leases.c.lease_id,
        task_run_state.c.type == StateType.RUNNING.value,
    )
    .group_by(_leases.c.run_id)
)


def count_starts_under_leases(connection: Connection, lease_ids: Mapping[str, str]) -> dict[str, int]:
    """Return how often each of these runs has entered RUNNING under its lease. `lease_ids`: the lease of each run id."""
    parameters = {"leases": [[run_id, lease_id] for run_id, lease_id in lease_ids.items()]}
    return dict.fromkeys(lease_ids, 0) | {row[0]: row[1] for row in connection.fetch(_COUNT_STARTS, parameters)}


# --- facts for state transitions ---

_proposals = unnest_rows("proposals", run_id=Id, transition_id=Id)
_recorded_state = task_run_state.alias("earlier")


def _facts(
    entry: FromClause,
    *extra_columns: ColumnElement[Any],
    conditions: Sequence[ColumnElement[bool]] = (),
    include_large_columns: bool = True,
) -> Select[Any]:
    """Build the query for the facts of each proposal, with the run's queue entry read from `entry`.

    The entries of another `entry` than the table must be those of the runs: they are joined by FULL JOIN.
    """
    run = TASK_RUN_COLUMNS if include_large_columns else [_omit_large(each) for each in TASK_RUN_COLUMNS]
    recorded_state, entry_columns = (
        record_columns(_recorded_state, StateRecord),
        record_columns(entry, QueueEntryRecord),
    )
    flow_run_columns = (flow_run.c.state_type, flow_run.c.run_count, flow_run_state.c.details)
    return select(*run, *recorded_state, *entry_columns, *flow_run_columns, *extra_columns).select_from(
        TASK_RUN_SOURCE.join(_proposals, and_(task_run.c.id == _proposals.c.run_id, *conditions))
        .outerjoin(
            _recorded_state,
            and_(
                _recorded_state.c.run_id == task_run.c.id, _recorded_state.c.transition_id == _proposals.c.transition_id
            ),
        )
        .outerjoin(flow_run, flow_run.c.id == task_run.c.flow_run_id)
        .outerjoin(flow_run_state, flow_run_state.c.id == flow_run.c.state_id)
        .outerjoin(entry, entry.c.task_run_id == task_run.c.id, full=entry is not queue_entry)
    )


def _omit_large(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the column, or an empty constant for a column that can be large and that only clients need."""
    replacement = _OMITTED_COLUMNS.get(column)
    return column if replacement is None else replacement


_OMITTED_COLUMNS: dict[ColumnElement[Any], ColumnElement[Any]] = {
    task_run.c.parameters: null(),
    task_run.c.metadata: null(),
    task_run.c.task_inputs: literal_column("'{}'"),
    task_run_state.c.message: null(),
    task_run_state.c.data: null(),
}


# A statement reads what was committed when it began, but reads each row that it locks as of the lock.
# The ids are those of the proposals: for a list of ids, PostgreSQL would plan each execution again, which costs more. They
# are looked up as an array: PostgreSQL would join a small table by reading all of it.
_locked = (
    select(task_run.c.id, task_run.c.state_id, task_run.c.updated)
    .where(is_in_subquery(task_run.c.id, select(_proposals.c.run_id)))
    .order_by(task_run.c.id)
    .with_for_update(of=task_run, key_share=True)
    .cte("locked")
)
_locked_entry = (
    select(*QUEUE_ENTRY_COLUMNS)
    .where(is_in_subquery(queue_entry.c.task_run_id, select(_locked.c.id)))
    .order_by(queue_entry.c.task_run_id)
    .with_for_update()
    .cte("locked_entry")
)
_is_unchanged = and_(
    _locked.c.updated == task_run.c.updated, _locked.c.state_id.is_not_distinct_from(task_run.c.state_id)
)


def _facts_statements(*, include_large_columns: bool) -> tuple[Statement, Statement]:
    """Build the statement that locks the runs and reads their facts, and the one that reads the facts again."""
    # PostgreSQL expects few rows, and would compare each run with each locked row. A FULL JOIN cannot be a nested loop. Both
    # sides have the same runs. The condition must not be in WHERE, where it would turn the FULL JOINs into others.
    on_postgresql = _facts(
        _locked_entry,
        _is_unchanged,
        conditions=[is_in_subquery(task_run.c.id, select(_locked.c.id))],
        include_large_columns=include_large_columns,
    ).outerjoin(_locked, _locked.c.id == task_run.c.id, full=True)
    locking = Statement(
        _facts(queue_entry, literal_column("1"), include_large_columns=include_large_columns), postgresql=on_postgresql
    )
    return locking, Statement(_facts(queue_entry, include_large_columns=include_large_columns))


_FULL_FACTS = _facts_statements(include_large_columns=True)
_SLIM_FACTS = _facts_statements(include_large_columns=False)


@dataclass(frozen=True, slots=True)
class TaskRunFacts:
    """Everything that a state transition of a task run may depend on."""

    run: TaskRunRecord
    recorded_state: StateRecord | None
    """The state that the same transition has already set. None when it has not set one."""
    queue_entry: QueueEntryRecord | None
    flow_run_state_type: StateType | None
    flow_run_run_count: int | None
    flow_run_details: StateDetails | None


def task_run_facts(
    connection: Connection, proposals: Sequence[tuple[str, str | None]], *, include_large_columns: bool = True
) -> dict[str, TaskRunFacts]:
    """Lock and return the facts for each proposal (run id, transition id) whose run exists, by run id.

    No other transaction changes the runs before this transaction ends. Without `include_large_columns`, columns that
    may have megabytes are omitted: use it when no client receives the runs.
    """
    locking, rereading = _FULL_FACTS if include_large_columns else _SLIM_FACTS
    proposal_rows = [list(each) for each in proposals]
    rows = connection.fetch_locked(locking, {"proposals": proposal_rows})
    if not all(row[-1] for row in rows):
        # Another transaction changed a run between the read and the lock, and may have queued it.
        lock_queue_entries(connection, [run_id for run_id, _ in proposals])
        rows = connection.fetch(rereading, {"proposals": proposal_rows})
    return {row[0]: _facts_from(row, connection.now) for row in rows}


def read_task_run_facts(connection: Connection, ids: Sequence[str]) -> dict[str, TaskRunFacts]:
    """Return the facts for proposals without a transition id, without locks and large columns, by run id."""
    _, reading = _SLIM_FACTS
    rows = connection.fetch(reading, {"proposals": [[id, None] for id in ids]})
    return {row[0]: _facts_from(row, connection.now) for row in rows}


def _facts_from(row: tuple[Any, ...], now: str) -> TaskRunFacts:
    recorded_state = TASK_RUN_WIDTH + STATE_WIDTH
    entry = recorded_state + STATE_WIDTH
    flow = entry + QUEUE_ENTRY_WIDTH
    return TaskRunFacts(
        run=task_run_from_row(row, now),
        recorded_state=state_from_row(row[recorded_state:]) if row[recorded_state] is not None else None,
        queue_entry=queue_entry_from(row[entry:]) if row[entry] is not None else None,
        flow_run_state_type=StateType(row[flow]) if row[flow] is not None else None,
        flow_run_run_count=row[flow + 1],
        flow_run_details=StateDetails.from_json(row[flow + 2]) if row[flow + 2] is not None else None,
    )


# --- lists ---

TASK_RUNS = Listing(task_run, TASK_RUN_FIELDS, Selection(tuple(TASK_RUN_COLUMNS), TASK_RUN_SOURCE), task_run_from_row)
NO_COLUMNS = Selection((), task_run)
"""Selection for pages that contain only ids."""

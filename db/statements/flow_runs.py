"""Statements for flow runs."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, bindparam, delete, literal_column, null, select, update

from db.connection import Connection, Row
from db.enums import StateType
from db.query.column_paths import MAX_CACHED_ROW_STATEMENTS, columns_for_flow_runs
from db.query.filters import FLOW_RUN_FIELDS
from db.query.pagination import Listing, Selection
from db.records import FlowRunRecord, StateRecord
from db.row_mapping import (
    FLOW_RUN_COLUMNS,
    FLOW_RUN_SOURCE,
    FLOW_RUN_WIDTH,
    STATE_WIDTH,
    flow_run_from_row,
    insert_statement,
    record_columns,
    record_to_row,
    select_flow_runs,
    state_from_row,
)
from db.sql.lists import is_among, unnest_rows
from db.sql.statement import Statement
from db.tables import Id, flow_run, flow_run_state

_BY_ID = Statement(select_flow_runs().where(is_among(flow_run.c.id, "ids")))
_EXISTING = Statement(select(flow_run.c.id).where(is_among(flow_run.c.id, "ids")))
_DELETE = Statement(delete(flow_run).where(is_among(flow_run.c.id, "ids")))
_DELETE_SCHEDULED = Statement(
    delete(flow_run).where(
        is_among(flow_run.c.deployment_id, "deployments"), flow_run.c.state_type == StateType.SCHEDULED.value
    )
)
_BY_PARENT = Statement(select_flow_runs().where(is_among(flow_run.c.parent_task_run_id, "ids")).order_by(flow_run.c.id))
_LOCK = Statement(
    select(flow_run.c.id).where(is_among(flow_run.c.id, "ids")).order_by(flow_run.c.id).with_for_update(key_share=True)
)
_keys = unnest_rows("keys", flow_id=Id, idempotency_key=Text())
_BY_KEY = Statement(
    select_flow_runs().join(
        _keys, and_(flow_run.c.flow_id == _keys.c.flow_id, flow_run.c.idempotency_key == _keys.c.idempotency_key)
    )
)
_INSERT = insert_statement(flow_run, FlowRunRecord)
_CURRENT_STATE_COLUMNS = [
    "updated",
    "state_id",
    "state_type",
    "state_name",
    "state_timestamp",
    "run_count",
    "expected_start_time",
    "next_scheduled_start_time",
    "start_time",
    "end_time",
    "total_run_time_seconds",
    "pause_keys",
    "resuming",
]
_UPDATE_CURRENT_STATE = Statement(
    update(flow_run).where(flow_run.c.id == bindparam("run_id", required=True)), _CURRENT_STATE_COLUMNS
)

_OMITTED_COLUMNS: dict[ColumnElement[Any], ColumnElement[Any]] = {
    flow_run.c.parameters: literal_column("'{}'"),
    flow_run.c.context: literal_column("'{}'"),
    flow_run_state.c.message: null(),
    flow_run_state.c.data: null(),
}
_proposals = unnest_rows("proposals", run_id=Id, transition_id=Id)
_recorded_state = flow_run_state.alias("earlier")
_FACTS = Statement(
    select(*FLOW_RUN_COLUMNS, *record_columns(_recorded_state, StateRecord)).select_from(
        FLOW_RUN_SOURCE.join(_proposals, flow_run.c.id == _proposals.c.run_id).outerjoin(
            _recorded_state,
            and_(
                _recorded_state.c.run_id == flow_run.c.id, _recorded_state.c.transition_id == _proposals.c.transition_id
            ),
        )
    )
)


def flow_runs_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, FlowRunRecord]:
    """Return the existing flow runs by id, with their current states."""
    rows = connection.fetch(_BY_ID, {"ids": list(ids)})
    return {row[0]: flow_run_from_row(row, connection.now) for row in rows}


@lru_cache(maxsize=MAX_CACHED_ROW_STATEMENTS)
def _row_by_id(paths: tuple[str, ...]) -> Statement:
    columns, source = columns_for_flow_runs(paths)
    return Statement(select(*columns).select_from(source).where(flow_run.c.id == bindparam("run_id", required=True)))


def flow_run_row(connection: Connection, id: str, paths: tuple[str, ...]) -> Row | None:
    """Return the columns at these paths of one flow run, or None when no flow run has this id."""
    rows = connection.fetch(_row_by_id(paths), {"run_id": id})
    return rows[0] if rows else None


def existing_flow_runs(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Return the ids of those of these flow runs that exist."""
    return {row[0] for row in connection.fetch(_EXISTING, {"ids": list(ids)})}


def lock_flow_runs(connection: Connection, ids: Sequence[str]) -> None:
    """Lock these flow runs: no other transaction changes them before this transaction ends."""
    connection.lock(_LOCK, {"ids": list(ids)})


def delete_flow_runs(connection: Connection, ids: Sequence[str]) -> None:
    """Delete these flow runs together with their task runs and all states."""
    connection.run(_DELETE, {"ids": list(ids)})


def delete_scheduled_of_deployments(connection: Connection, deployment_ids: Sequence[str]) -> None:
    """Delete the SCHEDULED flow runs of these deployments."""
    connection.run(_DELETE_SCHEDULED, {"deployments": list(deployment_ids)})


def flow_runs_by_parent(connection: Connection, ids: Sequence[str]) -> dict[str, FlowRunRecord]:
    """Return the subflow run that each of these task runs represents, by task run id; of several, the latest."""
    records = (flow_run_from_row(row, connection.now) for row in connection.fetch(_BY_PARENT, {"ids": list(ids)}))
    return {record.parent_task_run_id: record for record in records if record.parent_task_run_id is not None}


def flow_runs_by_key(connection: Connection, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], FlowRunRecord]:
    """Return the existing flow runs by flow id and idempotency key."""
    rows = connection.fetch(_BY_KEY, {"keys": [list(key) for key in keys]})
    records = (flow_run_from_row(row, connection.now) for row in rows)
    return {(record.flow_id, record.idempotency_key or ""): record for record in records}


def insert_flow_runs(connection: Connection, records: Sequence[FlowRunRecord]) -> None:
    connection.run_many(_INSERT, [record_to_row(record) for record in records])


def update_current_states(connection: Connection, records: Sequence[FlowRunRecord]) -> None:
    """Store the state of these runs and what follows from it.

    Columns that only clients set, such as the name, are not written.
    """
    rows = [record_to_row(record) for record in records]
    connection.run_many(
        _UPDATE_CURRENT_STATE,
        [{"run_id": row["id"], **{name: row[name] for name in _CURRENT_STATE_COLUMNS}} for row in rows],
    )


def flow_run_facts(
    connection: Connection, proposals: Sequence[tuple[str, str | None]]
) -> dict[str, tuple[FlowRunRecord, StateRecord | None]]:
    """Lock and return the run of each proposal (run id, transition id), and the state already set by its transition.

    Proposals whose runs do not exist are omitted. The state is None when the transition has not set one. No other
    transaction changes the runs before this transaction ends.
    """
    lock_flow_runs(connection, [run_id for run_id, _ in proposals])
    rows = connection.fetch(_FACTS, {"proposals": [list(each) for each in proposals]})
    start = FLOW_RUN_WIDTH + STATE_WIDTH
    return {
        row[0]: (
            flow_run_from_row(row, connection.now),
            state_from_row(row[start:]) if row[start] is not None else None,
        )
        for row in rows
    }


# `update_current_states` stores none of the columns that are constants here.
_TO_CHANGE = Statement(
    select(*(_OMITTED_COLUMNS.get(each, each) for each in FLOW_RUN_COLUMNS))
    .select_from(FLOW_RUN_SOURCE)
    .where(is_among(flow_run.c.id, "ids"))
)


def flow_runs_to_change(connection: Connection, ids: Sequence[str]) -> dict[str, FlowRunRecord]:
    """Return the existing flow runs by id, without the columns that may have megabytes and that only clients need."""
    rows = connection.fetch(_TO_CHANGE, {"ids": list(ids)})
    return {row[0]: flow_run_from_row(row, connection.now) for row in rows}


NO_COLUMNS = Selection((), flow_run)
"""Selection for pages that contain only ids."""
FLOW_RUNS = Listing(flow_run, FLOW_RUN_FIELDS, Selection(tuple(FLOW_RUN_COLUMNS), FLOW_RUN_SOURCE), flow_run_from_row)

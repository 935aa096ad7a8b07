"""Statements for states. Task runs and flow runs each have a table of states, with the same columns."""

from collections.abc import Sequence

from sqlalchemy import Table, insert, select

from db.connection import Connection, FlowRunStatesWritten, StatesWritten, TaskRunEnded
from db.enums import TERMINAL
from db.records import StateRecord
from db.row_mapping import insert_statement, record_columns, record_to_row, state_from_row
from db.sql.lists import is_among
from db.sql.statement import Statement
from db.statements.state_changes import WRITTEN_IN
from db.tables import flow_run_state, task_run_state


def _history_statement(table: Table) -> Statement:
    columns = record_columns(table, StateRecord)
    return Statement(select(*columns).where(is_among(table.c.run_id, "ids")).order_by(table.c.timestamp, table.c.id))


def _by_id_statement(table: Table) -> Statement:
    return Statement(select(*record_columns(table, StateRecord)).where(is_among(table.c.id, "ids")))


_TASK_RUN_HISTORY = _history_statement(task_run_state)
_FLOW_RUN_HISTORY = _history_statement(flow_run_state)
_TASK_RUN_STATES_BY_ID = _by_id_statement(task_run_state)
_FLOW_RUN_STATES_BY_ID = _by_id_statement(flow_run_state)
_INSERT_TASK_RUN_STATE = Statement(
    insert(task_run_state),
    [column.name for column in record_columns(task_run_state, StateRecord)],
    postgresql=insert(task_run_state).values(written_in=WRITTEN_IN),
)
_INSERT_FLOW_RUN_STATE = insert_statement(flow_run_state, StateRecord)


def task_run_histories(connection: Connection, ids: Sequence[str]) -> dict[str, list[StateRecord]]:
    """Return the states that each of these task runs has had, by run id, oldest first."""
    return _by_run(connection, _TASK_RUN_HISTORY, ids)


def flow_run_histories(connection: Connection, ids: Sequence[str]) -> dict[str, list[StateRecord]]:
    """Return the states that each of these flow runs has had, by run id, oldest first."""
    return _by_run(connection, _FLOW_RUN_HISTORY, ids)


def task_run_states_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, StateRecord]:
    """Return the existing states of task runs by id."""
    return {row[0]: state_from_row(row) for row in connection.fetch(_TASK_RUN_STATES_BY_ID, {"ids": list(ids)})}


def flow_run_states_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, StateRecord]:
    """Return the existing states of flow runs by id."""
    return {row[0]: state_from_row(row) for row in connection.fetch(_FLOW_RUN_STATES_BY_ID, {"ids": list(ids)})}


def insert_task_run_states(connection: Connection, states: Sequence[StateRecord]) -> None:
    """Insert new states, and notify the readers of the feed and those who wait for ended runs after the commit.

    An existing run must be updated after this call, because its row must still refer to the previous state.
    """
    connection.run_many(_INSERT_TASK_RUN_STATE, [{**record_to_row(state), "of_run": state.run_id} for state in states])
    if states and (notification := StatesWritten()) not in connection.notifications:
        connection.notify([notification])
    connection.notify(TaskRunEnded(state.run_id) for state in states if state.type in TERMINAL)


def insert_flow_run_states(connection: Connection, states: Sequence[StateRecord]) -> None:
    """Insert new states, and notify this server's flow run sweeper after the commit."""
    connection.run_many(_INSERT_FLOW_RUN_STATE, [record_to_row(state) for state in states])
    if states and (notification := FlowRunStatesWritten()) not in connection.notifications:
        connection.notify([notification])


def _by_run(connection: Connection, statement: Statement, ids: Sequence[str]) -> dict[str, list[StateRecord]]:
    histories: dict[str, list[StateRecord]] = {run_id: [] for run_id in ids}
    for row in connection.fetch(statement, {"ids": list(ids)}):
        state = state_from_row(row)
        histories[state.run_id].append(state)
    return histories

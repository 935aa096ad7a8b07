"""Statements about states: each kind of run has a table of them, of one form."""

from collections.abc import Sequence

from sqlalchemy import Table, insert, select

from db.connection import Connection, StatesWritten
from db.records import StateRecord
from db.row_mapping import columns_of, insert_of, row_of, state_from
from db.sql.dialects import is_among
from db.sql.statement import Statement
from db.statements.state_changes import WRITTEN_IN
from db.tables import flow_run_state, task_run_state


def _history(table: Table) -> Statement:
    columns = columns_of(table, StateRecord)
    return Statement(select(*columns).where(is_among(table.c.run_id, "ids")).order_by(table.c.timestamp, table.c.id))


_TASK_RUN_HISTORY = _history(task_run_state)
_FLOW_RUN_HISTORY = _history(flow_run_state)
_INSERT_TASK_RUN_STATE = Statement(
    insert(task_run_state),
    [column.name for column in columns_of(task_run_state, StateRecord)],
    postgresql=insert(task_run_state).values(written_in=WRITTEN_IN),
)
_INSERT_FLOW_RUN_STATE = insert_of(flow_run_state, StateRecord)


def task_run_histories(connection: Connection, ids: Sequence[str]) -> dict[str, list[StateRecord]]:
    """The states that each of these task runs has had, oldest first."""
    return _by_run(connection, _TASK_RUN_HISTORY, ids)


def flow_run_histories(connection: Connection, ids: Sequence[str]) -> dict[str, list[StateRecord]]:
    """The states that each of these flow runs has had, oldest first."""
    return _by_run(connection, _FLOW_RUN_HISTORY, ids)


def insert_task_run_states(connection: Connection, states: Sequence[StateRecord]) -> None:
    """Write new states, and tell so. The runs that they are of are written after it, or have just been made."""
    connection.run_many(_INSERT_TASK_RUN_STATE, [{**row_of(state), "of_run": state.run_id} for state in states])
    if states and (written := StatesWritten()) not in connection.notices:
        connection.announce([written])


def insert_flow_run_states(connection: Connection, states: Sequence[StateRecord]) -> None:
    connection.run_many(_INSERT_FLOW_RUN_STATE, [row_of(state) for state in states])


def _by_run(connection: Connection, statement: Statement, ids: Sequence[str]) -> dict[str, list[StateRecord]]:
    histories: dict[str, list[StateRecord]] = {run_id: [] for run_id in ids}
    for row in connection.fetch(statement, {"ids": list(ids)}):
        state = state_from(row)
        histories[state.run_id].append(state)
    return histories

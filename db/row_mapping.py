"""Mapping between rows and records.

A field of a record has the name of its column. A field `…_json` holds the column without this suffix.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, FromClause, Join, Select, Table, insert, select

from db import tables
from db.connection import Row
from db.enums import StateType
from db.records import FlowRunRecord, QueueEntryRecord, RunRecord, StateRecord, TaskRunRecord
from db.sql.statement import Parameters, Statement

Run = TypeVar("Run", bound=RunRecord)


def record_columns(table: FromClause, record: type[Any]) -> list[ColumnElement[Any]]:
    """Return the columns of `record`, in the order of its fields."""
    return [table.c[column] for column, _ in _stored_fields(record)]


def insert_statement(table: Table, record: type[Any]) -> Statement:
    """Build the statement that inserts a record of this class, with the parameters of `record_to_row`."""
    return Statement(insert(table), stored_column_names(record))


def stored_column_names(record: type[Any]) -> list[str]:
    """Return the names of the columns that `record_to_row` returns the values of."""
    return [column for column, _ in _stored_columns(record)]


def record_to_row(record: Any) -> Parameters:
    """Return the stored values of a record, by column."""
    columns, read_values = _row_reader(record.__class__)
    return dict(zip(columns, read_values(record), strict=True))


@cache
def _row_reader(record: type[Any]) -> tuple[Sequence[str], Callable[[Any], tuple[Any, ...]]]:
    """Return the stored columns of a record class, and a function that reads their values from a record."""
    return [column for column, _ in _stored_columns(record)], attrgetter(*(name for _, name in _stored_columns(record)))


@cache
def _stored_fields(record: type[Any]) -> tuple[tuple[str, str], ...]:
    """Return the column and the field name of each stored field."""
    # Keyword-only fields are no columns: their values come from another table or the clock.
    return tuple((each.name.removesuffix("_json"), each.name) for each in fields(record) if not each.kw_only)


_DERIVED_ATTRIBUTES = {TaskRunRecord: ("start_delay_seconds",), QueueEntryRecord: ("waits_for_slot",)}
"""Attributes that are stored for use in statements and not read into records, where they follow from other fields."""


@cache
def _stored_columns(record: type[Any]) -> tuple[tuple[str, str], ...]:
    return *_stored_fields(record), *((name, name) for name in _DERIVED_ATTRIBUTES.get(record, ()))


TASK_RUN_WIDTH = len(_stored_fields(TaskRunRecord))
FLOW_RUN_WIDTH = len(_stored_fields(FlowRunRecord))
STATE_WIDTH = len(_stored_fields(StateRecord))

TASK_RUN_COLUMNS = [
    *record_columns(tables.task_run, TaskRunRecord),
    *record_columns(tables.task_run_state, StateRecord),
]
TASK_RUN_SOURCE: Join = tables.task_run.outerjoin(
    tables.task_run_state, tables.task_run_state.c.id == tables.task_run.c.state_id
)

FLOW_RUN_COLUMNS = [
    *record_columns(tables.flow_run, FlowRunRecord),
    *record_columns(tables.flow_run_state, StateRecord),
]
FLOW_RUN_SOURCE: Join = tables.flow_run.outerjoin(
    tables.flow_run_state, tables.flow_run_state.c.id == tables.flow_run.c.state_id
)


def select_task_runs() -> Select[Any]:
    """Select task runs with their current states. `task_run_from_row` converts the rows."""
    return select(*TASK_RUN_COLUMNS).select_from(TASK_RUN_SOURCE)


def select_flow_runs() -> Select[Any]:
    """Select flow runs with their current states. `flow_run_from_row` converts the rows."""
    return select(*FLOW_RUN_COLUMNS).select_from(FLOW_RUN_SOURCE)


def task_run_from_row(row: Row, read_at: str) -> TaskRunRecord:
    return _with_state(TaskRunRecord(*row[:TASK_RUN_WIDTH]), row[TASK_RUN_WIDTH:], read_at)


def flow_run_from_row(row: Row, read_at: str) -> FlowRunRecord:
    return _with_state(FlowRunRecord(*row[:FLOW_RUN_WIDTH]), row[FLOW_RUN_WIDTH:], read_at)


def state_from_row(row: Sequence[Any]) -> StateRecord:
    state = StateRecord(*row[:STATE_WIDTH])
    state.type = _TYPES[state.type]
    return state


def _with_state(run: Run, state: Sequence[Any], read_at: str) -> Run:
    run.read_at = read_at
    if run.state_type is not None:
        run.state_type = _TYPES[run.state_type]
        run.state = state_from_row(state)
    return run


_TYPES: dict[str, StateType] = {each.value: each for each in StateType}

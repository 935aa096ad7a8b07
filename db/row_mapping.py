"""Between tables and records: which columns a record is made of, and how a row becomes one.

A record's field has its column's name; `…_json` stands for the column without the ending.
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
from db.records import FlowRunRecord, RunRecord, StateRecord, TaskRunRecord
from db.sql.statement import Parameters, Statement

Run = TypeVar("Run", bound=RunRecord)


def columns_of(table: FromClause, record: type[Any]) -> list[ColumnElement[Any]]:
    """The columns that `record` is made of, in the order of its fields."""
    return [table.c[column] for column, _ in _names(record)]


def insert_of(table: Table, record: type[Any]) -> Statement:
    """The statement that inserts a record of this kind, given as its `row_of`."""
    return Statement(insert(table), [column for column, _ in _written(record)])


def row_of(record: Any) -> Parameters:
    """What is stored of a record, by column."""
    columns, values = _reading(record.__class__)
    return dict(zip(columns, values(record), strict=True))


@cache
def _reading(record: type[Any]) -> tuple[Sequence[str], Callable[[Any], tuple[Any, ...]]]:
    """The columns that are stored of a record, and what reads the values of these from one."""
    return [column for column, _ in _written(record)], attrgetter(*(name for _, name in _written(record)))


@cache
def _names(record: type[Any]) -> tuple[tuple[str, str], ...]:
    """The column and the name of each stored field."""
    # Keyword-only fields come from elsewhere: another table, the clock.
    return tuple((each.name.removesuffix("_json"), each.name) for each in fields(record) if not each.kw_only)


_WORKED_OUT = {TaskRunRecord: ("start_delay_seconds",)}
"""Attributes that are stored for statements to read, and not read into a record again: they follow from its fields."""


@cache
def _written(record: type[Any]) -> tuple[tuple[str, str], ...]:
    return *_names(record), *((name, name) for name in _WORKED_OUT.get(record, ()))


TASK_RUN_WIDTH = len(_names(TaskRunRecord))
FLOW_RUN_WIDTH = len(_names(FlowRunRecord))
STATE_WIDTH = len(_names(StateRecord))

TASK_RUN_COLUMNS = [*columns_of(tables.task_run, TaskRunRecord), *columns_of(tables.task_run_state, StateRecord)]
TASK_RUN_SOURCE: Join = tables.task_run.outerjoin(
    tables.task_run_state, tables.task_run_state.c.id == tables.task_run.c.state_id
)

FLOW_RUN_COLUMNS = [*columns_of(tables.flow_run, FlowRunRecord), *columns_of(tables.flow_run_state, StateRecord)]
FLOW_RUN_SOURCE: Join = tables.flow_run.outerjoin(
    tables.flow_run_state, tables.flow_run_state.c.id == tables.flow_run.c.state_id
)


def select_task_runs() -> Select[Any]:
    """Task runs with their current states; `task_run_from` reads the rows."""
    return select(*TASK_RUN_COLUMNS).select_from(TASK_RUN_SOURCE)


def select_flow_runs() -> Select[Any]:
    """Flow runs with their current states; `flow_run_from` reads the rows."""
    return select(*FLOW_RUN_COLUMNS).select_from(FLOW_RUN_SOURCE)


def task_run_from(row: Row, read_at: str) -> TaskRunRecord:
    return _with_state(TaskRunRecord(*row[:TASK_RUN_WIDTH]), row[TASK_RUN_WIDTH:], read_at)


def flow_run_from(row: Row, read_at: str) -> FlowRunRecord:
    return _with_state(FlowRunRecord(*row[:FLOW_RUN_WIDTH]), row[FLOW_RUN_WIDTH:], read_at)


def state_from(row: Sequence[Any]) -> StateRecord:
    state = StateRecord(*row[:STATE_WIDTH])
    state.type = _TYPES[state.type]
    return state


def _with_state(run: Run, state: Sequence[Any], read_at: str) -> Run:
    run.read_at = read_at
    if run.state_type is not None:
        run.state_type = _TYPES[run.state_type]
        run.state = state_from(state)
    return run


_TYPES: dict[str, StateType] = {each.value: each for each in StateType}

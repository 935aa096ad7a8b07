"""Columns by their paths: `name`, `state.type`, `flow_run.flow.name`, and the tables to join for them.

A reader that is asked for a few columns of a run and of what belongs to it gets them in one statement, and no others.
Joined tables get names of their own, so that conditions on a table of the same kind do not mean the joined one.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Table

from db import tables

MOST_ROW_STATEMENTS = 500
"""Statements of one kind that are kept: clients can ask for more sets of columns than there is memory for."""

_RELATIONS: dict[str, dict[str, tuple[Table, str]]] = {
    "task_run": {"state": (tables.task_run_state, "state_id"), "flow_run": (tables.flow_run, "flow_run_id")},
    "flow_run": {
        "state": (tables.flow_run_state, "state_id"),
        "flow": (tables.flow, "flow_id"),
        "deployment": (tables.deployment, "deployment_id"),
    },
    "deployment": {"flow": (tables.flow, "flow_id")},
}
"""For each table its relations to one row: the other table, and the column that has that row's id."""


def columns_for_task_runs(paths: Sequence[str]) -> tuple[list[ColumnElement[Any]], FromClause]:
    """The columns in the order of `paths`, and `task_run` with the tables that they are in."""
    return _columns(tables.task_run, paths)


def columns_for_flow_runs(paths: Sequence[str]) -> tuple[list[ColumnElement[Any]], FromClause]:
    """The columns in the order of `paths`, and `flow_run` with the tables that they are in."""
    return _columns(tables.flow_run, paths)


def _columns(root: Table, paths: Sequence[str]) -> tuple[list[ColumnElement[Any]], FromClause]:
    source: FromClause = root
    joined: dict[tuple[str, ...], tuple[str, FromClause]] = {(): (root.name, root)}
    columns: list[ColumnElement[Any]] = []
    for path in paths:
        *relations, column = path.split(".")
        for depth in range(1, len(relations) + 1):
            reached = tuple(relations[:depth])
            if reached not in joined:
                name, table = joined[reached[:-1]]
                other, key = _RELATIONS[name][reached[-1]]
                row = other.alias("_".join(["the", *reached]))
                source = source.outerjoin(row, row.c.id == table.c[key])
                joined[reached] = other.name, row
        columns.append(joined[tuple(relations)][1].c[column])
    return columns, source

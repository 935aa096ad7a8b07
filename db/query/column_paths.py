"""Columns given by paths such as `name`, `state.type` and `flow_run.flow.name`, and the joins that they need.

One statement reads exactly the requested columns of a run and its related rows. Joined tables are aliased: a condition
on the same table must not apply to the joined row.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Table

from db import tables

MAX_CACHED_ROW_STATEMENTS = 500
"""Maximum number of cached statements of each kind. Clients choose the sets of columns, whose number is unbounded."""

_RELATIONS: dict[str, dict[str, tuple[Table, str]]] = {
    "task_run": {"state": (tables.task_run_state, "state_id"), "flow_run": (tables.flow_run, "flow_run_id")},
    "flow_run": {
        "state": (tables.flow_run_state, "state_id"),
        "flow": (tables.flow, "flow_id"),
        "deployment": (tables.deployment, "deployment_id"),
    },
    "deployment": {"flow": (tables.flow, "flow_id")},
}
"""To-one relations of each table: the related table, and the column with the id of the related row."""


def columns_for_task_runs(paths: Sequence[str]) -> tuple[list[ColumnElement[Any]], FromClause]:
    """Return the columns in the order of `paths`, and `task_run` joined with the tables that contain them."""
    return _columns(tables.task_run, paths)


def columns_for_flow_runs(paths: Sequence[str]) -> tuple[list[ColumnElement[Any]], FromClause]:
    """Return the columns in the order of `paths`, and `flow_run` joined with the tables that contain them."""
    return _columns(tables.flow_run, paths)


def _columns(root: Table, paths: Sequence[str]) -> tuple[list[ColumnElement[Any]], FromClause]:
    source: FromClause = root
    joined: dict[tuple[str, ...], tuple[str, FromClause]] = {(): (root.name, root)}
    columns: list[ColumnElement[Any]] = []
    for path in paths:
        *relations, column = path.split(".")
        for depth in range(1, len(relations) + 1):
            relation_path = tuple(relations[:depth])
            if relation_path not in joined:
                name, table = joined[relation_path[:-1]]
                related_table, foreign_key = _RELATIONS[name][relation_path[-1]]
                related_row = related_table.alias("_".join(["the", *relation_path]))
                source = source.outerjoin(related_row, related_row.c.id == table.c[foreign_key])
                joined[relation_path] = related_table.name, related_row
        columns.append(joined[tuple(relations)][1].c[column])
    return columns, source

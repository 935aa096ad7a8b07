"""Filters to SQL: what a client may ask about, one row a field.

A filter is a tree of plain values, as the API's inputs say it. Its *shape* is what it asks without the values that it
asks with; one statement is made for each shape and kept, and the values go in as parameters.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, not_, true

from db import tables
from db.statements import is_among

Filter = Mapping[str, Any]
"""Field to condition: an operator's name to its value, or a further filter. None stands for "no condition"."""

Shape = tuple[Any, ...]
Condition = tuple[Shape, dict[str, Any], Callable[[], ColumnElement[bool]]]
"""The shape of a filter, its parameters, and what makes its clause, for the first of its shape."""

Operators = Mapping[str, Callable[[str], ColumnElement[bool]]]


def _values(column: ColumnElement[Any]) -> Operators:
    """What can be asked of a column that is one of many values."""
    return {
        "one": lambda parameter: column == bindparam(parameter, required=True),
        "any": lambda parameter: is_among(column, parameter),
        "not_any": lambda parameter: not_(is_among(column, parameter)),
        "is_null": lambda parameter: column.is_(None) == bindparam(parameter, required=True),
    }


TASK_RUN_FIELDS: Mapping[str, Any] = {
    "id": _values(tables.task_run.c.id),
    "task_key": _values(tables.task_run.c.task_key),
    "state": {"type": _values(tables.task_run.c.state_type)},
}


Make = Callable[[], ColumnElement[bool]]


def compile_filter(filter: Filter, fields: Mapping[str, Any]) -> Condition:
    """The condition that `filter` puts on rows, all its parts joined by AND. No part is no condition: true."""
    parts: list[tuple[str, Make]] = []
    parameters: dict[str, Any] = {}
    _collect(filter, fields, "f", parts, parameters)

    def condition() -> ColumnElement[bool]:
        return and_(true(), *(make() for _, make in parts))

    return tuple(name for name, _ in parts), parameters, condition


def _collect(
    filter: Filter, fields: Mapping[str, Any], path: str, parts: list[tuple[str, Make]], parameters: dict[str, Any]
) -> None:
    for name, value in filter.items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            _collect(value, fields[name], f"{path}_{name}", parts, parameters)  # pyright: ignore[reportUnknownArgumentType]
            continue
        # The most common filter by far; as an equation it can walk an index in the order of the page.
        is_one = name == "any" and len(value) == 1
        operator = "one" if is_one else name
        place = f"{path}_{operator}"
        parameters[place] = value[0] if is_one else value
        parts.append((place, partial(fields[operator], place)))

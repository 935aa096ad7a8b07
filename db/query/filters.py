"""Filters to SQL: what a client may ask about, one row a field.

A filter is a tree of plain values, as the API's inputs say it. Its *shape* is what it asks without the values that it
asks with; one statement is made for each shape and kept, and the values go in as parameters.

A condition on what is not there (a null) is not met. `not` is met by exactly the rows that do not meet what is in it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, FromClause, and_, bindparam, not_, or_, select, true

from db import tables
from db.sql.dialects import contains_text, has_all_tags, has_tag, has_tag_among, is_among, is_empty_list, met_by

Filter = Mapping[str, Any]
"""Field to condition: an operator's name to its value, or a further filter. `and` and `or` have lists of filters, `not`
has one. None stands for "no condition"."""

Shape = tuple[tuple[str, Any], ...]
"""The parts of a filter, all of which have to be met: an operator and the name of its parameter; a field and what is
asked of it; `and`, `or`, `not`. No part is no condition."""

Clause = ColumnElement[bool]
Parameters = dict[str, Any]

Lookup = Literal["row by row", "at once"]
"""How related rows are found: for each row that is looked at, which may be few of many until a page is full; or once for
all, where all are looked at anyway."""


@dataclass(frozen=True, slots=True)
class Value:
    """A field that is one value of a row."""

    column: str
    operators: "Operators"
    share: float | None = None
    """About which part of all rows have one value, where that is so large that nearly anything else finds fewer."""

    def clause(self, table: FromClause, asked: Shape, lookup: Lookup) -> Clause:
        column = table.c[self.column]
        clauses = [self.operators[name](column, value) for name, value in asked]
        # Until a page is full, it depends on the value which way is short, and SQLite does well to look for the value.
        return and_(*(met_by(self.share, each) if self.share and lookup == "at once" else each for each in clauses))


Operators = Mapping[str, Callable[[ColumnElement[Any], Any], Clause]]
"""What makes the clause from the column and the name of the parameter, or from the column and True or False."""


@dataclass(frozen=True, slots=True)
class Group:
    """A field that holds several others."""

    fields: "Fields"

    def clause(self, table: FromClause, asked: Shape, lookup: Lookup) -> Clause:
        return and_(*clauses_of(asked, self.fields, table, lookup))


@dataclass(frozen=True, slots=True)
class Flag:
    """A field that is asked for by True or False."""

    holds: Callable[[FromClause], Clause]

    def clause(self, table: FromClause, asked: bool, lookup: Lookup) -> Clause:
        return self.holds(table) if asked else not_(self.holds(table))


@dataclass(frozen=True, slots=True)
class Related:
    """A field that is another row, whose id is in `column`. A row without one meets no condition on it, not even none."""

    target: FromClause
    column: str
    get_fields: Callable[[], "Fields"]
    may_be_gone: bool = False
    """Whether the id may be that of a row which is not there any more."""

    @property
    def fields(self) -> "Fields":
        return self.get_fields()

    def clause(self, table: FromClause, asked: Shape, lookup: Lookup) -> Clause:
        # What is asked of its id is asked of the column, which may have an index and needs no look at the other table.
        of_id = tuple(part for part in asked if part[0] == "id")
        rest = tuple(part for part in asked if part[0] != "id")
        column = table.c[self.column]
        clauses = [column.is_not(None), *clauses_of(of_id, {"id": _one_of(self.column)}, table, lookup)]
        if rest or self.may_be_gone:
            other = self.target.alias()
            there = select(other.c.id).where(*clauses_of(rest, self.fields, other, lookup))
            if lookup == "at once":
                clauses.append(column.in_(there))
            else:
                clauses.append(there.where(other.c.id == column).correlate(table).exists())
        return and_(*clauses)


Field = Value | Group | Flag | Related
Fields = Mapping[str, Field]


def shape_of(filter: Filter, fields: Fields) -> tuple[Shape, Parameters]:
    """What the filter asks, and the values that it asks with. The shape is empty for a filter without a condition."""
    parameters: Parameters = {}
    return _shape_of(filter, fields, parameters), parameters


def has_condition(filter: Filter, fields: Fields) -> bool:
    """Whether the filter asks for anything, be it something that every row meets."""
    return bool(shape_of(filter, fields)[0])


def _shape_of(filter: Filter, fields: Fields, parameters: Parameters) -> Shape:
    parts: list[tuple[str, Any]] = []
    for name, value in filter.items():
        if value is None:
            continue
        if name == "and":
            for each in value:
                parts += _shape_of(each, fields, parameters)
        elif name == "or":
            parts += _either(value, fields, parameters)
        elif name == "not":
            parts.append((name, _shape_of(value, fields, parameters)))
        else:
            parts += _asked(name, value, fields[name], parameters)
    return tuple(parts)


def _either(filters: Sequence[Filter], fields: Fields, parameters: Parameters) -> Shape:
    known = len(parameters)
    shapes = tuple(_shape_of(each, fields, parameters) for each in filters)
    if shapes and all(shapes):
        return (("or", shapes),)
    # One of them has no condition, so each row meets it; or there are none to choose from.
    for name in list(parameters)[known:]:
        del parameters[name]
    return ()


def _asked(name: str, value: Any, field: Field, parameters: Parameters) -> Shape:
    match field:
        case Flag():
            return ((name, value),)
        case Related():
            return ((name, _shape_of(value, field.fields, parameters)),)
        case Group():
            asked = _shape_of(value, field.fields, parameters)
        case Value():
            asked = _operators_of(value, parameters)
    return ((name, asked),) if asked else ()


def _operators_of(asked: Mapping[str, Any], parameters: Parameters) -> Shape:
    parts: list[tuple[str, Any]] = []
    for operator, value in asked.items():
        # To be none of nothing, or to have all of nothing, is no condition.
        if value is None or (operator in {"not_any", "all"} and not value):
            continue
        if isinstance(value, bool):
            parts.append((operator, value))
            continue
        # The most common filter by far; as an equation it can walk an index in the order of the page.
        is_one = operator in {"any", "all"} and len(value) == 1
        parameter = f"f{len(parameters)}"
        parameters[parameter] = value[0] if is_one else value
        parts.append(("one" if is_one else operator, parameter))
    return tuple(parts)


def clauses_of(shape: Shape, fields: Fields, table: FromClause, lookup: Lookup = "row by row") -> list[Clause]:
    """What rows of `table` have to meet, which is the table of these fields or an alias of it."""
    return [_clause_of(name, asked, fields, table, lookup) for name, asked in shape]


def _clause_of(name: str, asked: Any, fields: Fields, table: FromClause, lookup: Lookup) -> Clause:
    if name == "or":
        return or_(*(and_(*clauses_of(each, fields, table, lookup)) for each in asked))
    if name == "not":
        # A comparison with a null is neither true nor false; the complement takes it in.
        return and_(true(), *clauses_of(asked, fields, table, lookup)).is_not(true())
    return fields[name].clause(table, asked, lookup)


# --- operators ---

_NULL: Operators = {"is_null": lambda column, wanted: column.is_(None) if wanted else column.is_not(None)}
_AMONG: Operators = {
    "one": lambda column, parameter: column == bindparam(parameter, required=True),
    "any": is_among,
    "not_any": lambda column, parameter: not_(is_among(column, parameter)),
    **_NULL,
}
_TEXT: Operators = {**_AMONG, "like": contains_text}
_MOMENT: Operators = {
    "after": lambda column, parameter: column >= bindparam(parameter, required=True),
    "before": lambda column, parameter: column <= bindparam(parameter, required=True),
    **_NULL,
}
_TAGS: Operators = {
    "one": has_tag,
    "all": has_all_tags,
    "any": has_tag_among,
    "is_empty": lambda column, wanted: is_empty_list(column) if wanted else not_(is_empty_list(column)),
}


def _one_of(column: str) -> Value:
    """One of many values: an id, a type of state."""
    return Value(column, _AMONG)


def _text(column: str) -> Value:
    return Value(column, _TEXT)


def _moment(column: str) -> Value:
    return Value(column, _MOMENT)


_tags = Value("tags", _TAGS)
_state = Group({"type": Value("state_type", _AMONG, share=0.25), "name": _text("state_name")})


# --- what has to be looked up in other tables ---


def _has_child_flow_run(task_run: FromClause) -> Clause:
    child = tables.flow_run.alias()
    return select(child.c.id).where(child.c.parent_task_run_id == task_run.c.id).correlate(task_run).exists()


def _has_deployment(flow: FromClause) -> Clause:
    deployment = tables.deployment.alias()
    return select(deployment.c.id).where(deployment.c.flow_id == flow.c.id).correlate(flow).exists()


def _of_parent(column: Any, condition: Callable[[FromClause], Clause]) -> Clause:
    """Whether the task run whose id is in `column` meets the condition."""
    parent = tables.task_run.alias()
    return select(parent.c.id).where(parent.c.id == column, condition(parent)).correlate(column.table).exists()


def _has_parent_among(column: ColumnElement[Any], condition: Callable[[FromClause], Clause]) -> Clause:
    """The same, to be looked up from the parents' side."""
    parent = tables.task_run.alias()
    return column.in_(select(parent.c.id).where(condition(parent)))


_FLOW_RUN_OF_PARENT: Operators = {
    "one": lambda column, parameter: _has_parent_among(
        column, lambda parent: parent.c.flow_run_id == bindparam(parameter, required=True)
    ),
    "any": lambda column, parameter: _has_parent_among(
        column, lambda parent: is_among(parent.c.flow_run_id, parameter)
    ),
    "not_any": lambda column, parameter: _of_parent(
        column, lambda parent: not_(is_among(parent.c.flow_run_id, parameter))
    ),
    "is_null": lambda column, wanted: (
        not_(_of_parent(column, lambda parent: parent.c.flow_run_id.is_not(None)))
        if wanted
        else _of_parent(column, lambda parent: parent.c.flow_run_id.is_not(None))
    ),
}


# --- one row a field ---

TASK_RUN_FIELDS: Fields = {
    "id": _one_of("id"),
    "name": _text("name"),
    "task_key": _text("task_key"),
    "tags": _tags,
    "state": _state,
    "start_time": _moment("start_time"),
    "end_time": _moment("end_time"),
    "expected_start_time": _moment("expected_start_time"),
    "created": _moment("created"),
    "flow_run_id": _one_of("flow_run_id"),
    "has_child_flow_run": Flag(_has_child_flow_run),
    "flow_run": Related(tables.flow_run, "flow_run_id", lambda: FLOW_RUN_FIELDS),
}

FLOW_RUN_FIELDS: Fields = {
    "id": _one_of("id"),
    "name": _text("name"),
    "tags": _tags,
    "deployment_id": _one_of("deployment_id"),
    "work_queue_name": _text("work_queue_name"),
    "state": _state,
    "flow_version": _text("flow_version"),
    "start_time": _moment("start_time"),
    "expected_start_time": _moment("expected_start_time"),
    "next_scheduled_start_time": _moment("next_scheduled_start_time"),
    "parent_flow_run_id": Value("parent_task_run_id", _FLOW_RUN_OF_PARENT),
    "parent_task_run_id": _one_of("parent_task_run_id"),
    "idempotency_key": _text("idempotency_key"),
    "flow": Related(tables.flow, "flow_id", lambda: FLOW_FIELDS),
    "deployment": Related(tables.deployment, "deployment_id", lambda: DEPLOYMENT_FIELDS, may_be_gone=True),
}

FLOW_FIELDS: Fields = {
    "id": _one_of("id"),
    "name": _text("name"),
    "tags": _tags,
    "has_deployment": Flag(_has_deployment),
}

DEPLOYMENT_FIELDS: Fields = {
    "id": _one_of("id"),
    "name": _text("name"),
    "tags": _tags,
    "work_queue_name": _text("work_queue_name"),
    "is_schedule_active": Flag(lambda deployment: deployment.c.is_schedule_active.is_(true())),
}

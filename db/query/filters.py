"""Filters and their SQL. The tables of fields at the end have one row for each field that a client can filter on.

A filter is a tree of plain values, as in the inputs of the API. Its *shape* is the filter without its values. One
statement is compiled and cached for each shape, and the values are passed as parameters.

A null value meets no condition except `is_null`. `not` matches exactly the rows that its filter does not match.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, FromClause, Select, and_, bindparam, not_, or_, select, true

from db import tables
from db.sql.json_members import has_members
from db.sql.lists import is_among, is_empty_list
from db.sql.planner_hints import with_selectivity
from db.sql.tags import has_all_tags, has_tag, has_tag_among
from db.sql.text import contains_text, end_of_prefix

Filter = Mapping[str, Any]
"""Maps each field to its condition, which is a mapping of operators to values, or a nested filter. `and` and `or`
have a list of filters, `not` has one filter. None is ignored."""

Shape = tuple[tuple[str, Any], ...]
"""Conditions that are combined with AND: an operator and the name of its parameter; a field and its conditions; `or` or
`not` and nested shapes. An empty shape matches every row."""

Clause = ColumnElement[bool]
Parameters = dict[str, Any]

Lookup = Literal["row by row", "at once"]
"""How related rows are found: with a lookup for each row that is read, which may be few rows when a page fills
early; or with one subquery for all rows, for statements that read all of them anyway."""


@dataclass(frozen=True, slots=True)
class ScalarField:
    """A field that filters on one column."""

    column: str
    operators: "Operators"
    selectivity: float | None = None
    """Estimated share of rows that have one value, set when nearly any other condition matches fewer rows."""

    def clause(self, table: FromClause, conditions: Shape, lookup: Lookup) -> Clause:
        column = table.c[self.column]
        clauses = [self.operators[name](column, value) for name, value in conditions]
        # For a page, the best plan depends on the value, and SQLite's default to search for the value works well.
        return and_(
            *(
                with_selectivity(self.selectivity, each) if self.selectivity and lookup == "at once" else each
                for each in clauses
            )
        )


@dataclass(frozen=True, slots=True)
class CurrentStateField:
    """A field that filters on one column of the current state of a task run."""

    column: str
    operators: "Operators"

    def clause(self, table: FromClause, conditions: Shape, lookup: Lookup) -> Clause:
        state = tables.task_run_state.alias()
        of_run = select(state.c[self.column]).where(state.c.id == table.c.state_id).correlate(table).scalar_subquery()
        return and_(*(self.operators[name](of_run, value) for name, value in conditions))


@dataclass(frozen=True, slots=True)
class LeaseField:
    """A field that filters on one column of the current lease of a task run. It is null without a lease.

    The condition starts from the leases, which are few beside all runs.
    """

    column: str
    operators: "Operators"

    def clause(self, table: FromClause, conditions: Shape, lookup: Lookup) -> Clause:
        clauses = [self._is_null(table) for condition in conditions if condition == ("is_null", True)]
        others = [condition for condition in conditions if condition != ("is_null", True)]
        if others:
            entry = tables.queue_entry.alias()
            matching = [self.operators[name](entry.c[self.column], value) for name, value in others]
            clauses.append(table.c.id.in_(self._leased(entry).where(*matching)))
        return and_(*clauses)

    def _is_null(self, table: FromClause) -> Clause:
        entry = tables.queue_entry.alias()
        return table.c.id.not_in(self._leased(entry).where(entry.c[self.column].is_not(None)))

    def _leased(self, entry: FromClause) -> Select[Any]:
        return select(entry.c.task_run_id).where(entry.c.lease_id.is_not(None))


Operators = Mapping[str, Callable[[ColumnElement[Any], Any], Clause]]
"""Functions that build a clause from the column and the name of the parameter, or from the column and True or False."""


@dataclass(frozen=True, slots=True)
class FieldGroup:
    """A field that contains other fields."""

    fields: "FilterFields"

    def clause(self, table: FromClause, conditions: Shape, lookup: Lookup) -> Clause:
        return and_(*clauses_of(conditions, self.fields, table, lookup))


@dataclass(frozen=True, slots=True)
class BooleanField:
    """A field that filters by True or False."""

    condition: Callable[[FromClause], Clause]

    def clause(self, table: FromClause, expected: bool, lookup: Lookup) -> Clause:
        return self.condition(table) if expected else not_(self.condition(table))


@dataclass(frozen=True, slots=True)
class RelatedField:
    """A related row, whose id is in `column`. Rows without one match no condition on it, not even an empty one."""

    target: FromClause
    column: str
    get_fields: Callable[[], "FilterFields"]
    may_be_deleted: bool = False
    """Whether `column` may contain the id of a deleted row."""

    @property
    def fields(self) -> "FilterFields":
        return self.get_fields()

    def clause(self, table: FromClause, conditions: Shape, lookup: Lookup) -> Clause:
        # Conditions on the id use the column, which may have an index and does not need the related table.
        id_conditions = tuple(part for part in conditions if part[0] == "id")
        other_conditions = tuple(part for part in conditions if part[0] != "id")
        column = table.c[self.column]
        clauses = [column.is_not(None), *clauses_of(id_conditions, {"id": _exact(self.column)}, table, lookup)]
        if other_conditions or self.may_be_deleted:
            related = self.target.alias()
            matching = select(related.c.id).where(*clauses_of(other_conditions, self.fields, related, lookup))
            if lookup == "at once":
                clauses.append(column.in_(matching))
            else:
                clauses.append(matching.where(related.c.id == column).correlate(table).exists())
        return and_(*clauses)


FilterField = ScalarField | CurrentStateField | LeaseField | FieldGroup | BooleanField | RelatedField
FilterFields = Mapping[str, FilterField]


def shape_of(filter: Filter, fields: FilterFields) -> tuple[Shape, Parameters]:
    """Return the shape of the filter and its values. The shape is empty for a filter without conditions."""
    parameters: Parameters = {}
    return _shape_of(filter, fields, parameters), parameters


def has_condition(filter: Filter, fields: FilterFields) -> bool:
    """Return whether the filter has a condition, even one that every row meets."""
    return bool(shape_of(filter, fields)[0])


def _shape_of(filter: Filter, fields: FilterFields, parameters: Parameters) -> Shape:
    parts: list[tuple[str, Any]] = []
    for name, value in filter.items():
        if value is None:
            continue
        if name == "and":
            for each in value:
                parts += _shape_of(each, fields, parameters)
        elif name == "or":
            parts += _alternatives_shape(value, fields, parameters)
        elif name == "not":
            parts.append((name, _shape_of(value, fields, parameters)))
        else:
            parts += _field_shape(name, value, fields[name], parameters)
    return tuple(parts)


def _alternatives_shape(filters: Sequence[Filter], fields: FilterFields, parameters: Parameters) -> Shape:
    count_before = len(parameters)
    shapes = tuple(_shape_of(each, fields, parameters) for each in filters)
    if shapes and all(shapes):
        return (("or", shapes),)
    # An alternative without conditions matches every row, and an empty list of alternatives is ignored.
    for name in list(parameters)[count_before:]:
        del parameters[name]
    return ()


def _field_shape(name: str, value: Any, field: FilterField, parameters: Parameters) -> Shape:
    match field:
        case BooleanField():
            return ((name, value),)
        case RelatedField():
            return ((name, _shape_of(value, field.fields, parameters)),)
        case FieldGroup():
            conditions = _shape_of(value, field.fields, parameters)
        case ScalarField() | CurrentStateField() | LeaseField():
            conditions = _operators_shape(value, parameters)
    return ((name, conditions),) if conditions else ()


def _operators_shape(conditions: Mapping[str, Any], parameters: Parameters) -> Shape:
    parts: list[tuple[str, Any]] = []
    for operator, value in conditions.items():
        # An empty list for `not_in` or `all` is ignored.
        if value is None or (operator in {"not_in", "all"} and not value):
            continue
        if isinstance(value, bool):
            parts.append((operator, value))
            continue
        # By far the most common filter has one value; an equality can use an index in the order of the page.
        is_one = operator in {"in", "any", "all"} and len(value) == 1
        parameter = f"f{len(parameters)}"
        parameters[parameter] = value[0] if is_one else value
        parts.append(("one" if is_one else operator, parameter))
        if operator == "starts_with" and (end := end_of_prefix(value)) is not None:
            parameter = f"f{len(parameters)}"
            parameters[parameter] = end
            parts.append(("below", parameter))
    return tuple(parts)


def clauses_of(shape: Shape, fields: FilterFields, table: FromClause, lookup: Lookup = "row by row") -> list[Clause]:
    """Build the conditions of the shape on `table`, which is the table of these fields or an alias of it."""
    return [_clause_of(name, conditions, fields, table, lookup) for name, conditions in shape]


def _clause_of(name: str, conditions: Any, fields: FilterFields, table: FromClause, lookup: Lookup) -> Clause:
    if name == "or":
        return or_(*(and_(*clauses_of(each, fields, table, lookup)) for each in conditions))
    if name == "not":
        # A comparison with null is neither true nor false, and `not` must match such rows.
        return and_(true(), *clauses_of(conditions, fields, table, lookup)).is_not(true())
    return fields[name].clause(table, conditions, lookup)


# --- operators ---

_NULL: Operators = {"is_null": lambda column, expected: column.is_(None) if expected else column.is_not(None)}
_EXACT: Operators = {
    "one": lambda column, parameter: column == bindparam(parameter, required=True),
    "in": is_among,
    "not_in": lambda column, parameter: not_(is_among(column, parameter)),
    **_NULL,
}
_TEXT: Operators = {
    **_EXACT,
    "contains": contains_text,
    # The texts with a prefix are a range in the order of code points, which an index on the column can search.
    "starts_with": lambda column, parameter: column >= bindparam(parameter, required=True),
    "below": lambda column, parameter: column < bindparam(parameter, required=True),
}
_TIMESTAMP: Operators = {
    "after": lambda column, parameter: column >= bindparam(parameter, required=True),
    "before": lambda column, parameter: column <= bindparam(parameter, required=True),
    **_NULL,
}
_NUMBER: Operators = {
    "at_least": lambda column, parameter: column >= bindparam(parameter, required=True),
    "at_most": lambda column, parameter: column <= bindparam(parameter, required=True),
}
_MEMBERS: Operators = {"contains": has_members}
_TAGS: Operators = {
    "one": has_tag,
    "all": has_all_tags,
    "any": has_tag_among,
    "is_empty": lambda column, expected: is_empty_list(column) if expected else not_(is_empty_list(column)),
}


def _exact(column: str) -> ScalarField:
    """Define a field that is compared by equality, such as an id or a state type."""
    return ScalarField(column, _EXACT)


def _text(column: str) -> ScalarField:
    return ScalarField(column, _TEXT)


def _timestamp(column: str) -> ScalarField:
    return ScalarField(column, _TIMESTAMP)


def _number(column: str) -> ScalarField:
    return ScalarField(column, _NUMBER)


_tags = ScalarField("tags", _TAGS)
_state = FieldGroup({"type": ScalarField("state_type", _EXACT, selectivity=0.25), "name": _text("state_name")})


# --- conditions on other tables ---


def _has_child_flow_run(task_run: FromClause) -> Clause:
    child = tables.flow_run.alias()
    return select(child.c.id).where(child.c.parent_task_run_id == task_run.c.id).correlate(task_run).exists()


def _has_deployment(flow: FromClause) -> Clause:
    deployment = tables.deployment.alias()
    return select(deployment.c.id).where(deployment.c.flow_id == flow.c.id).correlate(flow).exists()


def _parent_matches_correlated(column: Any, condition: Callable[[FromClause], Clause]) -> Clause:
    """Build the condition that the task run with the id in `column` meets `condition`."""
    parent = tables.task_run.alias()
    return select(parent.c.id).where(parent.c.id == column, condition(parent)).correlate(column.table).exists()


def _parent_matches_uncorrelated(column: ColumnElement[Any], condition: Callable[[FromClause], Clause]) -> Clause:
    """Build the same condition as a lookup that starts from the parents."""
    parent = tables.task_run.alias()
    return column.in_(select(parent.c.id).where(condition(parent)))


_FLOW_RUN_OF_PARENT: Operators = {
    "one": lambda column, parameter: _parent_matches_uncorrelated(
        column, lambda parent: parent.c.flow_run_id == bindparam(parameter, required=True)
    ),
    "in": lambda column, parameter: _parent_matches_uncorrelated(
        column, lambda parent: is_among(parent.c.flow_run_id, parameter)
    ),
    "not_in": lambda column, parameter: _parent_matches_correlated(
        column, lambda parent: not_(is_among(parent.c.flow_run_id, parameter))
    ),
    "is_null": lambda column, expected: (
        not_(_parent_matches_correlated(column, lambda parent: parent.c.flow_run_id.is_not(None)))
        if expected
        else _parent_matches_correlated(column, lambda parent: parent.c.flow_run_id.is_not(None))
    ),
}


# --- fields of each table ---

TASK_RUN_FIELDS: FilterFields = {
    "id": _exact("id"),
    "name": _text("name"),
    "task_key": _text("task_key"),
    "tags": _tags,
    "state": _state,
    "start_time": _timestamp("start_time"),
    "end_time": _timestamp("end_time"),
    "expected_start_time": _timestamp("expected_start_time"),
    "next_scheduled_start_time": _timestamp("next_scheduled_start_time"),
    "state_timestamp": _timestamp("state_timestamp"),
    "created_at": _timestamp("created"),
    "run_count": _number("run_count"),
    "total_run_time_seconds": _number("total_run_time_seconds"),
    "dynamic_key": _text("dynamic_key"),
    "worker_name": LeaseField("worker_name", _TEXT),
    "state_message": CurrentStateField("message", _TEXT),
    "metadata": ScalarField("metadata", _MEMBERS),
    "flow_run_id": _exact("flow_run_id"),
    "has_child_flow_run": BooleanField(_has_child_flow_run),
    "flow_run": RelatedField(tables.flow_run, "flow_run_id", lambda: FLOW_RUN_FIELDS),
}

FLOW_RUN_FIELDS: FilterFields = {
    "id": _exact("id"),
    "name": _text("name"),
    "tags": _tags,
    "deployment_id": _exact("deployment_id"),
    "work_queue_name": _text("work_queue_name"),
    "state": _state,
    "flow_version": _text("flow_version"),
    "start_time": _timestamp("start_time"),
    "expected_start_time": _timestamp("expected_start_time"),
    "next_scheduled_start_time": _timestamp("next_scheduled_start_time"),
    "parent_flow_run_id": ScalarField("parent_task_run_id", _FLOW_RUN_OF_PARENT),
    "parent_task_run_id": _exact("parent_task_run_id"),
    "idempotency_key": _text("idempotency_key"),
    "flow": RelatedField(tables.flow, "flow_id", lambda: FLOW_FIELDS),
    "deployment": RelatedField(tables.deployment, "deployment_id", lambda: DEPLOYMENT_FIELDS, may_be_deleted=True),
}

FLOW_FIELDS: FilterFields = {
    "id": _exact("id"),
    "name": _text("name"),
    "tags": _tags,
    "has_deployment": BooleanField(_has_deployment),
}

DEPLOYMENT_FIELDS: FilterFields = {
    "id": _exact("id"),
    "name": _text("name"),
    "tags": _tags,
    "work_queue_name": _text("work_queue_name"),
    "is_schedule_active": BooleanField(lambda deployment: deployment.c.is_schedule_active.is_(true())),
}

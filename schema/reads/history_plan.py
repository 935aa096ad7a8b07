"""Plans histories that the database returns as JSON, for selections that can be compiled."""

from collections.abc import Callable
from typing import TypeVar

from graphql import GraphQLObjectType
from graphql.execution.collect_fields import FieldDetailsList

from resolvers.history import IntervalField, JsonPattern, StateField
from schema.context import Info
from schema.execution.codegen import NotCompilable, SelectedField, selected_field
from schema.execution.selections import Selections
from schema.reads.row_plans import cached_plan, object_type

Value = TypeVar("Value", bound=str)
HistoryPlan = tuple[JsonPattern[IntervalField], JsonPattern[StateField]]
"""JSON patterns of an interval and of its counts for one state."""

_STATE_FIELDS: dict[str, tuple[StateField, str]] = {
    "state_type": ("type", '"%s"'),
    "state_name": ("name", "%s"),
    "count_runs": ("runs", "%s"),
    "sum_estimated_run_time_seconds": ("run_time", "%s"),
    "sum_estimated_lateness_seconds": ("lateness", "%s"),
}
_INTERVAL_FIELDS: dict[str, tuple[IntervalField, str]] = {
    "start": ("start", '"%s"'),
    "end": ("end", '"%s"'),
    "states": ("states", "[%s]"),
}


def plan_history(info: Info) -> HistoryPlan | None:
    """Return the patterns for the history that the field returns; None when records must be read."""
    return cached_plan(info, _build_history_plan)


def _build_history_plan(
    selections: Selections, type_: GraphQLObjectType, details: FieldDetailsList, _is_typed: bool
) -> HistoryPlan:
    state_patterns: list[JsonPattern[StateField]] = []

    def describe_interval_field(field: SelectedField, details: FieldDetailsList) -> tuple[IntervalField, str]:
        if field.attribute == "states":
            state = object_type(field.type)
            state_patterns.append(
                _build_pattern(selections, state, details, lambda field, _: _STATE_FIELDS[field.attribute])
            )
        return _INTERVAL_FIELDS[field.attribute]

    interval_pattern = _build_pattern(selections, type_, details, describe_interval_field)
    if len(state_patterns) != 1:
        # The statement produces one form of the states.
        raise NotCompilable
    return interval_pattern, state_patterns[0]


def _build_pattern(
    selections: Selections,
    type_: GraphQLObjectType,
    details: FieldDetailsList,
    describe_field: Callable[[SelectedField, FieldDetailsList], tuple[Value, str]],
) -> JsonPattern[Value]:
    """Return the JSON pattern of an object. `describe_field` returns the value of a field and its JSON format."""
    values: list[Value] = []
    items: list[str] = []
    for key, nodes in selections.compilable_fields(type_, details).items():
        if (field := selected_field(type_, nodes)) is None:
            text = f'"{type_.name}"'
        else:
            value, text = describe_field(field, nodes)
            values.append(value)
        items.append(f'"{key}":{text}')
    if len(set(values)) < len(values):
        raise NotCompilable
    return JsonPattern(f"{{{','.join(items)}}}", tuple(values))

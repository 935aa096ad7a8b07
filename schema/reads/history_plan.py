"""A history as its database writes it, in JSON, for selections that are plain data."""

from collections.abc import Callable
from typing import TypeVar

from graphql import GraphQLObjectType
from graphql.execution.collect_fields import FieldDetailsList

from resolvers.history import Figure, Part, Pattern
from schema.context import Info
from schema.execution.codegen import Field, NotPlain, field_of
from schema.execution.selections import Selections
from schema.reads.row_plans import object_type, plan_of

Value = TypeVar("Value", bound=str)
HistoryPlan = tuple[Pattern[Part], Pattern[Figure]]
"""How an interval is written, and how the runs in it that are in states of one kind."""

_FIGURES: dict[str, tuple[Figure, str]] = {
    "state_type": ("type", '"%s"'),
    "state_name": ("name", "%s"),
    "count_runs": ("runs", "%s"),
    "sum_estimated_run_time_seconds": ("run_time", "%s"),
    "sum_estimated_lateness_seconds": ("lateness", "%s"),
}
_PARTS: dict[str, tuple[Part, str]] = {"start": ("start", '"%s"'), "end": ("end", '"%s"'), "states": ("states", "[%s]")}


def history_plan(info: Info) -> HistoryPlan | None:
    """How the history is to be written that the field answers with; None where records are to be read."""
    return plan_of(info, _history_plan)


def _history_plan(
    selections: Selections, type_: GraphQLObjectType, details: FieldDetailsList, _is_typed: bool
) -> HistoryPlan:
    of_kind: list[Pattern[Figure]] = []

    def part(field: Field, details: FieldDetailsList) -> tuple[Part, str]:
        if field.attribute == "states":
            state = object_type(field.type)
            of_kind.append(_pattern(selections, state, details, lambda field, _: _FIGURES[field.attribute]))
        return _PARTS[field.attribute]

    of_interval = _pattern(selections, type_, details, part)
    if len(of_kind) != 1:
        # A statement writes the states in one way.
        raise NotPlain
    return of_interval, of_kind[0]


def _pattern(
    selections: Selections,
    type_: GraphQLObjectType,
    details: FieldDetailsList,
    value_of: Callable[[Field, FieldDetailsList], tuple[Value, str]],
) -> Pattern[Value]:
    """How an object is written, whose fields are values and stand in texts as `value_of` says."""
    values: list[Value] = []
    items: list[str] = []
    for key, nodes in selections.fields(type_, details).items():
        if (field := field_of(type_, nodes)) is None:
            text = f'"{type_.name}"'
        else:
            value, text = value_of(field, nodes)
            values.append(value)
        items.append(f'"{key}":{text}')
    if len(set(values)) < len(values):
        raise NotPlain
    return Pattern(f"{{{','.join(items)}}}", tuple(values))

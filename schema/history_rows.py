"""From the rows of a history straight to an answer, for selections that are plain data: hundreds of small objects, for which
making records first would take longer than all the rest."""

from collections.abc import Callable, Sequence
from typing import Any

from graphql import GraphQLObjectType
from graphql.execution.collect_fields import FieldDetailsList

from resolvers.history import HistoryRow, Interval
from schema.completion import Field, NotPlain, Prepared, Writer
from schema.context import Info
from schema.plain import Selections
from schema.rows import attempt, object_type, plan_of

_STATE = ("state_type", "state_name", "count_runs", "sum_estimated_run_time_seconds", "sum_estimated_lateness_seconds")
"""The attributes of a RunHistoryState in the order in which a row has them."""


def complete_history(
    info: Info, intervals: Sequence[Interval], rows: Sequence[Sequence[HistoryRow]]
) -> Prepared | None:
    """The intervals as they are answered; None where only the ordinary path can word the answer."""
    complete = plan_of(info, _write)
    try:
        return complete and attempt(lambda: complete(intervals, rows))
    except NotPlain:
        return None


def _write(
    selections: Selections, type_: GraphQLObjectType, details: FieldDetailsList, _is_typed: bool
) -> Callable[..., Any]:
    writer = Writer(selections.fields)

    def write_interval_field(field: Field, details: FieldDetailsList) -> str:
        if field.attribute == "states":
            return f"[{write_state(object_type(field.type), details)} for {', '.join(_STATE)} in states]"
        return writer.value(field.type, details, field.attribute)

    def write_state(type_: GraphQLObjectType, details: FieldDetailsList) -> str:
        def write_state_field(field: Field, details: FieldDetailsList) -> str:
            return writer.value(field.type, details, field.attribute)

        return writer.display(type_, writer.collect(type_, details), write_state_field)

    interval = writer.display(type_, writer.collect(type_, details), write_interval_field)
    each = "for (start, end), states in zip(intervals, rows)"
    name = writer.function("intervals, rows", f"return [{interval} {each}]")
    return writer.compiled()[name]

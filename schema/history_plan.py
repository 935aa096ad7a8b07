"""From the rows of a history straight to an answer, for selections that are plain data: hundreds of small objects, for which
making records first would take longer than all the rest."""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

from graphql import GraphQLObjectType
from graphql.execution.collect_fields import FieldDetailsList

from resolvers.history import Interval, StateHistory
from schema.completion import Field, NotPlain, Prepared, Writer
from schema.context import Info
from schema.plain import Selections
from schema.rows import attempt, object_type, plan_of
from schema.weighing import weighed

_OF_KIND = ("state_type", "state_name")
_OF_PLACE = ("count_runs", "sum_estimated_run_time_seconds", "sum_estimated_lateness_seconds")
"""The attributes of a RunHistoryState in the order in which a StateHistory has them, before and after the places."""

_MOST = 0x7FFF_FFFF
"""GraphQL's largest Int."""


def complete_history(info: Info, intervals: Sequence[Interval], kinds: Sequence[StateHistory]) -> Prepared | None:
    """The intervals as they are answered; None where only the ordinary path can word the answer."""
    complete = plan_of(info, _write)
    try:
        return attempt(lambda: complete(intervals, kinds)) if complete and all(map(_is_plain, kinds)) else None
    except NotPlain:
        return None


def _is_plain(kind: StateHistory) -> bool:
    """Whether all that is in it can be answered as it is: looked at here, and not for each interval."""
    _type, _name, _places, runs, run_times, latenesses = kind
    return max(runs) <= _MOST and isfinite(sum(run_times) + sum(latenesses))


def _write(
    selections: Selections, type_: GraphQLObjectType, details: FieldDetailsList, _is_typed: bool
) -> Callable[..., Any]:
    writer = Writer(selections.fields)
    steps: list[str] = []
    lists: list[str] = []

    def write_interval_field(field: Field, details: FieldDetailsList) -> str:
        if field.attribute != "states":
            return writer.value(field.type, details, field.attribute)
        # A list for each interval, to which each kind of state adds.
        name = f"states_{len(lists)}"
        lists.append(name)
        once: list[str] = []

        def write_state_field(field: Field, details: FieldDetailsList) -> str:
            if field.attribute in _OF_PLACE:
                return field.attribute
            if field.attribute == "state_name":
                # It was read once, and is answered for each interval.
                value = f"{writer.name(weighed)}(state_name, len(places))"
            else:
                value = writer.value(field.type, details, field.attribute)
            name = f"of_kind_{len(once)}"
            once.append(f"    {name} = {value}")
            return name

        state = object_type(field.type)
        display = writer.display(state, writer.collect(state, details), write_state_field)
        steps.extend(
            [
                f"{name} = [[] for _ in intervals]",
                f"for {', '.join(_OF_KIND)}, places, *figures in kinds:",
                *once,
                f"    for place, {', '.join(_OF_PLACE)} in zip(places, *figures, strict=True):",
                f"        {name}[place].append({display})",
            ]
        )
        return name

    interval = writer.display(type_, writer.collect(type_, details), write_interval_field)
    # Even where there are no lists, the comma makes it one of a tuple.
    each = f"for {', '.join(['(start, end)', *lists])}, in zip({', '.join(['intervals', *lists])})"
    name = writer.function("intervals, kinds", *steps, f"return [{interval} {each}]")
    return writer.compiled()[name]

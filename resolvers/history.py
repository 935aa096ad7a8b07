"""History: how many runs were meant to start in each interval of a span of time, and what has become of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from db.connection import Connection
from db.filters import Filter
from db.history import Interval, Span, StateHistory, count_task_runs_by_interval
from db.instants import instants_from, microseconds_at
from db.vocabulary import StateType
from resolvers.errors import BadInput

MOST_INTERVALS = 500
SHORTEST_SECONDS = 1.0

_LONGEST_SECONDS = 1e12
"""Longer than the calendar: whatever is longer still is the same."""


@dataclass(slots=True)
class RunHistoryState:
    """Runs that are in one state."""

    state_type: StateType
    state_name: str
    count_runs: int
    sum_estimated_run_time_seconds: float
    sum_estimated_lateness_seconds: float


@dataclass(slots=True)
class RunHistoryInterval:
    """An interval, and what has become of the runs that were meant to start in it."""

    start: str
    end: str
    states: list[RunHistoryState] = field(default_factory=list[RunHistoryState])


def split_span(start: str, end: str, interval_seconds: float) -> Span:
    """The intervals of this length that begin from `start` on and before `end`; the last one may end later.

    BadInput where they are too short or too many. A length is counted in whole microseconds.
    """
    if interval_seconds < SHORTEST_SECONDS:
        raise BadInput("intervalSeconds", f"has to be at least {SHORTEST_SECONDS:g} second, not {interval_seconds:g}.")
    first, beyond = microseconds_at(start), microseconds_at(end)
    length = round(min(interval_seconds, _LONGEST_SECONDS) * 1_000_000)
    count = -((first - beyond) // length)
    if count > MOST_INTERVALS:
        least = -((first - beyond) // MOST_INTERVALS) / 1_000_000
        raise BadInput(
            "intervalSeconds",
            f"has to be at least {least:.6f}: at most {MOST_INTERVALS} intervals are answered, not {count:,}.",
        )
    return Span(list(pairwise(instants_from(start, length, count + 1))) if count > 0 else [], first, length)


def read_history(connection: Connection, filter: Filter, span: Span) -> list[StateHistory]:
    """What has become of the task runs that the filter lets through, in the order of `states`: one statement for all."""
    return count_task_runs_by_interval(connection, filter, span) if span.intervals else []


def recorded(intervals: Sequence[Interval], kinds: Sequence[StateHistory]) -> list[RunHistoryInterval]:
    """The intervals, and what `read_history` has read of them, as records."""
    history = [RunHistoryInterval(*interval) for interval in intervals]
    for type, name, places, counts, run_times, latenesses in kinds:
        for place, count, run_time, lateness in zip(places, counts, run_times, latenesses, strict=True):
            history[place].states.append(RunHistoryState(type, name, count, run_time, lateness))
    return history

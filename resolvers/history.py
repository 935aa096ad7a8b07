"""History: how many runs were meant to start in each interval of a span of time, and what has become of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from db.connection import Connection
from db.enums import StateType
from db.query.filters import Filter
from db.runtime.timestamps import instants_from, microseconds_at
from db.statements.history import Figure, Part, Pattern, Span, write_history
from resolvers.errors import BadInput

MOST_INTERVALS = 500
SHORTEST_SECONDS = 1.0

_LONGEST_SECONDS = 1e12
"""Longer than the calendar: whatever is longer still is the same."""

_INTERVAL: Pattern[Part] = Pattern('["%s","%s",[%s]]', ("start", "end", "states"))
_STATE: Pattern[Figure] = Pattern('["%s",%s,%s,%s,%s]', ("type", "name", "runs", "run_time", "lateness"))


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
    states: Sequence[RunHistoryState]


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
    return Span(instants_from(start, length, count + 1) if count > 0 else [], first, length)


def read_history(connection: Connection, filter: Filter, span: Span) -> list[RunHistoryInterval]:
    """What has become of the task runs that the filter lets through, by intervals: one statement for all."""
    return [
        RunHistoryInterval(start, end, [RunHistoryState(*figures) for figures in states])
        for start, end, states in orjson.loads(written_history(connection, filter, span, _INTERVAL, _STATE))
    ]


def written_history(
    connection: Connection, filter: Filter, span: Span, of_interval: Pattern[Part], of_kind: Pattern[Figure]
) -> str:
    """What `read_history` reads as a list in JSON, of intervals and states that are written by these patterns."""
    return f"[{write_history(connection, filter, span, of_interval, of_kind) if span.instants else ''}]"

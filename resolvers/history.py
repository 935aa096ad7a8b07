"""History: counts of task runs by state, in equal intervals of their expected start times."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from db.connection import Connection
from db.enums import StateType
from db.query.filters import Filter
from db.runtime.timestamps import epoch_microseconds, timestamps_from
from db.statements.history import IntervalField, JsonPattern, Span, StateField, render_history_json
from resolvers.errors import BadInput

MAX_INTERVALS = 500
MIN_INTERVAL_SECONDS = 1.0

_MAX_INTERVAL_SECONDS = 1e12
"""Longer than the calendar. Larger values have the same effect, so they are reduced to it."""

_INTERVAL_PATTERN: JsonPattern[IntervalField] = JsonPattern('["%s","%s",[%s]]', ("start", "end", "states"))
_STATE_PATTERN: JsonPattern[StateField] = JsonPattern(
    '["%s",%s,%s,%s,%s]', ("type", "name", "runs", "run_time", "lateness")
)


@dataclass(slots=True)
class RunHistoryState:
    """Statistics of the runs of an interval that are in one state."""

    state_type: StateType
    state_name: str
    count_runs: int
    sum_estimated_run_time_seconds: float
    sum_estimated_lateness_seconds: float


@dataclass(slots=True)
class RunHistoryInterval:
    """An interval, and the states of the runs whose expected start time it contains."""

    start: str
    end: str
    states: Sequence[RunHistoryState]


def split_span(start: str, end: str, interval_seconds: float) -> Span:
    """Split the time from `start` to `end` into intervals of equal length. The last interval may end after `end`.

    The length is rounded to whole microseconds. Raises BadInput when it is below `MIN_INTERVAL_SECONDS`, or when it
    results in more than `MAX_INTERVALS` intervals.
    """
    if interval_seconds < MIN_INTERVAL_SECONDS:
        raise BadInput(
            "intervalSeconds", f"must be at least {MIN_INTERVAL_SECONDS:g} second; got {interval_seconds:g}."
        )
    start_microseconds, end_microseconds = epoch_microseconds(start), epoch_microseconds(end)
    length = round(min(interval_seconds, _MAX_INTERVAL_SECONDS) * 1_000_000)
    count = -((start_microseconds - end_microseconds) // length)
    if count > MAX_INTERVALS:
        min_seconds = -((start_microseconds - end_microseconds) // MAX_INTERVALS) / 1_000_000
        raise BadInput(
            "intervalSeconds",
            f"must be at least {min_seconds:.6f} seconds for this span: {count:,} intervals exceed "
            f"the limit of {MAX_INTERVALS}.",
        )
    return Span(timestamps_from(start, length, count + 1) if count > 0 else [], start_microseconds, length)


def read_history(connection: Connection, filter: Filter, span: Span) -> list[RunHistoryInterval]:
    """Return the history of the task runs that match the filter. Costs one statement."""
    return [
        RunHistoryInterval(start, end, [RunHistoryState(*values) for values in states])
        for start, end, states in orjson.loads(
            history_json(connection, filter, span, _INTERVAL_PATTERN, _STATE_PATTERN)
        )
    ]


def history_json(
    connection: Connection,
    filter: Filter,
    span: Span,
    interval_pattern: JsonPattern[IntervalField],
    state_pattern: JsonPattern[StateField],
) -> str:
    """Return the history as a JSON list. Intervals and states are formatted with the two patterns."""
    return (
        f"[{render_history_json(connection, filter, span, interval_pattern, state_pattern) if span.boundaries else ''}]"
    )

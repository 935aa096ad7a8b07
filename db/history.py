"""The statement about history: how many runs were meant to start in each interval of time, by the states they are in."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import ColumnElement, FromClause, Integer, Select, Subquery, bindparam, cast, func, select
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from db.connection import Connection, Row
from db.estimates import estimated_lateness_seconds, estimated_run_time_seconds, not_negative
from db.filters import TASK_RUN_FIELDS, Filter, Shape, clauses_of, shape_of
from db.instants import microseconds_at
from db.pages import MOST_STATEMENTS
from db.statements import Statement
from db.tables import Instant, task_run
from db.wording import rows_of

_intervals = rows_of("intervals", number=Integer(), starts_at=Instant, ends_at=Instant)
_expected = task_run.c.expected_start_time


def count_task_runs_by_interval(
    connection: Connection, filter: Filter, intervals: Sequence[tuple[str, str]]
) -> list[tuple[int, list[Row]]]:
    """For each interval the place of it, and a row for each state that runs are in which were meant to start in it: the
    state's type and name; how many runs; their run times and how late they are, summed in seconds.

    An interval holds its start, not its end. They follow each other without a gap, all of one length. Runs without a state
    are left out, and intervals without runs may be.
    """
    shape, parameters = shape_of(filter, TASK_RUN_FIELDS)
    (start, second), end = intervals[0], intervals[-1][1]
    given = {
        "intervals": [[place, *interval] for place, interval in enumerate(intervals)],
        "start": start,
        "end": end,
        "start_microseconds": microseconds_at(start),
        "length_microseconds": microseconds_at(second) - microseconds_at(start),
        "now": connection.now,
    }
    found = connection.fetch(_statement(shape), {**parameters, **given})
    return [(place, sorted(orjson.loads(states))) for place, states in found]


@lru_cache(MOST_STATEMENTS)
def _statement(shape: Shape) -> Statement:
    in_sqlite = _few_in_sqlite(shape) if _asks_for_few(shape) else _many_in_sqlite(shape)
    return Statement(in_sqlite, postgresql=_in_postgresql(shape))


def _asks_for_few(shape: Shape) -> bool:
    """Whether the filter names ids, be it those of flow runs."""
    for name, asked in shape:
        if name in {"id", "flow_run_id"} and any(operator in {"one", "any"} for operator, _ in asked):
            return True
        if name == "flow_run" and _asks_for_few(tuple(part for part in asked if part[0] == "id")):
            return True
    return False


def _few_in_sqlite(shape: Shape) -> Select[Any]:
    """The runs that the filter names are looked up by their ids, and each is told its interval."""
    seconds = cast(func.strftime("%s", func.substr(_expected, 1, 19)), Integer)
    microseconds = seconds * 1_000_000 + cast(func.substr(_expected, 21, 6), Integer)
    # With a sign the time is no column to SQLite, which would rather go through the span, having statistics.
    expected = UnaryExpression(_expected, operator=custom_op[Any]("+"), type_=Instant)
    runs = _by_place(shape, (microseconds - _number("start_microseconds")) // _number("length_microseconds"), expected)
    return _of_places(runs, func.json_group_array(func.json_array(*_figures(runs))))


def _many_in_sqlite(shape: Shape) -> Select[Any]:
    """The runs are looked up once for each interval, and grouped there: sorting many small heaps takes less than a large
    one, and which interval a run is in has not to be worked out."""
    runs = (
        _sums(shape)
        .where(_expected >= _intervals.c.starts_at, _expected < _intervals.c.ends_at)
        # Without statistics SQLite would rather take the index of any equation in the filter, once for each interval.
        .with_hint(task_run, "INDEXED BY ix_task_run_expected_start_time", "sqlite")
        .correlate(_intervals)
        .subquery()
    )
    states = select(func.json_group_array(func.json_array(*_figures(runs)))).select_from(runs)
    columns: list[ColumnElement[Any]] = [_intervals.c.number, states.correlate(_intervals).scalar_subquery()]
    return select(*columns)


def _in_postgresql(shape: Shape) -> Select[Any]:
    """The runs are read once, and each is told its interval."""
    starts = select(_intervals.c.starts_at).order_by(_intervals.c.number).scalar_subquery()
    runs = _by_place(shape, func.width_bucket(_expected, func.array(starts)) - 1)
    return _of_places(runs, func.json_agg(func.json_build_array(*_figures(runs))))


def _by_place(shape: Shape, place: ColumnElement[Any], expected: ColumnElement[Any] = _expected) -> Subquery:
    place = place.label("place")
    in_span = expected >= _instant("start"), expected < _instant("end")
    return _sums(shape, place).where(*in_span).group_by(place).subquery()


def _of_places(runs: Subquery, states: ColumnElement[Any]) -> Select[Any]:
    columns: list[ColumnElement[Any]] = [runs.c.place, states]
    return select(*columns).group_by(runs.c.place)


def _sums(shape: Shape, *first: ColumnElement[Any]) -> Select[Any]:
    """The figures of the runs that the filter lets through, for each type and name of state."""
    of_state = task_run.c.state_type, task_run.c.state_name
    figures: list[ColumnElement[Any]] = [
        task_run.c.state_type.label("type"),
        task_run.c.state_name.label("name"),
        func.count().label("runs"),
        func.sum(not_negative(estimated_run_time_seconds(task_run))).label("run_time"),
        func.sum(estimated_lateness_seconds(task_run)).label("lateness"),
    ]
    conditions = [task_run.c.state_type.is_not(None), *clauses_of(shape, TASK_RUN_FIELDS, task_run, "at once")]
    return select(*first, *figures).where(*conditions).group_by(*of_state)


def _figures(runs: FromClause) -> list[ColumnElement[Any]]:
    return [runs.c[name] for name in ("type", "name", "runs", "run_time", "lateness")]


def _instant(parameter: str) -> ColumnElement[Any]:
    return bindparam(parameter, type_=Instant, required=True)


def _number(parameter: str) -> ColumnElement[int]:
    return bindparam(parameter, type_=Integer(), required=True)

"""The statement about history: how many runs were meant to start in each interval of time, by the states they are in."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Integer, Select, Subquery, bindparam, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from db.connection import Connection, Row
from db.estimates import estimated_lateness_seconds, estimated_run_time_seconds, not_negative
from db.filters import TASK_RUN_FIELDS, Filter, Shape, clauses_of, shape_of
from db.pages import MOST_STATEMENTS
from db.statements import Statement, rows_of
from db.tables import Instant, task_run

_intervals = rows_of("intervals", number=Integer(), starts_at=Instant, ends_at=Instant)
_expected = task_run.c.expected_start_time


def count_task_runs_by_interval(
    connection: Connection, filter: Filter, intervals: Sequence[tuple[str, str]]
) -> list[tuple[int, list[Row]]]:
    """For each interval the place of it, and a row for each state that runs are in which were meant to start in it: the
    state's type and name; how many runs; their run times and how late they are, summed in seconds.

    An interval holds its start, not its end. They follow each other without a gap. Runs without a state are left out, and
    intervals without runs may be.
    """
    shape, parameters = shape_of(filter, TASK_RUN_FIELDS)
    given = {
        "intervals": [[place, *interval] for place, interval in enumerate(intervals)],
        "start": intervals[0][0],
        "end": intervals[-1][1],
        "now": connection.now,
    }
    found = connection.fetch(_statement(shape), {**parameters, **given})
    return [(place, orjson.loads(states)) for place, states in found]


@lru_cache(MOST_STATEMENTS)
def _statement(shape: Shape) -> Statement:
    return Statement(_in_sqlite(shape), postgresql=_in_postgresql(shape))


def _in_sqlite(shape: Shape) -> Select[Any]:
    """The runs are looked up once for each interval, and grouped there: sorting many small heaps takes less than a large
    one, and which interval a run is in has not to be worked out."""
    runs = (
        _sums(shape)
        .where(_expected >= _intervals.c.starts_at, _expected < _intervals.c.ends_at)
        # Without statistics SQLite would rather take the index of any equation in the filter, once for each interval.
        .with_hint(task_run, "INDEXED BY ix_task_run_expected_start_time", "sqlite")
        .group_by(task_run.c.state_type, task_run.c.state_name)
        .order_by(task_run.c.state_type, task_run.c.state_name)
        .correlate(_intervals)
        .subquery()
    )
    states = select(func.json_group_array(func.json_array(*_columns(runs)))).select_from(runs)
    columns: list[ColumnElement[Any]] = [_intervals.c.number, states.correlate(_intervals).scalar_subquery()]
    return select(*columns)


def _in_postgresql(shape: Shape) -> Select[Any]:
    """The runs are read once, and each is told its interval."""
    starts = select(_intervals.c.starts_at).order_by(_intervals.c.number).scalar_subquery()
    place = (func.width_bucket(_expected, func.array(starts)) - 1).label("place")
    runs = (
        _sums(shape, place)
        .where(_expected >= _instant("start"), _expected < _instant("end"))
        .group_by(place, task_run.c.state_type, task_run.c.state_name)
        .subquery()
    )
    state = aggregate_order_by(func.json_build_array(*_columns(runs)), runs.c.type, runs.c.name)
    columns: list[ColumnElement[Any]] = [runs.c.place, func.json_agg(state)]
    return select(*columns).group_by(runs.c.place)


def _sums(shape: Shape, *first: ColumnElement[Any]) -> Select[Any]:
    conditions = [task_run.c.state_type.is_not(None), *clauses_of(shape, TASK_RUN_FIELDS, task_run)]
    return select(
        *first,
        task_run.c.state_type.label("type"),
        task_run.c.state_name.label("name"),
        func.count().label("runs"),
        func.sum(not_negative(estimated_run_time_seconds(task_run))).label("run_time"),
        func.sum(estimated_lateness_seconds(task_run)).label("lateness"),
    ).where(*conditions)


def _columns(runs: Subquery) -> list[ColumnElement[Any]]:
    return [runs.c[name] for name in ("type", "name", "runs", "run_time", "lateness")]


def _instant(parameter: str) -> ColumnElement[Any]:
    return bindparam(parameter, type_=Instant, required=True)

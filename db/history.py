"""The statement about history: how many runs were meant to start in each interval of time, by the states they are in."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Integer, Select, bindparam, func, select, text, true

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
) -> list[Row]:
    """For each interval and each state that runs are in which were meant to start in it: the number of the interval,
    counted from 1; the state's type and name; how many runs; their run times and how late they are, summed in seconds.

    An interval holds its start, not its end. They follow each other without a gap. Runs without a state are left out.
    """
    shape, parameters = shape_of(filter, TASK_RUN_FIELDS)
    given = {
        "intervals": [[number, *interval] for number, interval in enumerate(intervals, 1)],
        "start": intervals[0][0],
        "end": intervals[-1][1],
        "now": connection.now,
    }
    return connection.fetch(_statement(shape), {**parameters, **given})


@lru_cache(MOST_STATEMENTS)
def _statement(shape: Shape) -> Statement:
    return Statement(_in_sqlite(shape), postgresql=_in_postgresql(shape))


def _in_sqlite(shape: Shape) -> Select[Any]:
    """The runs are looked up once for each interval: which one a run is in has not to be worked out then."""
    runs = _runs_by_state(shape, _intervals.c.number, _intervals.join(task_run, true()))
    # Without statistics SQLite would rather take the index of any equation in the filter, once for each interval.
    return runs.where(_expected >= _intervals.c.starts_at, _expected < _intervals.c.ends_at).with_hint(
        task_run, "INDEXED BY ix_task_run_expected_start_time", "sqlite"
    )


def _in_postgresql(shape: Shape) -> Select[Any]:
    """The runs are read once, and each is told its interval."""
    starts = select(_intervals.c.starts_at).order_by(_intervals.c.number).scalar_subquery()
    runs = _runs_by_state(shape, func.width_bucket(_expected, func.array(starts)), task_run)
    return runs.where(_expected >= _instant("start"), _expected < _instant("end"))


def _runs_by_state(shape: Shape, number: ColumnElement[Any], source: FromClause) -> Select[Any]:
    columns: list[ColumnElement[Any]] = [
        number,
        task_run.c.state_type,
        task_run.c.state_name,
        func.count(),
        func.sum(not_negative(estimated_run_time_seconds(task_run))),
        func.sum(estimated_lateness_seconds(task_run)),
    ]
    conditions = [task_run.c.state_type.is_not(None), *clauses_of(shape, TASK_RUN_FIELDS, task_run)]
    return select(*columns).select_from(source).where(*conditions).group_by(text("1, 2, 3")).order_by(text("1, 2, 3"))


def _instant(parameter: str) -> ColumnElement[Any]:
    return bindparam(parameter, type_=Instant, required=True)

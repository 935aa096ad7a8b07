"""How long runs have run and how late they are, in SQL: as `RunRecord` estimates it, for sums over many runs."""

from typing import Any

from sqlalchemy import ColumnElement, FromClause, and_, bindparam, case, cast, func, literal
from sqlalchemy import Float as FloatType

from db.vocabulary import TERMINAL, StateType


def estimated_run_time_seconds(run: FromClause, now: str = "now") -> ColumnElement[float]:
    """The time spent RUNNING, up to the parameter `now`."""
    since = seconds_between(run.c.state_timestamp, bindparam(now, required=True))
    running = case((run.c.state_type == StateType.RUNNING.value, since), else_=literal(0.0))
    return run.c.total_run_time_seconds + running


def estimated_lateness_seconds(run: FromClause, now: str = "now") -> ColumnElement[float]:
    """How late the run started, or how late it is at the parameter `now` while it has not started; never negative."""
    moment: ColumnElement[Any] = bindparam(now, required=True)
    # A comparison with the null of a run without a state is not true: such runs are left out.
    waits = and_(*(run.c.state_type != each.value for each in sorted(TERMINAL)))
    return case(
        (run.c.start_time > run.c.expected_start_time, seconds_between(run.c.expected_start_time, run.c.start_time)),
        (
            and_(run.c.start_time.is_(None), run.c.expected_start_time < moment, waits),
            seconds_between(run.c.expected_start_time, moment),
        ),
        else_=literal(0.0),
    )


def seconds_between(earlier: ColumnElement[Any], later: ColumnElement[Any]) -> ColumnElement[float]:
    """Seconds with all six digits of their fraction: SQLite's own functions for dates lose some."""
    return (_whole(later) - _whole(earlier)) + (_fraction(later) - _fraction(earlier))


def _whole(instant: ColumnElement[Any]) -> ColumnElement[Any]:
    # Without the fraction, which strftime would round.
    return cast(func.strftime("%s", func.substr(instant, 1, 19)), FloatType)


def _fraction(instant: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(func.substr(instant, 20, 7), FloatType)

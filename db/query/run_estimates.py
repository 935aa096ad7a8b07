"""Run time and lateness in SQL, estimated as `RunRecord` does it, for sums over many runs."""

from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Float, FromClause, and_, bindparam, case, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.sql.functions import FunctionElement

from db.enums import TERMINAL, StateType
from db.tables import Timestamp


def estimated_run_time_seconds(run: FromClause, now: str = "now") -> ColumnElement[float]:
    """Build the time spent RUNNING up to the parameter `now`, in seconds.

    Never negative, also after the clock was set back.
    """
    running_seconds = seconds_between(run.c.state_timestamp, bindparam(now, type_=Timestamp, required=True))
    total = run.c.total_run_time_seconds
    # Most runs are not RUNNING, and their stored total is returned without date arithmetic.
    return case(
        (run.c.state_type == StateType.RUNNING.value, _NotNegative(total + _NotNegative(running_seconds))),
        (total > literal(0.0), total),
        else_=literal(0.0),
    )


def estimated_lateness_seconds(run: FromClause, now: str = "now") -> ColumnElement[float]:
    """Build the delay between the expected and the actual start, in seconds. Never negative.

    For runs that have not started, it is the delay up to the parameter `now`.
    """
    now_value: ColumnElement[Any] = bindparam(now, type_=Timestamp, required=True)
    # A comparison with null is not true, which excludes runs without a state.
    has_not_ended = and_(*(run.c.state_type != each.value for each in sorted(TERMINAL)))
    return case(
        (run.c.start_delay_seconds.is_not(None), run.c.start_delay_seconds),
        (
            and_(run.c.expected_start_time < now_value, has_not_ended),
            seconds_between(run.c.expected_start_time, now_value),
        ),
        else_=literal(0.0),
    )


def seconds_between(earlier: ColumnElement[Any], later: ColumnElement[Any]) -> ColumnElement[float]:
    """Build the difference of two timestamps in seconds, exact to the microsecond."""
    return _SecondsBetween(earlier, later)


class _SecondsBetween(FunctionElement[float]):
    name = "seconds_between"
    type = Float()
    inherit_cache = False


@compiles(_SecondsBetween, "sqlite")
def _seconds_between_in_sqlite(element: _SecondsBetween, compiler: SQLCompiler, **options: Any) -> str:
    (earlier, earlier_fraction), (later, later_fraction) = (
        _parse_in_sqlite(each, compiler.process(each, **options)) for each in element.clauses
    )
    # SQLite's date functions are accurate to a few milliseconds, enough for whole seconds, and the fraction is exact.
    # Removing the fraction first, for functions that return whole seconds, would take longer.
    fraction = f"({later_fraction} - {earlier_fraction})"
    return f"(round(({later} - {earlier}) * 86400.0 - {fraction}) + {fraction})"


def _parse_in_sqlite(timestamp: ClauseElement, text: str) -> tuple[str, str]:
    """Return the SQL for the days of a timestamp, and for the fraction of its second."""
    parts = f"julianday({text})", f"CAST(substr({text}, 20, 7) AS REAL)"
    # A parameter in a subquery is evaluated once, not for each row.
    return (f"(SELECT {parts[0]})", f"(SELECT {parts[1]})") if isinstance(timestamp, BindParameter) else parts


@compiles(_SecondsBetween, "postgresql")
def _seconds_between_in_postgresql(element: _SecondsBetween, compiler: SQLCompiler, **options: Any) -> str:
    earlier, later = (compiler.process(each, **options) for each in element.clauses)
    # EXTRACT would first produce a decimal number, which takes much longer.
    return f"date_part('epoch', {later} - {earlier})"


class _NotNegative(FunctionElement[float]):
    name = "not_negative"
    type = Float()
    inherit_cache = False


@compiles(_NotNegative, "sqlite")
def _not_negative_in_sqlite(element: _NotNegative, compiler: SQLCompiler, **options: Any) -> str:
    return f"max(0.0, {compiler.process(element.clauses, **options)})"


@compiles(_NotNegative, "postgresql")
def _not_negative_in_postgresql(element: _NotNegative, compiler: SQLCompiler, **options: Any) -> str:
    return f"greatest(0.0, {compiler.process(element.clauses, **options)})"

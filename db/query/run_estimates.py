"""How long runs have run and how late they are, in SQL: as `RunRecord` estimates it, for sums over many runs."""

from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Float, FromClause, and_, bindparam, case, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.sql.functions import FunctionElement

from db.enums import TERMINAL, StateType
from db.tables import Instant


def estimated_run_time_seconds(run: FromClause, now: str = "now") -> ColumnElement[float]:
    """The time spent RUNNING, up to the parameter `now`; 0 where clocks that ran backwards have made it less."""
    since = seconds_between(run.c.state_timestamp, bindparam(now, type_=Instant, required=True))
    total = run.c.total_run_time_seconds
    # Most runs are not RUNNING, and have nothing to be added.
    return case(
        (run.c.state_type == StateType.RUNNING.value, _NotNegative(total + since)),
        (total > literal(0.0), total),
        else_=literal(0.0),
    )


def estimated_lateness_seconds(run: FromClause, now: str = "now") -> ColumnElement[float]:
    """How late the run started, or how late it is at the parameter `now` while it has not started; never negative."""
    moment: ColumnElement[Any] = bindparam(now, type_=Instant, required=True)
    # A comparison with the null of a run without a state is not true: such runs are left out.
    waits = and_(*(run.c.state_type != each.value for each in sorted(TERMINAL)))
    return case(
        (run.c.start_delay_seconds.is_not(None), run.c.start_delay_seconds),
        (and_(run.c.expected_start_time < moment, waits), seconds_between(run.c.expected_start_time, moment)),
        else_=literal(0.0),
    )


def seconds_between(earlier: ColumnElement[Any], later: ColumnElement[Any]) -> ColumnElement[float]:
    """Seconds with all six digits of their fraction."""
    return _SecondsBetween(earlier, later)


class _SecondsBetween(FunctionElement[float]):
    name = "seconds_between"
    type = Float()
    inherit_cache = False


@compiles(_SecondsBetween, "sqlite")
def _in_sqlite(element: _SecondsBetween, compiler: SQLCompiler, **keywords: Any) -> str:
    (earlier, earlier_fraction), (later, later_fraction) = (
        _read_in_sqlite(each, compiler.process(each, **keywords)) for each in element.clauses
    )
    # SQLite's own functions for dates are good to some milliseconds: enough for the whole seconds. The fraction is exact.
    # Cutting it off first, for functions that tell whole seconds, would take longer.
    fraction = f"({later_fraction} - {earlier_fraction})"
    return f"(round(({later} - {earlier}) * 86400.0 - {fraction}) + {fraction})"


def _read_in_sqlite(instant: ClauseElement, text: str) -> tuple[str, str]:
    """The days of an instant, and the fraction of its second."""
    read = f"julianday({text})", f"CAST(substr({text}, 20, 7) AS REAL)"
    # In a selection of its own a parameter is read once, and not for each row.
    return (f"(SELECT {read[0]})", f"(SELECT {read[1]})") if isinstance(instant, BindParameter) else read


@compiles(_SecondsBetween, "postgresql")
def _in_postgresql(element: _SecondsBetween, compiler: SQLCompiler, **keywords: Any) -> str:
    earlier, later = (compiler.process(each, **keywords) for each in element.clauses)
    # EXTRACT would make a decimal number of it first, which takes much longer.
    return f"date_part('epoch', {later} - {earlier})"


class _NotNegative(FunctionElement[float]):
    name = "not_negative"
    type = Float()
    inherit_cache = False


@compiles(_NotNegative, "sqlite")
def _not_negative_in_sqlite(element: _NotNegative, compiler: SQLCompiler, **keywords: Any) -> str:
    return f"max(0.0, {compiler.process(element.clauses, **keywords)})"


@compiles(_NotNegative, "postgresql")
def _not_negative_in_postgresql(element: _NotNegative, compiler: SQLCompiler, **keywords: Any) -> str:
    return f"greatest(0.0, {compiler.process(element.clauses, **keywords)})"

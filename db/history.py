"""The statement about history: how many runs were meant to start in each interval of time, by the states they are in."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import (
    CTE,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    String,
    Subquery,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    not_,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from db.connection import Connection
from db.estimates import estimated_lateness_seconds, estimated_run_time_seconds, not_negative
from db.filters import TASK_RUN_FIELDS, Filter, Shape, clauses_of, shape_of
from db.instants import microseconds_at
from db.pages import MOST_STATEMENTS
from db.statements import LongText, Statement
from db.tables import Instant, task_run
from db.vocabulary import StateType
from db.wording import for_each, rows_of

MOST_KINDS = 100
"""Kinds of state, a type and a name, for each of which SQLite looks into each interval. Where there are more, people have
written figures into the names of states, and it takes less to sort the runs of an interval."""

_intervals = rows_of("intervals", number=Integer(), starts_at=Instant, ends_at=Instant)
_types = rows_of("types", type=String())
_expected = task_run.c.expected_start_time


def count_task_runs_by_interval(
    connection: Connection, filter: Filter, intervals: Sequence[tuple[str, str]]
) -> list[tuple[int, StateType, str, int, float, float]]:
    """A row for each state that runs are in which were meant to start in an interval: the place of the interval; the state's
    type and name; how many runs; their run times and how late they are, summed in seconds. In the order of the first three.

    An interval holds its start, not its end. They follow each other without a gap, all of one length. Runs without a state
    are left out.
    """
    shape, parameters = shape_of(filter, TASK_RUN_FIELDS)
    (start, second), end = intervals[0], intervals[-1][1]
    given = {
        "intervals": [[place, *interval] for place, interval in enumerate(intervals)],
        "types": _STATE_TYPES,
        "start": start,
        "end": end,
        "start_microseconds": microseconds_at(start),
        "length_microseconds": microseconds_at(second) - microseconds_at(start),
        "now": connection.now,
    }
    ((found,),) = connection.fetch(_statement(shape), {**parameters, **given})
    return sorted(orjson.loads(found)) if found else []


_STATE_TYPES = [[each.value] for each in StateType]


@lru_cache(MOST_STATEMENTS)
def _statement(shape: Shape) -> Statement:
    """A statement that answers with one list of rows as JSON, or with nothing."""
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
    return select(_as_one_text(func.json_group_array(func.json_array(*runs.c))))


def _many_in_sqlite(shape: Shape) -> Select[Any]:
    """The runs of a kind and an interval lie together in an index: nothing is sorted, unless there are very many kinds."""
    known = _known_kinds()
    few = select(func.count()).select_from(known).scalar_subquery() <= MOST_KINDS
    rows = union_all(
        select(_of_kind(shape, known).label("rows")).select_from(for_each(_intervals, known)).where(few),
        select(_of_interval(shape).label("rows")).select_from(_intervals).where(not_(few)),
    ).subquery()
    return select(_as_one_text("[" + func.group_concat(rows.c.rows) + "]"))


def _as_one_text(rows: ColumnElement[Any]) -> ColumnElement[str]:
    """The rows as SQLite's one text, which has names of states in it, and so can be long."""
    return type_coerce(rows, LongText())


def _known_kinds() -> CTE:
    """The types and names of state that there are, one look into an index for each; at most MOST_KINDS + 1 of each type."""
    one = literal_column("1", Integer())
    first = select(_types.c.type, _least_name(_types.c.type).label("name"), one.label("number"))
    kinds = first.cte("kinds", recursive=True)
    following = select(kinds.c.type, _least_name(kinds.c.type, after=kinds.c.name), kinds.c.number + one)
    kinds = kinds.union_all(following.where(kinds.c.name.is_not(None), kinds.c.number <= MOST_KINDS))
    known = select(kinds.c.type, kinds.c.name).where(kinds.c.name.is_not(None))
    return known.cte("known").prefix_with("MATERIALIZED")


def _least_name(type_: ColumnElement[str], after: ColumnElement[str] | None = None) -> ColumnElement[str]:
    names = _hinted(select(func.min(task_run.c.state_name)).where(task_run.c.state_type == type_), _BY_KIND)
    return (names if after is None else names.where(task_run.c.state_name > after)).scalar_subquery()


def _of_kind(shape: Shape, kinds: FromClause) -> ColumnElement[str]:
    """The row about the runs of a kind in an interval; null where there are none."""
    figures = func.json_array(_intervals.c.number, kinds.c.type, kinds.c.name, *_sums())
    of_kind = task_run.c.state_type == kinds.c.type, task_run.c.state_name == kinds.c.name
    runs = select(case((func.count() > 0, figures))).where(*of_kind, *_in_interval(), *_let_through(shape))
    return _hinted(runs, _BY_KIND).correlate(_intervals, kinds).scalar_subquery()


def _of_interval(shape: Shape) -> ColumnElement[str]:
    """The rows about an interval without the brackets around them; null where there are none."""
    runs = _hinted(_grouped(shape).where(*_in_interval()), _BY_TIME).correlate(_intervals).subquery()
    rows = select(func.group_concat(func.json_array(_intervals.c.number, *runs.c))).select_from(runs)
    return rows.correlate(_intervals).scalar_subquery()


def _in_interval() -> tuple[ColumnElement[bool], ...]:
    return _expected >= _intervals.c.starts_at, _expected < _intervals.c.ends_at


_BY_KIND = "INDEXED BY ix_task_run_state_expected_start_time"
_BY_TIME = "INDEXED BY ix_task_run_expected_start_time"
"""Without statistics SQLite would rather take the index of any equation in the filter, once for each interval."""


def _hinted(selected: Select[Any], hint: str) -> Select[Any]:
    return selected.with_hint(task_run, hint, "sqlite")


def _in_postgresql(shape: Shape) -> Select[Any]:
    """The runs are read once, and each is told its interval."""
    starts = select(_intervals.c.starts_at).order_by(_intervals.c.number).scalar_subquery()
    runs = _by_place(shape, func.width_bucket(_expected, func.array(starts)) - 1)
    return select(func.json_agg(func.json_build_array(*runs.c)))


def _by_place(shape: Shape, place: ColumnElement[Any], expected: ColumnElement[Any] = _expected) -> Subquery:
    place = place.label("place")
    in_span = expected >= _instant("start"), expected < _instant("end")
    return _grouped(shape, place).where(*in_span).group_by(place).subquery()


def _grouped(shape: Shape, *first: ColumnElement[Any]) -> Select[Any]:
    """The figures of the runs that the filter lets through, for each type and name of state."""
    of_state = task_run.c.state_type, task_run.c.state_name
    has_state = task_run.c.state_type.is_not(None)
    return select(*first, *of_state, *_sums()).where(has_state, *_let_through(shape)).group_by(*of_state)


def _sums() -> tuple[ColumnElement[Any], ...]:
    """How many runs there are, their run times, and how late they are."""
    return (
        func.count().label("runs"),
        func.sum(not_negative(estimated_run_time_seconds(task_run))).label("run_time"),
        func.sum(estimated_lateness_seconds(task_run)).label("lateness"),
    )


def _let_through(shape: Shape) -> list[ColumnElement[bool]]:
    return clauses_of(shape, TASK_RUN_FIELDS, task_run, "at once")


def _instant(parameter: str) -> ColumnElement[Any]:
    return bindparam(parameter, type_=Instant, required=True)


def _number(parameter: str) -> ColumnElement[int]:
    return bindparam(parameter, type_=Integer(), required=True)

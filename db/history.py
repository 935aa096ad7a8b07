"""The statement about history: how many runs were meant to start in each interval of time, by the states they are in."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import (
    CTE,
    ColumnElement,
    CompoundSelect,
    FromClause,
    Integer,
    Select,
    SelectBase,
    String,
    Subquery,
    Text,
    bindparam,
    case,
    cast,
    extract,
    func,
    literal_column,
    not_,
    null,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy import Interval as IntervalType
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from db.connection import Connection
from db.estimates import estimated_lateness_seconds, estimated_run_time_seconds, not_negative, seconds_between
from db.filters import TASK_RUN_FIELDS, Filter, Shape, clauses_of, shape_of
from db.pages import MOST_STATEMENTS
from db.statements import LongText, Statement
from db.tables import Instant, task_run
from db.vocabulary import StateType
from db.wording import rows_of

MOST_KINDS = 100
"""Kinds of state, a type and a name, for each of which SQLite looks into each interval. Where there are more, people have
written figures into the names of states, and it takes less to sort the runs of an interval."""

Interval = tuple[str, str]
"""An instant, and the first one after the interval that begins there."""

StateHistory = tuple[StateType, str, Sequence[int], Sequence[int], Sequence[float], Sequence[float]]
"""Runs in states of one kind: its type and name; the places of the intervals in which such runs were meant to start; and for
each of these how many runs, their run times, and how late they are, summed in seconds."""

_types = rows_of("types", type=String())
_expected = task_run.c.expected_start_time


@dataclass(frozen=True, slots=True)
class Span:
    """Intervals that follow each other without a gap, all of one length."""

    intervals: list[Interval]
    start: int
    """When the first one begins, in microseconds since the beginning of 1970."""
    length: int
    """How long each is, in microseconds; the calendar may end before the last one does."""


def count_task_runs_by_interval(connection: Connection, filter: Filter, span: Span) -> list[StateHistory]:
    """What has become of the runs that were meant to start in the intervals of this span, of which there are some, in the
    order of types, then names of states.

    An interval holds its start, not its end. Runs without a state are left out.
    """
    shape, parameters = shape_of(filter, TASK_RUN_FIELDS)
    given = {
        "intervals": span.intervals,
        "types": _STATE_TYPES,
        "start": span.intervals[0][0],
        "end": span.intervals[-1][1],
        "start_microseconds": span.start,
        "length_microseconds": span.length,
        "length": _interval(span.length),
        "now": connection.now,
    }
    # There are few kinds and many intervals: nothing else is to be sorted, and each type and name comes once.
    return sorted(_histories(connection.fetch(_statement(shape), {**parameters, **given})))


_STATE_TYPES = [[each.value] for each in StateType]


def _histories(rows: Sequence[Sequence[Any]]) -> Iterable[Any]:
    """PostgreSQL answers with lists for each kind, SQLite with texts."""
    return map(tuple, rows) if rows and len(rows[0]) > _TEXTS else _from_texts(rows)


_TEXTS = 3
"""How many columns SQLite answers with."""


def _from_texts(found: Iterable[Sequence[Any]]) -> Iterable[Any]:
    """A text has the rows of a kind, if there are any; or those of an interval, where each row tells its kind."""
    of_many: dict[tuple[str, str], list[list[Any]]] = defaultdict(list)
    for type, name, text in found:
        rows = orjson.loads(f"[{text or ''}]")
        if name is None:
            for *row, type_of_row, name_of_row in rows:
                of_many[type_of_row, name_of_row].append(row)
        elif rows:
            yield (type, name, *zip(*rows, strict=True))
    for kind, rows in of_many.items():
        yield (*kind, *zip(*rows, strict=True))


def _interval(microseconds: int) -> str:
    """The text of an interval for PostgreSQL, which before its version 15 took no number of microseconds beyond 32 bits."""
    minutes, rest = divmod(microseconds, 60_000_000)
    return f"{minutes // 60}:{minutes % 60:02}:{rest / 1_000_000:09.6f}"


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
    place = (microseconds - _number("start_microseconds")) // _number("length_microseconds")
    # With a sign the time is no column to SQLite, which would rather go through the span, having statistics.
    kinds = _by_place(shape, place, UnaryExpression(_expected, operator=custom_op[Any]("+"), type_=Instant))
    rows = func.group_concat(func.json_array(kinds.c.place, kinds.c.runs, kinds.c.run_time, kinds.c.lateness))
    return _as_texts(kinds.c.type, kinds.c.name, rows).group_by(kinds.c.type, kinds.c.name)


def _many_in_sqlite(shape: Shape) -> CompoundSelect[Any]:
    """The runs of a kind and an interval lie together in an index: nothing is sorted, unless there are very many kinds."""
    known, spans = _known_kinds(), _spans()
    few = select(func.count()).select_from(known).scalar_subquery() <= MOST_KINDS
    rows = select(func.group_concat(_of_kind(shape, known, spans))).select_from(spans)
    return union_all(
        _as_texts(known.c.type, known.c.name, rows.correlate(known).scalar_subquery()).where(few),
        _as_texts(null(), null(), _of_interval(shape, spans)).select_from(spans).where(not_(few)),
    )


def _as_texts(type_: ColumnElement[Any], name: ColumnElement[Any], rows: ColumnElement[Any]) -> Select[Any]:
    # Names of states can be long.
    return select(type_, *(type_coerce(each, LongText()) for each in (name, rows)))


def _spans() -> CTE:
    """The intervals with their places."""
    each = func.json_each(bindparam("intervals", type_=Text(), required=True)).table_valued("key", "value", name="each")
    start, end = (func.json_extract(each.c.value, f"$[{place}]") for place in (0, 1))
    return _materialized(select(each.c.key.label("place"), start.label("starts_at"), end.label("ends_at")), "spans")


def _known_kinds() -> CTE:
    """The types and names of state that there are, one look into an index for each; at most MOST_KINDS + 1 of each type."""
    one = literal_column("1", Integer())
    first = select(_types.c.type, _least_name(_types.c.type).label("name"), one.label("number"))
    kinds = first.cte("kinds", recursive=True)
    following = select(kinds.c.type, _least_name(kinds.c.type, after=kinds.c.name), kinds.c.number + one)
    kinds = kinds.union_all(following.where(kinds.c.name.is_not(None), kinds.c.number <= MOST_KINDS))
    return _materialized(select(kinds.c.type, kinds.c.name).where(kinds.c.name.is_not(None)), "known")


def _materialized(rows: SelectBase, name: str) -> CTE:
    """The rows, made once, however often the statement reads them."""
    return rows.cte(name).prefix_with("MATERIALIZED")


def _least_name(type_: ColumnElement[str], after: ColumnElement[str] | None = None) -> ColumnElement[str]:
    names = _hinted(select(func.min(task_run.c.state_name)).where(task_run.c.state_type == type_), _BY_KIND)
    return (names if after is None else names.where(task_run.c.state_name > after)).scalar_subquery()


def _of_kind(shape: Shape, kinds: FromClause, spans: FromClause) -> ColumnElement[str]:
    """The row about the runs of a kind in an interval; null where there are none."""
    figures = func.json_array(spans.c.place, *_sums())
    of_kind = task_run.c.state_type == kinds.c.type, task_run.c.state_name == kinds.c.name
    runs = select(case((func.count() > 0, figures))).where(*of_kind, *_in_interval(spans), *_let_through(shape))
    return _hinted(runs, _BY_KIND).correlate(spans, kinds).scalar_subquery()


def _of_interval(shape: Shape, spans: FromClause) -> ColumnElement[str]:
    """The rows about an interval, which tell their kinds; null where there are none."""
    kind, has_state = (task_run.c.state_type, task_run.c.state_name), task_run.c.state_type.is_not(None)
    runs = select(*_sums(), *kind).where(has_state, *_in_interval(spans), *_let_through(shape)).group_by(*kind)
    kinds = _hinted(runs, _BY_TIME).correlate(spans).subquery()
    rows = select(func.group_concat(func.json_array(spans.c.place, *kinds.c))).select_from(kinds)
    return rows.correlate(spans).scalar_subquery()


def _in_interval(spans: FromClause) -> tuple[ColumnElement[bool], ...]:
    return _expected >= spans.c.starts_at, _expected < spans.c.ends_at


_BY_KIND = "INDEXED BY ix_task_run_state_expected_start_time"
_BY_TIME = "INDEXED BY ix_task_run_expected_start_time"
"""Without statistics SQLite would rather take the index of any equation in the filter, once for each interval."""


def _hinted(selected: Select[Any], hint: str) -> Select[Any]:
    return selected.with_hint(task_run, hint, "sqlite")


def _in_postgresql(shape: Shape) -> Select[Any]:
    """The runs are read once, and each is told when its interval begins."""
    start = _instant("start")
    # A cast alone would be carried out for each run.
    length = select(cast(bindparam("length", type_=Text(), required=True), IntervalType)).scalar_subquery()
    kinds = _by_place(shape, func.date_bin(length, _expected, start))
    place = cast(seconds_between(start, kinds.c.place) / extract("epoch", length), Integer)
    figures = (func.array_agg(each) for each in (place, kinds.c.runs, kinds.c.run_time, kinds.c.lateness))
    return select(kinds.c.type, kinds.c.name, *figures).group_by(kinds.c.type, kinds.c.name)


def _by_place(shape: Shape, place: ColumnElement[Any], expected: ColumnElement[Any] = _expected) -> Subquery:
    """A row for each kind of state and place that the runs have which the filter lets through."""
    place, kind = place.label("place"), (task_run.c.state_type.label("type"), task_run.c.state_name.label("name"))
    in_span = expected >= _instant("start"), expected < _instant("end")
    has_state = task_run.c.state_type.is_not(None)
    runs = select(place, *kind, *_sums()).where(*in_span, has_state, *_let_through(shape))
    return runs.group_by(place, task_run.c.state_type, task_run.c.state_name).subquery()


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

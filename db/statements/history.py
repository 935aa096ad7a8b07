"""The statement about history: how many runs were meant to start in each interval of time, by the states they are in.

The database writes the answer down, in JSON: hundreds of small objects, each of which would otherwise be made of figures in
Python, and written after that.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Any, Generic, Literal, TypeVar

import orjson
from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    SelectBase,
    String,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    null,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy import Interval as IntervalType
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from db.connection import Connection
from db.enums import StateType
from db.errors import TooMuchToRead
from db.query.filters import TASK_RUN_FIELDS, Filter, Shape, clauses_of, shape_of
from db.query.pagination import MOST_STATEMENTS
from db.query.run_estimates import estimated_lateness_seconds, estimated_run_time_seconds
from db.sql.dialects import MARK, formatted, json_number, json_text, rows_of
from db.sql.statement import LongText, Statement
from db.tables import Instant, task_run

MOST_KINDS = 100
"""Kinds of state, a type and a name, for each of which SQLite looks into each interval. Where there are more, people have
written figures into the names of states, and it takes less to sort the runs of an interval."""

Part = Literal["start", "end", "states"]
"""What is known of an interval: two instants, and the states of its runs, with commas in between."""

Figure = Literal["type", "name", "runs", "run_time", "lateness"]
"""What is known of the runs of an interval that are in states of one kind: its type, a word, and name, a JSON text; how many
they are; their run times, and how late they are, summed in seconds."""

Given = TypeVar("Given", bound=str)
Rows = Select[*tuple[Any, ...]]

_ZERO, _COMMA, _NOTHING = literal_column("0", Integer()), literal_column("','", Text()), literal_column("''", Text())
_types = rows_of("types", type=String())
_expected = task_run.c.expected_start_time


@dataclass(frozen=True, slots=True)
class Pattern(Generic[Given]):
    """How something is written down, in JSON."""

    text: str
    """With `%s` in it for each of the values, and no `%` else."""
    values: tuple[Given, ...]
    """Each at most once: every order of them is a statement of its own, which databases keep."""


@dataclass(frozen=True, slots=True)
class Span:
    """Intervals that follow each other without a gap, all of one length."""

    instants: list[str]
    """When each begins, in order, and when the last one ends; nothing where there are none."""
    start: int
    """When the first one begins, in microseconds since the beginning of 1970."""
    length: int
    """How long each is, in microseconds; the calendar may end before the last one does."""


def write_history(
    connection: Connection, filter: Filter, span: Span, of_interval: Pattern[Part], of_kind: Pattern[Figure]
) -> str:
    """What has become of the runs that were meant to start in the intervals of this span, of which there are some.

    All intervals, each written by its pattern, with commas in between; the states by theirs, in the order of types, then
    names. An interval holds its start, not its end. Runs without a state are left out. TooMuchToRead where that is longer
    than what may still be read.
    """
    shape, parameters = shape_of(filter, TASK_RUN_FIELDS)
    longest = min(connection.allowance.left, LONGEST_TEXT)
    given = {
        "instants": span.instants,
        "types": _STATE_TYPES,
        "start": span.instants[0],
        "end": span.instants[-1],
        "start_microseconds": span.start,
        "length_microseconds": span.length,
        "length": _interval(span.length),
        "now": connection.now,
        "of_interval": of_interval.text,
        "of_kind": of_kind.text,
        "length_of_kind": len(of_kind.text) + _LENGTH_OF_FIGURE * len(of_kind.values),
        "longest": longest,
    }
    statement = _statement(shape, of_interval.values, of_kind.values)
    ((length, written),) = connection.fetch(statement, {**parameters, **given})
    if length > longest:
        raise TooMuchToRead(min(connection.allowance.most, LONGEST_TEXT))
    return _UNUSUAL.sub(_usual, written) if MARK in written else written


LONGEST_TEXT = 2**29
"""Bytes; PostgreSQL can make twice as many of one value."""

_STATE_TYPES = [[each.value] for each in StateType]

_LENGTH_OF_FIGURE = 25
"""How long a figure is at most that is no name."""

_UNUSUAL = re.compile(f"{MARK}([^{MARK}]*){MARK}")


def _usual(found: re.Match[str]) -> str:
    """A number that databases write in ways of their own, as all others are written."""
    number = float(found[1])
    if not isfinite(number):
        raise ValueError(f"A history has come to {number}: a row holds what it may not.")
    return orjson.dumps(number).decode()


def _interval(microseconds: int) -> str:
    """The text of an interval for PostgreSQL, which before its version 15 took no number of microseconds beyond 32 bits."""
    minutes, rest = divmod(microseconds, 60_000_000)
    return f"{minutes // 60}:{minutes % 60:02}:{rest / 1_000_000:09.6f}"


@lru_cache(MOST_STATEMENTS)
def _statement(shape: Shape, parts: tuple[Part, ...], figures: tuple[Figure, ...]) -> Statement:
    """One row: how long the states would be, 0 where that is not known before; and the intervals, unless it is too long."""
    few_or_many = _few_in_sqlite if _asks_for_few(shape) else _many_in_sqlite
    return Statement(few_or_many(shape, parts, figures), postgresql=_in_postgresql(shape, parts, figures))


def _asks_for_few(shape: Shape) -> bool:
    """Whether the filter names ids, be it those of flow runs."""
    for name, asked in shape:
        if name in {"id", "flow_run_id"} and any(operator in {"one", "any"} for operator, _ in asked):
            return True
        if name == "flow_run" and _asks_for_few(tuple(part for part in asked if part[0] == "id")):
            return True
    return False


def _few_in_sqlite(shape: Shape, parts: Sequence[Part], figures: Sequence[Figure]) -> Rows:
    """The runs that the filter names are looked up by their ids, and each is told its interval."""
    seconds = cast(func.strftime("%s", func.substr(_expected, 1, 19)), Integer)
    microseconds = seconds * 1_000_000 + cast(func.substr(_expected, 21, 6), Integer)
    place = (microseconds - _number("start_microseconds")) // _number("length_microseconds")
    # With a sign the time is no column to SQLite, which would rather go through the span, having statistics.
    runs = _by_place(shape, place, UnaryExpression(_expected, operator=custom_op[Any]("+"), type_=Instant))
    kinds, spans = runs.subquery("kinds"), _spans()
    text = _written(figures, kinds, json_text(kinds.c.name))
    of_kinds = select(kinds.c.place, null(), null(), kinds.c.type, kinds.c.name, text)
    both = union_all(select(*spans.c, null().label("type"), null().label("name"), null().label("text")), of_kinds)
    # In this order they stand in a group.
    rows = both.order_by(*both.selected_columns["place", "type", "name"]).subquery("both")
    span = func.max(rows.c.starts_at).label("starts_at"), func.max(rows.c.ends_at).label("ends_at")
    states = func.group_concat(rows.c.text).label("states")
    return _in_one_row(parts, select(*span, states).group_by(rows.c.place))


def _many_in_sqlite(shape: Shape, parts: Sequence[Part], figures: Sequence[Figure]) -> Rows:
    """The runs of a kind and an interval lie together in an index: nothing is sorted, unless there are very many kinds."""
    known, spans = _known_kinds(), _spans()
    are_few = select(func.count()).select_from(known).scalar_subquery() <= MOST_KINDS
    of_kinds = select(func.group_concat(_of_kind(shape, figures, known, spans))).select_from(known)
    kinds = _kinds_of_interval(shape, spans)
    of_interval = select(func.group_concat(_written(figures, kinds, json_text(kinds.c.name)))).select_from(kinds)
    states = case((are_few, of_kinds.scalar_subquery()), else_=of_interval.scalar_subquery()).label("states")
    return _in_one_row(parts, select(spans.c.starts_at, spans.c.ends_at, states))


def _in_one_row(parts: Sequence[Part], intervals: Rows) -> Rows:
    """What SQLite answers with, which itself limits how long a text is."""
    # With a limit SQLite makes them one at a time, and ends where all that is written is too long.
    each = intervals.limit(-1).subquery("intervals")
    written = type_coerce(func.group_concat(_of_interval(parts, each)), LongText())
    return select(_ZERO, written).where(each.c.ends_at.is_not(None))


def _spans() -> CTE:
    """The intervals with their places, in order, and a last one that has no end, in which nothing is."""
    each = func.json_each(bindparam("instants", type_=Text(), required=True)).table_valued("key", "value", name="each")
    start, end = each.c.value.label("starts_at"), func.lead(each.c.value).over(order_by=each.c.key).label("ends_at")
    return _materialized(select(each.c.key.label("place"), start, end).order_by(each.c.key), "spans")


def _known_kinds() -> CTE:
    """The types and names of state that there are, in order, one look into an index for each; at most MOST_KINDS + 1 of
    each type."""
    one = literal_column("1", Integer())
    first = select(_types.c.type, _least_name(_types.c.type).label("name"), one.label("number"))
    kinds = first.cte("kinds", recursive=True)
    following = select(kinds.c.type, _least_name(kinds.c.type, after=kinds.c.name), kinds.c.number + one)
    kinds = kinds.union_all(following.where(kinds.c.name.is_not(None), kinds.c.number <= MOST_KINDS))
    known = select(kinds.c.type, kinds.c.name, json_text(kinds.c.name).label("json")).where(kinds.c.name.is_not(None))
    return _materialized(known.order_by(kinds.c.type, kinds.c.name), "known")


def _materialized(rows: SelectBase, name: str) -> CTE:
    """The rows, made once, however often the statement reads them."""
    return rows.cte(name).prefix_with("MATERIALIZED")


def _least_name(type_: ColumnElement[str], after: ColumnElement[str] | None = None) -> ColumnElement[str]:
    names = _hinted(select(func.min(task_run.c.state_name)).where(task_run.c.state_type == type_), _BY_KIND)
    return (names if after is None else names.where(task_run.c.state_name > after)).scalar_subquery()


def _of_kind(shape: Shape, figures: Sequence[Figure], kinds: FromClause, spans: FromClause) -> ColumnElement[str]:
    """The text about the runs of a kind in an interval; null where there are none."""
    of_kind = task_run.c.state_type == kinds.c.type, task_run.c.state_name == kinds.c.name
    sums = select(*_labelled(_sums())).where(*of_kind, *_in_interval(spans), *_let_through(shape))
    runs = _hinted(sums.having(func.count() > _ZERO), _BY_KIND).correlate(spans, kinds).subquery()
    columns: dict[Figure, ColumnElement[Any]] = {"type": kinds.c.type, **{name: runs.c[name] for name in _sums()}}
    written = select(formatted("of_kind", *_filled_in(figures, columns, kinds.c.json)))
    return written.select_from(runs).correlate(spans, kinds).scalar_subquery()


def _kinds_of_interval(shape: Shape, spans: FromClause) -> FromClause:
    """A row for each kind of state that the runs of an interval have, in order."""
    kind, has_state = (task_run.c.state_type, task_run.c.state_name), task_run.c.state_type.is_not(None)
    runs = select(*_labelled(_kind_and_sums())).where(has_state, *_in_interval(spans), *_let_through(shape))
    return _hinted(runs.group_by(*kind).order_by(*kind), _BY_TIME).correlate(spans).subquery()


def _in_interval(spans: FromClause) -> tuple[ColumnElement[bool], ...]:
    return _expected >= spans.c.starts_at, _expected < spans.c.ends_at


_BY_KIND = "INDEXED BY ix_task_run_state_expected_start_time"
_BY_TIME = "INDEXED BY ix_task_run_expected_start_time"
"""Without statistics SQLite would rather take the index of any equation in the filter, once for each interval."""


def _hinted(selected: Select[Any], hint: str) -> Select[Any]:
    return selected.with_hint(task_run, hint, "sqlite")


def _in_postgresql(shape: Shape, parts: Sequence[Part], figures: Sequence[Figure]) -> Rows:
    """The runs are read once, and each is told when its interval begins."""
    # A cast alone would be carried out for each run.
    length = select(cast(bindparam("length", type_=Text(), required=True), IntervalType)).scalar_subquery()
    counted = _by_place(shape, func.date_bin(length, _expected, _instant("start"))).subquery("counted")
    # Not materialized, the runs would be sorted, and not what they are counted to.
    kinds = _materialized(select(counted, json_text(counted.c.name).label("json")), "kinds")
    of_kind = _number("length_of_kind") + (func.octet_length(kinds.c.json) if "name" in figures else _ZERO)
    length_of_kinds = cast(func.coalesce(func.sum(of_kind), _ZERO), BigInteger)
    length_of_all = select(_materialized(select(length_of_kinds.label("length")), "lengths").c.length).scalar_subquery()
    in_order = aggregate_order_by(_COMMA, kinds.c.type, kinds.c.name)
    states = func.string_agg(_written(figures, kinds, kinds.c.json), in_order).label("states")
    of_places = select(kinds.c.place, states).group_by(kinds.c.place).subquery("of_places")
    # asyncpg looks at each item of an array twice.
    instants = func.jsonb_array_elements_text(cast(bindparam("instants", type_=Text(), required=True), JSONB))
    each = instants.table_valued("starts_at", with_ordinality="number", name="each").render_derived()
    spans = select(each, func.lead(each.c.starts_at).over(order_by=each.c.number).label("ends_at")).subquery("spans")
    found = spans.outerjoin(of_places, of_places.c.place == cast(spans.c.starts_at, Instant))
    fits = length_of_all <= bindparam("longest", type_=BigInteger(), required=True), spans.c.ends_at.is_not(None)
    columns = spans.c.number, spans.c.starts_at, spans.c.ends_at, of_places.c.states
    intervals = select(*columns).select_from(found).where(*fits).subquery("intervals")
    written = func.string_agg(_of_interval(parts, intervals), aggregate_order_by(_COMMA, intervals.c.number))
    return select(length_of_all, func.coalesce(written, _NOTHING))


def _by_place(shape: Shape, place: ColumnElement[Any], expected: ColumnElement[Any] = _expected) -> Select[Any]:
    """A row for each kind of state and place that the runs have which the filter lets through."""
    place, in_span = place.label("place"), (expected >= _instant("start"), expected < _instant("end"))
    has_state = task_run.c.state_type.is_not(None)
    runs = select(place, *_labelled(_kind_and_sums())).where(*in_span, has_state, *_let_through(shape))
    return runs.group_by(place, task_run.c.state_type, task_run.c.state_name)


def _kind_and_sums() -> dict[Figure, ColumnElement[Any]]:
    return {"type": task_run.c.state_type, "name": task_run.c.state_name, **_sums()}


def _sums() -> dict[Figure, ColumnElement[Any]]:
    """How many runs there are, their run times, and how late they are."""
    return {
        "runs": func.count(),
        "run_time": func.sum(estimated_run_time_seconds(task_run)),
        "lateness": func.sum(estimated_lateness_seconds(task_run)),
    }


def _labelled(columns: Mapping[Figure, ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    return [column.label(name) for name, column in columns.items()]


def _of_interval(parts: Sequence[Part], intervals: FromClause) -> ColumnElement[str]:
    """The text about an interval, whose states may be null."""
    columns: dict[Part, ColumnElement[Any]] = {
        "start": intervals.c.starts_at,
        "end": intervals.c.ends_at,
        "states": func.coalesce(intervals.c.states, _NOTHING),
    }
    return formatted("of_interval", *(columns[part] for part in parts))


def _written(figures: Sequence[Figure], kinds: FromClause, name: ColumnElement[str]) -> ColumnElement[str]:
    """The text about a kind, whose name is given as JSON."""
    columns: dict[Figure, ColumnElement[Any]] = {figure: kinds.c[figure] for figure in _kind_and_sums()}
    return formatted("of_kind", *_filled_in(figures, columns, name))


def _filled_in(
    figures: Sequence[Figure], columns: Mapping[Figure, ColumnElement[Any]], name: ColumnElement[str]
) -> Iterable[ColumnElement[Any]]:
    """The figures as they are filled in, where `name` is JSON."""
    for figure in figures:
        match figure:
            case "name":
                yield name
            case "run_time" | "lateness":
                yield json_number(columns[figure])
            case _:
                yield columns[figure]


def _let_through(shape: Shape) -> list[ColumnElement[bool]]:
    return clauses_of(shape, TASK_RUN_FIELDS, task_run, "at once")


def _instant(parameter: str) -> ColumnElement[Any]:
    return bindparam(parameter, type_=Instant, required=True)


def _number(parameter: str) -> ColumnElement[int]:
    return bindparam(parameter, type_=Integer(), required=True)

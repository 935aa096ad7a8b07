"""The statement for the history: counts of task runs by state, in equal intervals of their expected start times.

The database formats the result as JSON. It consists of hundreds of small objects, each of which would otherwise be
built from a row in Python and then serialized.
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
from db.query.filters import TASK_RUN_FIELDS, Filter, Shape, clauses_of, shape_of
from db.query.pagination import MAX_CACHED_STATEMENTS
from db.query.run_estimates import estimated_lateness_seconds, estimated_run_time_seconds
from db.runtime.memory_budget import ReadTooLarge
from db.sql.json_format import FALLBACK_MARK, json_number, json_text
from db.sql.lists import unnest_rows
from db.sql.statement import LongText, Statement
from db.sql.text import format_text
from db.tables import Timestamp, task_run

MAX_STATE_KINDS = 100
"""Maximum number of kinds of state (type and name) that SQLite looks up one by one in each interval. A larger number
means that clients write changing values into the names of states. Sorting the runs of each interval is cheaper then."""

IntervalField = Literal["start", "end", "states"]
"""A value of an interval: its start, its end, or the states of its runs, separated by commas."""

StateField = Literal["type", "name", "runs", "run_time", "lateness"]
"""A value of the runs of an interval that are in states of one kind: the state type, the state name as JSON, the
number of runs, or the sum of their run times or of their lateness, in seconds."""

FieldName = TypeVar("FieldName", bound=str)
Rows = Select[*tuple[Any, ...]]

_ZERO, _COMMA, _NOTHING = literal_column("0", Integer()), literal_column("','", Text()), literal_column("''", Text())
_types = unnest_rows("types", type=String())
_expected = task_run.c.expected_start_time


@dataclass(frozen=True, slots=True)
class JsonPattern(Generic[FieldName]):
    """A template for JSON text."""

    text: str
    """Contains `%s` for each of the values, and no other `%`."""
    values: tuple[FieldName, ...]
    """Each value occurs at most once. Every order of values is a separate statement, which the databases cache."""


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive intervals of equal length, without gaps."""

    boundaries: list[str]
    """Start of each interval in order, and the end of the last one. Empty when there are no intervals."""
    start_microseconds: int
    """Start of the first interval, in microseconds since 1970-01-01 UTC."""
    length_microseconds: int
    """Length of each interval, in microseconds. The calendar may end before the last interval does."""


def render_history_json(
    connection: Connection,
    filter: Filter,
    span: Span,
    interval_pattern: JsonPattern[IntervalField],
    state_pattern: JsonPattern[StateField],
) -> str:
    """Return the JSON of all intervals of the span, separated by commas. The span must have at least one interval.

    Each interval is formatted with its pattern, and its states with theirs, sorted by type and then name. A run belongs
    to the interval of its expected start time. An interval includes its start and excludes its end. Runs without a
    state are omitted.

    Raises ReadTooLarge when the text exceeds the remaining read budget or `MAX_TEXT_BYTES`.
    """
    shape, parameters = shape_of(filter, TASK_RUN_FIELDS)
    max_length = min(connection.read_budget.remaining, MAX_TEXT_BYTES)
    arguments = {
        "instants": span.boundaries,
        "types": _STATE_TYPES,
        "start": span.boundaries[0],
        "end": span.boundaries[-1],
        "start_microseconds": span.start_microseconds,
        "length_microseconds": span.length_microseconds,
        "length": _format_interval(span.length_microseconds),
        "now": connection.now,
        "interval_pattern": interval_pattern.text,
        "state_pattern": state_pattern.text,
        "length_of_kind": len(state_pattern.text) + _MAX_VALUE_LENGTH * len(state_pattern.values),
        "max_length": max_length,
    }
    statement = _statement(shape, interval_pattern.values, state_pattern.values)
    ((length, text),) = connection.fetch(statement, {**parameters, **arguments})
    if length > max_length:
        raise ReadTooLarge(min(connection.read_budget.limit, MAX_TEXT_BYTES))
    return _MARKED_NUMBER.sub(_format_marked_number, text) if FALLBACK_MARK in text else text


MAX_TEXT_BYTES = 2**29
"""Maximum size of the JSON text in bytes, half of what PostgreSQL allows for one value."""

_STATE_TYPES = [[each.value] for each in StateType]

_MAX_VALUE_LENGTH = 25
"""Maximum number of characters of a formatted value other than a name."""

_MARKED_NUMBER = re.compile(f"{FALLBACK_MARK}([^{FALLBACK_MARK}]*){FALLBACK_MARK}")


def _format_marked_number(match: re.Match[str]) -> str:
    """Format a number as JSON that the database has left in its own notation."""
    number = float(match[1])
    if not isfinite(number):
        raise ValueError(f"A task run history contains {number}: a stored number is invalid.")
    return orjson.dumps(number).decode()


def _format_interval(microseconds: int) -> str:
    """Format an interval for PostgreSQL, which before version 15 accepts no number of microseconds beyond 32 bits."""
    minutes, rest = divmod(microseconds, 60_000_000)
    return f"{minutes // 60}:{minutes % 60:02}:{rest / 1_000_000:09.6f}"


@lru_cache(MAX_CACHED_STATEMENTS)
def _statement(
    shape: Shape, interval_fields: tuple[IntervalField, ...], state_fields: tuple[StateField, ...]
) -> Statement:
    """Build the statement. Its one row has the length of the states, 0 when it is not known in advance, and the text.

    The text does not contain the intervals when the length is too large.
    """
    build_for_sqlite = _few_runs_in_sqlite if _selects_by_id(shape) else _many_runs_in_sqlite
    return Statement(
        build_for_sqlite(shape, interval_fields, state_fields),
        postgresql=_in_postgresql(shape, interval_fields, state_fields),
    )


def _selects_by_id(shape: Shape) -> bool:
    """Return whether the filter selects by ids of task runs or flow runs."""
    for name, conditions in shape:
        if name in {"id", "flow_run_id"} and any(operator in {"one", "in"} for operator, _ in conditions):
            return True
        if name == "flow_run" and _selects_by_id(tuple(part for part in conditions if part[0] == "id")):
            return True
    return False


def _few_runs_in_sqlite(
    shape: Shape, interval_fields: Sequence[IntervalField], state_fields: Sequence[StateField]
) -> Rows:
    """Build the statement for few runs: they are looked up by id, and the interval of each run is computed."""
    seconds = cast(func.strftime("%s", func.substr(_expected, 1, 19)), Integer)
    microseconds = seconds * 1_000_000 + cast(func.substr(_expected, 21, 6), Integer)
    interval_number = (microseconds - _integer_parameter("start_microseconds")) // _integer_parameter(
        "length_microseconds"
    )
    # Without the unary plus, SQLite would scan the index of this column for the span when it has statistics.
    runs = _sums_by_interval(
        shape, interval_number, UnaryExpression(_expected, operator=custom_op[Any]("+"), type_=Timestamp)
    )
    kinds, spans = runs.subquery("kinds"), _interval_rows()
    text = _format_kind_row(state_fields, kinds, json_text(kinds.c.name))
    kind_rows = select(kinds.c.place, null(), null(), kinds.c.type, kinds.c.name, text)
    both = union_all(select(*spans.c, null().label("type"), null().label("name"), null().label("text")), kind_rows)
    # group_concat joins the rows of a group in this order.
    rows = both.order_by(*both.selected_columns["place", "type", "name"]).subquery("both")
    span = func.max(rows.c.starts_at).label("starts_at"), func.max(rows.c.ends_at).label("ends_at")
    states = func.group_concat(rows.c.text).label("states")
    return _select_text(interval_fields, select(*span, states).group_by(rows.c.place))


def _many_runs_in_sqlite(
    shape: Shape, interval_fields: Sequence[IntervalField], state_fields: Sequence[StateField]
) -> Rows:
    """Build the statement for many runs.

    The runs of one kind and interval are adjacent in an index. They are only sorted when the kinds exceed
    MAX_STATE_KINDS.
    """
    existing_kinds, spans = _existing_kinds(), _interval_rows()
    has_few_kinds = select(func.count()).select_from(existing_kinds).scalar_subquery() <= MAX_STATE_KINDS
    states_by_kind = select(
        func.group_concat(_kind_text_of_interval(shape, state_fields, existing_kinds, spans))
    ).select_from(existing_kinds)
    kinds = _kinds_of_interval(shape, spans)
    states_of_interval = select(
        func.group_concat(_format_kind_row(state_fields, kinds, json_text(kinds.c.name)))
    ).select_from(kinds)
    states = case((has_few_kinds, states_by_kind.scalar_subquery()), else_=states_of_interval.scalar_subquery()).label(
        "states"
    )
    return _select_text(interval_fields, select(spans.c.starts_at, spans.c.ends_at, states))


def _select_text(interval_fields: Sequence[IntervalField], intervals: Rows) -> Rows:
    """Build the row that SQLite returns. SQLite itself limits the length of a text."""
    # With a LIMIT, SQLite produces the intervals one by one and stops as soon as the text is too long.
    each = intervals.limit(-1).subquery("intervals")
    text = type_coerce(func.group_concat(_format_interval_row(interval_fields, each)), LongText())
    return select(_ZERO, text).where(each.c.ends_at.is_not(None))


def _interval_rows() -> CTE:
    """Build the intervals with their numbers, in order, and a last row without an end, which contains no runs."""
    each = func.json_each(bindparam("instants", type_=Text(), required=True)).table_valued("key", "value", name="each")
    start, end = each.c.value.label("starts_at"), func.lead(each.c.value).over(order_by=each.c.key).label("ends_at")
    return _materialized(select(each.c.key.label("place"), start, end).order_by(each.c.key), "spans")


def _existing_kinds() -> CTE:
    """Build the existing kinds of state in order, with one index lookup for each.

    There are at most MAX_STATE_KINDS + 1 kinds of each type.
    """
    one = literal_column("1", Integer())
    first = select(_types.c.type, _least_name(_types.c.type).label("name"), one.label("number"))
    kinds = first.cte("kinds", recursive=True)
    following = select(kinds.c.type, _least_name(kinds.c.type, after=kinds.c.name), kinds.c.number + one)
    kinds = kinds.union_all(following.where(kinds.c.name.is_not(None), kinds.c.number <= MAX_STATE_KINDS))
    existing_kinds = select(kinds.c.type, kinds.c.name, json_text(kinds.c.name).label("json")).where(
        kinds.c.name.is_not(None)
    )
    return _materialized(existing_kinds.order_by(kinds.c.type, kinds.c.name), "known")


def _materialized(rows: SelectBase, name: str) -> CTE:
    """Build the rows as a CTE that is computed once, however often the statement reads it."""
    return rows.cte(name).prefix_with("MATERIALIZED")


def _least_name(type_: ColumnElement[str], after: ColumnElement[str] | None = None) -> ColumnElement[str]:
    names = _hinted(select(func.min(task_run.c.state_name)).where(task_run.c.state_type == type_), _BY_KIND)
    return (names if after is None else names.where(task_run.c.state_name > after)).scalar_subquery()


def _kind_text_of_interval(
    shape: Shape, state_fields: Sequence[StateField], kinds: FromClause, spans: FromClause
) -> ColumnElement[str]:
    """Build the text for the runs of one kind in one interval. Null when it has no such runs."""
    is_of_kind = task_run.c.state_type == kinds.c.type, task_run.c.state_name == kinds.c.name
    sums = select(*_labelled(_sums())).where(*is_of_kind, *_in_interval(spans), *_filter_clauses(shape))
    runs = _hinted(sums.having(func.count() > _ZERO), _BY_KIND).correlate(spans, kinds).subquery()
    columns: dict[StateField, ColumnElement[Any]] = {"type": kinds.c.type, **{name: runs.c[name] for name in _sums()}}
    text = select(format_text("state_pattern", *_pattern_values(state_fields, columns, kinds.c.json)))
    return text.select_from(runs).correlate(spans, kinds).scalar_subquery()


def _kinds_of_interval(shape: Shape, spans: FromClause) -> FromClause:
    """Build a row for each kind of state among the runs of an interval, in order."""
    kind, has_state = (task_run.c.state_type, task_run.c.state_name), task_run.c.state_type.is_not(None)
    runs = select(*_labelled(_kind_and_sums())).where(has_state, *_in_interval(spans), *_filter_clauses(shape))
    return _hinted(runs.group_by(*kind).order_by(*kind), _BY_TIME).correlate(spans).subquery()


def _in_interval(spans: FromClause) -> tuple[ColumnElement[bool], ...]:
    return _expected >= spans.c.starts_at, _expected < spans.c.ends_at


_BY_KIND = "INDEXED BY ix_task_run_state_expected_start_time"
_BY_TIME = "INDEXED BY ix_task_run_expected_start_time"
"""Without statistics, SQLite would use the index of any equality in the filter, once for each interval."""


def _hinted(selected: Select[Any], hint: str) -> Select[Any]:
    return selected.with_hint(task_run, hint, "sqlite")


def _in_postgresql(shape: Shape, interval_fields: Sequence[IntervalField], state_fields: Sequence[StateField]) -> Rows:
    """Build the statement for PostgreSQL: the runs are read once, and the start of each run's interval is computed."""
    # A cast outside a subquery would be evaluated for each run.
    length = select(cast(bindparam("length", type_=Text(), required=True), IntervalType)).scalar_subquery()
    counted = _sums_by_interval(shape, func.date_bin(length, _expected, _timestamp_parameter("start"))).subquery(
        "counted"
    )
    # If this were not materialized, PostgreSQL would sort the runs instead of their counts.
    kinds = _materialized(select(counted, json_text(counted.c.name).label("json")), "kinds")
    length_of_kind = _integer_parameter("length_of_kind") + (
        func.octet_length(kinds.c.json) if "name" in state_fields else _ZERO
    )
    length_of_kinds = cast(func.coalesce(func.sum(length_of_kind), _ZERO), BigInteger)
    length_of_all = select(_materialized(select(length_of_kinds.label("length")), "lengths").c.length).scalar_subquery()
    in_order = aggregate_order_by(_COMMA, kinds.c.type, kinds.c.name)
    states = func.string_agg(_format_kind_row(state_fields, kinds, kinds.c.json), in_order).label("states")
    states_by_interval = select(kinds.c.place, states).group_by(kinds.c.place).subquery("of_places")
    # JSON, because asyncpg visits each item of an array twice.
    boundaries = func.jsonb_array_elements_text(cast(bindparam("instants", type_=Text(), required=True), JSONB))
    each = boundaries.table_valued("starts_at", with_ordinality="number", name="each").render_derived()
    spans = select(each, func.lead(each.c.starts_at).over(order_by=each.c.number).label("ends_at")).subquery("spans")
    joined = spans.outerjoin(states_by_interval, states_by_interval.c.place == cast(spans.c.starts_at, Timestamp))
    fits = length_of_all <= bindparam("max_length", type_=BigInteger(), required=True), spans.c.ends_at.is_not(None)
    columns = spans.c.number, spans.c.starts_at, spans.c.ends_at, states_by_interval.c.states
    intervals = select(*columns).select_from(joined).where(*fits).subquery("intervals")
    text = func.string_agg(
        _format_interval_row(interval_fields, intervals), aggregate_order_by(_COMMA, intervals.c.number)
    )
    return select(length_of_all, func.coalesce(text, _NOTHING))


def _sums_by_interval(
    shape: Shape, interval: ColumnElement[Any], expected: ColumnElement[Any] = _expected
) -> Select[Any]:
    """Build a row for each interval and kind of state among the runs that match the filter."""
    interval, in_span = (
        interval.label("place"),
        (expected >= _timestamp_parameter("start"), expected < _timestamp_parameter("end")),
    )
    has_state = task_run.c.state_type.is_not(None)
    runs = select(interval, *_labelled(_kind_and_sums())).where(*in_span, has_state, *_filter_clauses(shape))
    return runs.group_by(interval, task_run.c.state_type, task_run.c.state_name)


def _kind_and_sums() -> dict[StateField, ColumnElement[Any]]:
    return {"type": task_run.c.state_type, "name": task_run.c.state_name, **_sums()}


def _sums() -> dict[StateField, ColumnElement[Any]]:
    """Build the number of runs, and the sums of their run times and of their lateness."""
    return {
        "runs": func.count(),
        "run_time": func.sum(estimated_run_time_seconds(task_run)),
        "lateness": func.sum(estimated_lateness_seconds(task_run)),
    }


def _labelled(columns: Mapping[StateField, ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    return [column.label(name) for name, column in columns.items()]


def _format_interval_row(interval_fields: Sequence[IntervalField], intervals: FromClause) -> ColumnElement[str]:
    """Build the text of an interval, whose states may be null."""
    columns: dict[IntervalField, ColumnElement[Any]] = {
        "start": intervals.c.starts_at,
        "end": intervals.c.ends_at,
        "states": func.coalesce(intervals.c.states, _NOTHING),
    }
    return format_text("interval_pattern", *(columns[part] for part in interval_fields))


def _format_kind_row(
    state_fields: Sequence[StateField], kinds: FromClause, name: ColumnElement[str]
) -> ColumnElement[str]:
    """Build the text of a kind of state, whose name is given as JSON."""
    columns: dict[StateField, ColumnElement[Any]] = {field: kinds.c[field] for field in _kind_and_sums()}
    return format_text("state_pattern", *_pattern_values(state_fields, columns, name))


def _pattern_values(
    state_fields: Sequence[StateField], columns: Mapping[StateField, ColumnElement[Any]], name: ColumnElement[str]
) -> Iterable[ColumnElement[Any]]:
    """Yield the values to insert into the pattern, where `name` is JSON already."""
    for field in state_fields:
        match field:
            case "name":
                yield name
            case "run_time" | "lateness":
                yield json_number(columns[field])
            case _:
                yield columns[field]


def _filter_clauses(shape: Shape) -> list[ColumnElement[bool]]:
    return clauses_of(shape, TASK_RUN_FIELDS, task_run, "at once")


def _timestamp_parameter(parameter: str) -> ColumnElement[Any]:
    return bindparam(parameter, type_=Timestamp, required=True)


def _integer_parameter(parameter: str) -> ColumnElement[int]:
    return bindparam(parameter, type_=Integer(), required=True)

"""Statements for the feed: state changes of task runs, read page by page from a position.

The stored states are the log of changes.

Positions must follow the order of commits: a state that is committed after a page was read must come after that page,
or it would never be read. SQLite has one writer whose ids increase, and the id of a state is its position.

PostgreSQL transactions commit in a different order than they begin. Each state stores the number of its transaction in
`written_in`, and a page ends before the oldest transaction that is still open: no state with a smaller number can be
added. A transaction that waited for a run may have a smaller number than the transaction it waited for. It then uses
the number of the run's current state, which keeps the states of a run in order. This is safe because numbers are only
ever raised: an open transaction that may still write a given number has a transaction number that is not greater, and
pages end before that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    literal_column,
    null,
    select,
    tuple_,
)

from db.connection import Connection, Row
from db.enums import StateType
from db.query.filters import TASK_RUN_FIELDS, Filter, Shape, clauses_of, shape_of
from db.query.pagination import MAX_CACHED_STATEMENTS
from db.records import StateRecord, TaskRunRecord
from db.row_mapping import STATE_WIDTH, TASK_RUN_WIDTH, record_columns, state_from_row, task_run_from_row
from db.runtime.ids import new_id
from db.sql.statement import Statement
from db.tables import Id, task_run, task_run_state

MIN_ID = "00000000-0000-0000-0000-000000000000"
MAX_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"


@dataclass(frozen=True, slots=True)
class FeedPosition:
    """A position in the feed, directly after the state with this id, even if that state has been deleted."""

    transaction: int | None
    """The `written_in` of the state. None on a database with a single writer."""
    id: str


@dataclass(frozen=True, slots=True)
class FeedChange:
    """A state that a task run entered, and the run as it was when the change was read."""

    position: FeedPosition
    task_run: TaskRunRecord
    state: StateRecord
    previous_state_type: StateType | None


@dataclass(frozen=True, slots=True)
class FeedPage:
    """The changes of one part of the feed that match the filter."""

    changes: Sequence[FeedChange]
    end: FeedPosition
    """Position from which the next page is read."""
    has_more: bool = False
    """Whether more changes may be available already."""
    is_blocked: bool = False
    """Whether changes exist that cannot be read until an older transaction has ended."""
    has_gap: bool = False
    """Whether the page starts after the requested position. The changes in between are skipped."""


def current_position(connection: Connection) -> FeedPosition:
    """Return the position after the states that are committed now.

    States of transactions that are still open come after it, as do those of transactions that are newer than an open
    one.
    """
    ((transaction, id),) = connection.fetch(_CURRENT_POSITION)
    return FeedPosition(transaction, id or MIN_ID)


def read_changes(
    connection: Connection, position: FeedPosition, filter: Filter, *, size: int, backlog: int
) -> FeedPage:
    """Return the changes directly after `position`: of the next `size` changes, those whose runs match the filter.

    When more than `backlog` changes follow the position, or when the feed cannot be resumed from it, the page is empty,
    has a gap, and ends at a later position.
    """
    ((horizon, next_transaction, is_blocked),) = connection.fetch(_HORIZON)
    if not _is_resumable(position, next_transaction, connection.now):
        return FeedPage([], current_position(connection), has_more=True, has_gap=True)
    shape, parameters = shape_of(filter, TASK_RUN_FIELDS)
    bounds = {"transaction": position.transaction, "id": position.id, "horizon": horizon}
    rows = connection.fetch(_page_statement(shape, size), {**parameters, **bounds})
    if len(rows) < size:
        end = _position_of(rows[-1]) if rows else position
        return FeedPage(_changes_from(rows, connection.now), end, is_blocked=bool(is_blocked))
    if connection.fetch(_EXCEEDS_BACKLOG, {**bounds, "backlog": backlog}):
        before_last_page = connection.fetch(_BEFORE_LAST_PAGE, {"horizon": horizon, "size": size})
        # Runs may have been deleted meanwhile, and less than a page of changes may be left.
        end = _position_of(before_last_page[0]) if before_last_page else current_position(connection)
        return FeedPage([], end, has_more=True, has_gap=True)
    return FeedPage(_changes_from(rows, connection.now), _position_of(rows[-1]), has_more=True)


def first_blocked_timestamp(connection: Connection) -> str | None:
    """Return the timestamp of the first committed state that no page contains yet; None when no state is blocked.

    An older transaction is still open, in any database of the PostgreSQL cluster. PostgreSQL only.
    """
    rows = connection.fetch(_FIRST_BLOCKED)
    return rows[0][0] if rows else None


def _is_resumable(position: FeedPosition, next_transaction: int | None, now: str) -> bool:
    """Return whether the feed can be resumed from the position.

    A position of another database may be in the future of this one.
    """
    if next_transaction is None:
        return position.transaction is None and position.id < new_id(now)
    return position.transaction is not None and position.transaction < next_transaction


def _changes_from(rows: Sequence[Row], now: str) -> list[FeedChange]:
    return [
        FeedChange(
            _position_of(row),
            task_run_from_row(row[_RUN:_STATE], now),
            state_from_row(row[_STATE:_PREVIOUS]),
            None if row[_PREVIOUS] is None else StateType(row[_PREVIOUS]),
        )
        for row in rows
        if row[_RUN] is not None
    ]


def _position_of(row: Row) -> FeedPosition:
    return FeedPosition(row[0], row[1])


_RUN = 2
_STATE = _RUN + TASK_RUN_WIDTH + STATE_WIDTH
_PREVIOUS = _STATE + STATE_WIDTH


# --- transaction numbers of PostgreSQL ---


def _as_integer(transaction: ColumnElement[Any]) -> ColumnElement[int]:
    return cast(cast(transaction, Text), BigInteger)


_OLDEST_OPEN = _as_integer(func.pg_snapshot_xmin(func.pg_current_snapshot()))
_NEXT = _as_integer(func.pg_snapshot_xmax(func.pg_current_snapshot()))
_current_state = task_run_state.alias("last")
_CURRENT_STATE_WRITTEN_IN = (
    # A database that was copied from another server may have numbers that this server has not reached yet. They are not
    # excluded by WHERE, for which PostgreSQL could read all smaller numbers from an index.
    select(case((_current_state.c.written_in < _NEXT, _current_state.c.written_in)))
    .join_from(task_run, _current_state, _current_state.c.id == task_run.c.state_id)
    .where(task_run.c.id == bindparam("of_run", required=True, type_=Id))
    .scalar_subquery()
)
WRITTEN_IN = func.greatest(_as_integer(func.pg_current_xact_id()), _CURRENT_STATE_WRITTEN_IN)
"""The `written_in` of a new state of the run `of_run`, whose row must still refer to the previous state."""


# --- statements ---

_transaction = bindparam("transaction", required=True, type_=BigInteger())
_id = bindparam("id", required=True, type_=Id)
_horizon = bindparam("horizon", required=True, type_=BigInteger())
_size: BindParameter[int] = bindparam("size", required=True)
_backlog: BindParameter[int] = bindparam("backlog", required=True)
_written_in, _state_id = task_run_state.c.written_in, task_run_state.c.id
_POSITION_COLUMNS: list[ColumnElement[Any]] = [_written_in, _state_id]

_HORIZON = Statement(
    select(null(), null(), false()),
    postgresql=select(_OLDEST_OPEN, _NEXT, exists().where(_written_in >= _OLDEST_OPEN)),
)
# Excludes the numbers of a database that was copied from another server, which no transaction has reached yet.
_FIRST_BLOCKED = Statement(
    select(task_run_state.c.timestamp)
    .where(_written_in >= _OLDEST_OPEN, _written_in < _NEXT)
    .order_by(_written_in, _state_id)
    .limit(literal_column("1")),
)
_CURRENT_POSITION = Statement(
    select(null(), func.max(_state_id)), postgresql=select(_OLDEST_OPEN - 1, literal(MAX_ID, Text()))
)


def _after_position(selected: Select[Any]) -> tuple[Select[Any], Select[Any]]:
    """Select what follows the position, in the order of the feed. Returns the queries for SQLite and for PostgreSQL."""
    return (
        selected.where(_state_id > _id).order_by(_state_id),
        selected.where(tuple_(_written_in, _state_id) > tuple_(_transaction, _id), _written_in < _horizon).order_by(
            _written_in, _state_id
        ),
    )


_backlog_on_sqlite, _backlog_on_postgresql = _after_position(select(*_POSITION_COLUMNS).limit(1).offset(_backlog))
_EXCEEDS_BACKLOG = Statement(_backlog_on_sqlite, postgresql=_backlog_on_postgresql)
_newest = select(*_POSITION_COLUMNS).limit(1).offset(_size)
_BEFORE_LAST_PAGE = Statement(
    _newest.order_by(_state_id.desc()),
    postgresql=_newest.where(_written_in < _horizon).order_by(_written_in.desc(), _state_id.desc()),
)


@lru_cache(MAX_CACHED_STATEMENTS)
def _page_statement(shape: Shape, size: int) -> Statement:
    # The size is a literal: for an unknown LIMIT, PostgreSQL assumes a tenth of the table and would read all of it.
    part = select(*_POSITION_COLUMNS, task_run_state.c.run_id).limit(literal_column(str(size)))
    on_sqlite, on_postgresql = _after_position(part)
    return Statement(_with_records(shape, on_sqlite), postgresql=_with_records(shape, on_postgresql))


def _with_records(shape: Shape, part: Select[Any]) -> Select[Any]:
    """Add the run and its states to each row of a part of the feed, or nulls when the run does not match the filter.

    The position thereby advances past changes that do not match, and no statement reads more of the feed than a page.
    """
    each = part.subquery("part")
    state, current, previous = (task_run_state.alias(name) for name in ("change", "current", "previous"))
    matches_filter = and_(task_run.c.id == each.c.run_id, *clauses_of(shape, TASK_RUN_FIELDS, task_run))
    previous_type = (
        select(previous.c.type)
        .where(
            previous.c.run_id == state.c.run_id,
            tuple_(previous.c.timestamp, previous.c.id) < tuple_(state.c.timestamp, state.c.id),
        )
        .order_by(previous.c.timestamp.desc(), previous.c.id.desc())
        .limit(1)
        .correlate(state)
        .scalar_subquery()
    )
    return (
        select(
            each.c.written_in,
            each.c.id,
            *record_columns(task_run, TaskRunRecord),
            *record_columns(current, StateRecord),
            *record_columns(state, StateRecord),
            previous_type,
        )
        .select_from(
            each.outerjoin(task_run, matches_filter)
            .outerjoin(state, and_(state.c.id == each.c.id, task_run.c.id.is_not(None)))
            .outerjoin(current, current.c.id == task_run.c.state_id)
        )
        .order_by(each.c.written_in, each.c.id)
    )

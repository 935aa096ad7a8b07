"""The feed: changes of task runs' states, read page by page from a place on. The states themselves are the log.

A place has to be one in an order of commits: what is committed after a page was read must come after that page, or it would
never be read. On SQLite there is one writer, whose ids rise, so the state's id is its place.

On PostgreSQL transactions commit in another order than they begin in. A state is `written_in` its transaction's number, and
a page ends before the oldest transaction that is still open: below that, nothing can be added any more. A transaction that
has waited for a run may have a smaller number than the one it waited for; it then takes over the number of the run's last
state, which keeps a run's states in their order. That is safe, since a number is only ever raised: whoever may still
write with a number has itself a number that is not greater, and holds the page back.
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
from db.query.pagination import MOST_STATEMENTS
from db.records import StateRecord, TaskRunRecord
from db.row_mapping import STATE_WIDTH, TASK_RUN_WIDTH, columns_of, state_from, task_run_from
from db.runtime.ids import new_id
from db.sql.statement import Statement
from db.tables import Id, task_run, task_run_state

LEAST_ID = "00000000-0000-0000-0000-000000000000"
GREATEST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"


@dataclass(frozen=True, slots=True)
class FeedPlace:
    """A place in the feed: right behind the state with this id, whether that is still there or not."""

    transaction: int | None
    """What the state was written in; None on a database with a single writer."""
    id: str


@dataclass(frozen=True, slots=True)
class Change:
    """That a task run took a state; the run as it was when this was read."""

    place: FeedPlace
    task_run: TaskRunRecord
    state: StateRecord
    previous_state_type: StateType | None


@dataclass(frozen=True, slots=True)
class FeedPage:
    """The changes of a part of the feed that the filter lets through."""

    changes: Sequence[Change]
    end: FeedPlace
    """Where to read on."""
    goes_on: bool = False
    """Whether there may be more already."""
    is_held_up: bool = False
    """Whether there are changes that can not be read before an older transaction has ended."""
    has_gap: bool = False
    """Whether it begins further on than where it was to begin: changes between the two are left out."""


def present_place(connection: Connection) -> FeedPlace:
    """The place behind all that is written by now. Transactions that are still open are going to be after it."""
    ((transaction, id),) = connection.fetch(_PRESENT)
    return FeedPlace(transaction, id or LEAST_ID)


def read_changes(connection: Connection, place: FeedPlace, filter: Filter, *, size: int, backlog: int) -> FeedPage:
    """The changes right behind `place`: of the next `size`, those whose runs the filter lets through.

    Where more than `backlog` are waiting there, and where nobody can tell what has been since, the page is empty, has a
    gap, and ends further on.
    """
    ((horizon, next_transaction, is_held_up),) = connection.fetch(_HORIZON)
    if not _can_go_on(place, next_transaction):
        return FeedPage([], present_place(connection), goes_on=True, has_gap=True)
    shape, parameters = shape_of(filter, TASK_RUN_FIELDS)
    bounds = {"transaction": place.transaction, "id": place.id, "horizon": horizon}
    rows = connection.fetch(_page_statement(shape, size), {**parameters, **bounds})
    if len(rows) < size:
        end = _place_of(rows[-1]) if rows else place
        return FeedPage(_changes_from(rows, connection.now), end, is_held_up=bool(is_held_up))
    if connection.fetch(_BEYOND, {**bounds, "backlog": backlog}):
        before_last = connection.fetch(_BEFORE_LAST, {"horizon": horizon, "size": size})
        # Runs may be deleted meanwhile, so that there are no longer so many.
        end = _place_of(before_last[0]) if before_last else present_place(connection)
        return FeedPage([], end, goes_on=True, has_gap=True)
    return FeedPage(_changes_from(rows, connection.now), _place_of(rows[-1]), goes_on=True)


def _can_go_on(place: FeedPlace, next_transaction: int | None) -> bool:
    """Whether all that has been written since is behind the place: not so for one in another database's future."""
    if next_transaction is None:
        return place.transaction is None and place.id < new_id()
    return place.transaction is not None and place.transaction < next_transaction


def _changes_from(rows: Sequence[Row], now: str) -> list[Change]:
    return [
        Change(
            _place_of(row),
            task_run_from(row[_RUN:_STATE], now),
            state_from(row[_STATE:_PREVIOUS]),
            None if row[_PREVIOUS] is None else StateType(row[_PREVIOUS]),
        )
        for row in rows
        if row[_RUN] is not None
    ]


def _place_of(row: Row) -> FeedPlace:
    return FeedPlace(row[0], row[1])


_RUN = 2
_STATE = _RUN + TASK_RUN_WIDTH + STATE_WIDTH
_PREVIOUS = _STATE + STATE_WIDTH


# --- transactions of PostgreSQL ---


def _number(transaction: ColumnElement[Any]) -> ColumnElement[int]:
    return cast(cast(transaction, Text), BigInteger)


_OLDEST_OPEN = _number(func.pg_snapshot_xmin(func.pg_current_snapshot()))
_NEXT = _number(func.pg_snapshot_xmax(func.pg_current_snapshot()))
_last = task_run_state.alias("last")
_LAST_WRITTEN_IN = (
    select(_last.c.written_in)
    .join_from(task_run, _last, _last.c.id == task_run.c.state_id)
    # A database that was copied from another server has numbers that are still to come here.
    .where(task_run.c.id == bindparam("of_run", required=True, type_=Id), _last.c.written_in < _NEXT)
    .scalar_subquery()
)
WRITTEN_IN = func.greatest(_number(func.pg_current_xact_id()), _LAST_WRITTEN_IN)
"""What a new state of the run `of_run` is written in, whose state in its table is still the one before."""


# --- statements ---

_transaction = bindparam("transaction", required=True, type_=BigInteger())
_id = bindparam("id", required=True, type_=Id)
_horizon = bindparam("horizon", required=True, type_=BigInteger())
_size: BindParameter[int] = bindparam("size", required=True)
_backlog: BindParameter[int] = bindparam("backlog", required=True)
_written_in, _state_id = task_run_state.c.written_in, task_run_state.c.id
_PLACE: list[ColumnElement[Any]] = [_written_in, _state_id]

_HORIZON = Statement(
    select(null(), null(), false()),
    postgresql=select(_OLDEST_OPEN, _NEXT, exists().where(_written_in >= _OLDEST_OPEN)),
)
_PRESENT = Statement(
    select(null(), func.max(_state_id)), postgresql=select(_OLDEST_OPEN - 1, literal(GREATEST_ID, Text()))
)


def _behind_place(selected: Select[Any]) -> tuple[Select[Any], Select[Any]]:
    """What is behind the place, in the order of the feed: on SQLite, on PostgreSQL."""
    return (
        selected.where(_state_id > _id).order_by(_state_id),
        selected.where(tuple_(_written_in, _state_id) > tuple_(_transaction, _id), _written_in < _horizon).order_by(
            _written_in, _state_id
        ),
    )


_beyond_on_sqlite, _beyond_on_postgresql = _behind_place(select(*_PLACE).limit(1).offset(_backlog))
_BEYOND = Statement(_beyond_on_sqlite, postgresql=_beyond_on_postgresql)
_last_ones = select(*_PLACE).limit(1).offset(_size)
_BEFORE_LAST = Statement(
    _last_ones.order_by(_state_id.desc()),
    postgresql=_last_ones.where(_written_in < _horizon).order_by(_written_in.desc(), _state_id.desc()),
)


@lru_cache(MOST_STATEMENTS)
def _page_statement(shape: Shape, size: int) -> Statement:
    # The size is written out: PostgreSQL takes an unknown one for a tenth of the table, and would read all of it.
    part = select(*_PLACE, task_run_state.c.run_id).limit(literal_column(str(size)))
    on_sqlite, on_postgresql = _behind_place(part)
    return Statement(_with_records(shape, on_sqlite), postgresql=_with_records(shape, on_postgresql))


def _with_records(shape: Shape, part: Select[Any]) -> Select[Any]:
    """Each row of a part of the feed; nulls beside it where the filter does not let its run through.

    So the place moves on over whatever is not let through, and no statement looks at more of the feed than a page.
    """
    each = part.subquery("part")
    state, current, previous = (task_run_state.alias(name) for name in ("change", "current", "previous"))
    is_let_through = and_(task_run.c.id == each.c.run_id, *clauses_of(shape, TASK_RUN_FIELDS, task_run))
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
            *columns_of(task_run, TaskRunRecord),
            *columns_of(current, StateRecord),
            *columns_of(state, StateRecord),
            previous_type,
        )
        .select_from(
            each.outerjoin(task_run, is_let_through)
            .outerjoin(state, and_(state.c.id == each.c.id, task_run.c.id.is_not(None)))
            .outerjoin(current, current.c.id == task_run.c.state_id)
        )
        .order_by(each.c.written_in, each.c.id)
    )

"""Pages of lists: a few rows of those that a filter lets through, in an order, from a place on.

A place is told by what the order goes by (the *key*) and the id, not by counting: reading on from it walks an index to
there, however long the list is. Nulls count as less than any value: they are first in ascending and last in descending
order, so that either is the other one backwards. Where an order has nulls, the list is read as two parts, since no
comparison of keys goes across them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import ColumnElement, FromClause, Select, Table, Text, bindparam, func, select, tuple_

from db.connection import Connection, Row
from db.query.filters import Fields, Filter, Shape, clauses_of, shape_of
from db.sql.dialects import by_code_point, is_among, is_one_of, rows_of
from db.sql.statement import Parameters, Statement
from db.tables import Id

Record = TypeVar("Record")

MOST_STATEMENTS = 1000
"""How many statements are kept. Their shapes come from clients, so there may be any number."""


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What is wanted of each row: columns, and the tables that they come from, the listed one among them.

    Statements are kept for each selection by its identity: make one once, not for each page.
    """

    columns: tuple[ColumnElement[Any], ...]
    source: FromClause


@dataclass(frozen=True, slots=True, eq=False)
class Listing(Generic[Record]):
    """A table that lists are made of."""

    table: Table
    fields: Fields
    """What a filter may ask about."""
    whole: Selection
    """All that a record is made of."""
    read: Callable[[Row, str], Record]
    """The record from a row of `whole` and the time at which it was read."""

    @property
    def name(self) -> str:
        return self.table.name


@dataclass(frozen=True, slots=True)
class Order:
    """What a list goes by: a column, and then the id in the same direction."""

    key: str
    descending: bool

    @classmethod
    def of(cls, sort: str) -> "Order":
        """The order that is called as in `START_TIME_DESC`."""
        key, _, direction = sort.rpartition("_")
        return cls(key.lower(), descending=direction == "DESC")

    @property
    def goes_by_time(self) -> bool:
        """Whether its keys are instants."""
        return self.key not in {"id", "name"}


LATEST_FIRST = Order("id", descending=True)
OLDEST_FIRST = Order("id", descending=False)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a list: between a row with this key and id and the rows after it, or before it."""

    key: Any
    id: str
    takes_in: bool = False
    """Whether that row itself is on the side that is asked for."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list: so many rows of those after one place and before another, from the front or the back."""

    size: int
    from_back: bool = False
    after: Place | None = None
    before: Place | None = None
    offset: int = 0
    """How many rows to leave out, at the side that it begins from. Not together with a place."""


@dataclass(frozen=True, slots=True)
class Parent:
    """The row that a list belongs to: the column that has its id, and the id."""

    column: str
    id: str


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of a page in the order of the list: key, id, and what was selected."""

    rows: list[Row] = field(default_factory=list[Row])
    goes_on: bool = False
    """Whether there are more, at the side that it does not begin from."""


BEFORE_SELECTED = 2
"""How many columns a page's rows have before those that were selected."""


def read_page(
    connection: Connection,
    listing: Listing[Any],
    filter: Filter,
    order: Order,
    window: Window,
    *,
    parent: Parent | None = None,
    selection: Selection | None = None,
) -> Page:
    """One page of the list of all rows, or of those that belong to `parent`."""
    shape, parameters = shape_of(filter, listing.fields)
    wanted = window.size + 1
    rows: list[Row] = []
    for part in _parts(listing, order, window):
        statement = _page_statement(
            listing, shape, order, window.from_back, part.cut, parent and parent.column, selection or listing.whole
        )
        given = {**parameters, **part.parameters, "limit": wanted - len(rows), "offset": window.offset}
        rows += connection.fetch(statement, {**given, "parent": parent.id} if parent else given)
        if len(rows) == wanted:
            break
    return _page(rows, window)


def read_pages(
    connection: Connection,
    listing: Listing[Any],
    filter: Filter,
    order: Order,
    window: Window,
    parents: Sequence[Parent],
    selection: Selection | None = None,
) -> list[Page]:
    """The same page of each parent's list, in one statement. The window has no places; the parents, one column."""
    assert window.after is None
    assert window.before is None
    shape, parameters = shape_of(filter, listing.fields)
    statement = _pages_statement(listing, shape, order, window.from_back, parents[0].column, selection or listing.whole)
    given = {"parents": [[id] for id in dict.fromkeys(parent.id for parent in parents)]}
    limits = {"limit": window.size + 1, "offset": window.offset}
    found: dict[str, list[Row]] = {parent.id: [] for parent in parents}
    for parent_id, *row in connection.fetch(statement, {**parameters, **given, **limits}):
        found[parent_id].append(tuple(row))
    return [_page(list(found[parent.id]), window) for parent in parents]


def count_rows(connection: Connection, listing: Listing[Any], filter: Filter) -> int:
    """How many rows the filter lets through."""
    shape, parameters = shape_of(filter, listing.fields)
    return connection.fetch(_count_statement(listing, shape), parameters)[0][0]


def count_rows_of(
    connection: Connection, listing: Listing[Any], filter: Filter, parents: Sequence[Parent]
) -> list[int]:
    """How many rows of each parent the filter lets through. The parents have one column."""
    shape, parameters = shape_of(filter, listing.fields)
    statement = _counts_statement(listing, shape, parents[0].column)
    counts = dict(connection.fetch(statement, {**parameters, "parents": [parent.id for parent in parents]}))
    return [counts.get(parent.id, 0) for parent in parents]


def _page(rows: list[Row], window: Window) -> Page:
    goes_on = len(rows) > window.size
    del rows[window.size :]
    if window.from_back:
        rows.reverse()
    return Page(rows, goes_on)


# --- where a page begins and ends ---

Bound = Literal["", "past", "from"]
"""No bound; one that leaves out the row at its place; one that takes it in."""

Keys = Literal["all", "ids", "values", "nulls"]
Cut = tuple[Keys, Bound, Bound]
"""Rows with which keys (`ids`: the id is the key), and whether they are bounded from below and from above."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a list that one statement reads."""

    cut: Cut
    parameters: Parameters


def _parts(listing: Listing[Any], order: Order, window: Window) -> list[_Part]:
    """What to read, one after the other, until the page is full."""
    low, high = (window.before, window.after) if order.descending else (window.after, window.before)
    if low is None and high is None:
        return [_Part(("all", "", ""), {})]
    if order.key == "id":
        return [_part("ids", low, high)]
    values = _part("values", low if low and low.key is not None else None, high)
    if not listing.table.c[order.key].nullable:
        return [values]
    nulls = _part("nulls", low, high if high and high.key is None else None)
    parts = [nulls] if low is None or low.key is None else []
    if high is None or high.key is not None:
        parts.append(values)
    return parts if order.descending == window.from_back else parts[::-1]


def _part(keys: Keys, low: Place | None, high: Place | None) -> _Part:
    parameters: dict[str, Any] = {}
    bounds: list[Bound] = []
    for name, place in (("low", low), ("high", high)):
        if place is None:
            bounds.append("")
            continue
        bounds.append("from" if place.takes_in else "past")
        parameters[f"{name}_id"] = place.id
        if keys == "values":
            parameters[f"{name}_key"] = place.key
    return _Part((keys, bounds[0], bounds[1]), parameters)


# --- statements ---


@lru_cache(MOST_STATEMENTS)
def _page_statement(
    listing: Listing[Any],
    shape: Shape,
    order: Order,
    from_back: bool,
    cut: Cut,
    parent_column: str | None,
    selection: Selection,
) -> Statement:
    table = listing.table
    selected = select(table.c[order.key], table.c.id, *selection.columns).select_from(selection.source)
    if parent_column is not None:
        selected = selected.where(table.c[parent_column] == bindparam("parent", required=True))
    selected = selected.where(*clauses_of(shape, listing.fields, table), *_within(cut, order, table))
    return Statement(_limited(_ordered(selected, order, from_back, table)))


@lru_cache(MOST_STATEMENTS)
def _pages_statement(
    listing: Listing[Any],
    shape: Shape,
    order: Order,
    from_back: bool,
    parent_column: str,
    selection: Selection,
) -> Statement:
    """The ids of a page are looked for once for each parent; the rows are then read by their ids."""
    table, parents = listing.table, rows_of("parents", id=Id)
    inner = listing.table.alias("paged")
    of_parent = select(inner.c.id).where(
        inner.c[parent_column] == parents.c.id, *clauses_of(shape, listing.fields, inner)
    )
    ids = _limited(_ordered(of_parent, order, from_back, inner)).correlate(parents)
    selected = select(parents.c.id, table.c[order.key], table.c.id, *selection.columns).select_from(
        selection.source.join(parents, is_one_of(table.c.id, ids))
    )
    return Statement(_ordered(selected, order, from_back, table))


@lru_cache(MOST_STATEMENTS)
def _count_statement(listing: Listing[Any], shape: Shape) -> Statement:
    table = listing.table
    clauses = clauses_of(shape, listing.fields, table, "at once")
    return Statement(select(func.count()).select_from(table).where(*clauses))


@lru_cache(MOST_STATEMENTS)
def _counts_statement(listing: Listing[Any], shape: Shape, parent_column: str) -> Statement:
    table = listing.table
    column = table.c[parent_column]
    counted = select(column, func.count()).select_from(table).group_by(column)
    return Statement(counted.where(is_among(column, "parents"), *clauses_of(shape, listing.fields, table)))


def _key(order: Order, table: FromClause) -> ColumnElement[Any]:
    column = table.c[order.key]
    return by_code_point(column) if isinstance(column.type, Text) else column


def _ordered(
    selected: Select[Any],
    order: Order,
    from_back: bool,
    table: FromClause,
) -> Select[Any]:
    key, id = _key(order, table), table.c.id
    nullable = table.c[order.key].nullable
    if order.descending != from_back:
        keys = [key.desc().nulls_last() if nullable else key.desc(), id.desc()]
    else:
        keys = [key.asc().nulls_first() if nullable else key.asc(), id.asc()]
    return selected.order_by(*(keys[1:] if order.key == "id" else keys))


def _limited(selected: Select[Any]) -> Select[Any]:
    return selected.limit(bindparam("limit", required=True)).offset(bindparam("offset", required=True))


def _within(cut: Cut, order: Order, table: FromClause) -> list[ColumnElement[bool]]:
    keys, low, high = cut
    column, key, id = table.c[order.key], _key(order, table), table.c.id
    clauses: list[ColumnElement[bool]] = []
    if keys == "nulls":
        clauses.append(column.is_(None))
    elif keys == "values" and column.nullable and not low and not high:
        clauses.append(column.is_not(None))
    bounds: list[tuple[str, Bound]] = [("low", low), ("high", high)]
    for name, bound in bounds:
        if not bound:
            continue
        place_id = bindparam(f"{name}_id", required=True, type_=id.type)
        if keys != "values":
            ours, its = id, place_id
        else:
            # Compared as rows, the two can bound a walk through an index over both.
            ours, its = tuple_(key, id), tuple_(bindparam(f"{name}_key", required=True, type_=column.type), place_id)
        clauses.append(_beyond(name, bound, ours, its))
    return clauses


def _beyond(name: str, bound: Bound, ours: Any, its: Any) -> ColumnElement[bool]:
    if name == "low":
        return ours >= its if bound == "from" else ours > its
    return ours <= its if bound == "from" else ours < its

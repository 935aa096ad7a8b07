"""Pages of filtered and sorted lists.

A position in a list is given by the value of the sort column (the *key*) and the id, not by a count. Reading from a
position seeks in an index, however long the list is. Nulls sort below every value: first in ascending and last in
descending order. Each order is therefore the reverse of the other. If the sort column can be null, the list is read in
two parts, because no comparison of keys covers both nulls and values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import BindParameter, ColumnElement, FromClause, Select, Table, Text, bindparam, func, select, tuple_

from db.connection import Connection, Row
from db.query.filters import Filter, FilterFields, Shape, clauses_of, shape_of
from db.sql.lists import is_among, unnest_rows
from db.sql.planner_hints import is_in_subquery
from db.sql.statement import Parameters, Statement
from db.sql.text import collate_by_code_point
from db.tables import Id

Record = TypeVar("Record")

MAX_CACHED_STATEMENTS = 1000
"""Maximum number of cached statements of each kind. Clients choose their shapes, whose number is unbounded."""


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The columns to read of each row, and the tables that contain them, including the listed table.

    Statements are cached by the identity of the selection: create a selection once, not for each page.
    """

    columns: tuple[ColumnElement[Any], ...]
    source: FromClause


@dataclass(frozen=True, slots=True, eq=False)
class Listing(Generic[Record]):
    """A table whose rows can be listed, filtered and paged through."""

    table: Table
    fields: FilterFields
    """Fields that a filter can use."""
    record_selection: Selection
    """The columns of a whole record."""
    to_record: Callable[[Row, str], Record]
    """Builds a record from a row of `record_selection` and the time at which the row was read."""

    @property
    def name(self) -> str:
        return self.table.name


@dataclass(frozen=True, slots=True)
class SortOrder:
    """Sort order of a list: a column, with ties broken by id in the same direction."""

    key: str
    descending: bool

    @classmethod
    def parse(cls, sort: str) -> "SortOrder":
        """Parse the name of a sort order, such as `START_TIME_DESC`."""
        key, _, direction = sort.rpartition("_")
        return cls(key.lower(), descending=direction == "DESC")

    @property
    def is_by_time(self) -> bool:
        """Whether the keys are timestamps."""
        return self.key not in {"id", "name"}


LATEST_FIRST = SortOrder("id", descending=True)
OLDEST_FIRST = SortOrder("id", descending=False)


@dataclass(frozen=True, slots=True)
class Position:
    """A point in a list, directly before or after the row with this key and id."""

    key: Any
    id: str
    is_inclusive: bool = False
    """Whether that row itself is on the requested side."""


@dataclass(frozen=True, slots=True)
class PageWindow:
    """The part of a list to read: at most `size` rows between two positions, from the start or from the end."""

    size: int
    from_end: bool = False
    after: Position | None = None
    before: Position | None = None
    offset: int = 0
    """Number of rows to skip, on the side from which the page is read. Cannot be combined with a position."""


@dataclass(frozen=True, slots=True)
class Parent:
    """The parent row of a list: the column that contains the parent's id, and the id."""

    column: str
    id: str


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of a page in the order of the list. A row has the key, the id and the selected columns."""

    rows: list[Row] = field(default_factory=list[Row])
    has_more: bool = False
    """Whether the list has more rows, on the side opposite to the one from which the page is read."""


LEADING_COLUMNS = 2
"""Number of columns before the selected columns in each row of a page."""


def read_page(
    connection: Connection,
    listing: Listing[Any],
    filter: Filter,
    order: SortOrder,
    window: PageWindow,
    *,
    parent: Parent | None = None,
    selection: Selection | None = None,
    lock: bool = False,
) -> Page:
    """Read one page of the list of all rows, or of those that belong to `parent`.

    With `lock`, lock its rows and the next one until the transaction ends. Waits for rows that others have locked; rows
    that no longer match the filter then are not part of the page.
    """
    shape, parameters = shape_of(filter, listing.fields)
    row_limit = window.size + 1
    rows: list[Row] = []
    for partial in _split_into_reads(listing, order, window):
        statement = _page_statement(
            listing,
            shape,
            order,
            window.from_end,
            partial.key_range,
            parent and parent.column,
            selection or listing.record_selection,
            lock,
        )
        fetch = connection.fetch_locked if lock else connection.fetch
        arguments = {**parameters, **partial.parameters, "limit": row_limit - len(rows), "offset": window.offset}
        rows += fetch(statement, {**arguments, "parent": parent.id} if parent else arguments)
        if len(rows) == row_limit:
            break
    return _page(rows, window)


def read_pages(
    connection: Connection,
    listing: Listing[Any],
    filter: Filter,
    order: SortOrder,
    window: PageWindow,
    parents: Sequence[Parent],
    selection: Selection | None = None,
) -> list[Page]:
    """Read the same page of each parent's list in one statement, in the order of `parents`.

    The window must not have positions, and all parents must have the same column.
    """
    assert window.after is None
    assert window.before is None
    shape, parameters = shape_of(filter, listing.fields)
    statement = _pages_statement(
        listing, shape, order, window.from_end, parents[0].column, selection or listing.record_selection
    )
    arguments = {"parents": [[id] for id in dict.fromkeys(parent.id for parent in parents)]}
    limits = {"limit": window.size + 1, "offset": window.offset}
    found: dict[str, list[Row]] = {parent.id: [] for parent in parents}
    for parent_id, *row in connection.fetch(statement, {**parameters, **arguments, **limits}):
        found[parent_id].append(tuple(row))
    return [_page(list(found[parent.id]), window) for parent in parents]


def count_rows(connection: Connection, listing: Listing[Any], filter: Filter, at_most: int | None = None) -> int:
    """Count the rows that match the filter. Stops at `at_most`, which then means that number or more."""
    shape, parameters = shape_of(filter, listing.fields)
    if at_most is None:
        return connection.fetch(_count_statement(listing, shape), parameters)[0][0]
    return connection.fetch(_limited_count_statement(listing, shape), {**parameters, "at_most": at_most})[0][0]


def count_rows_by_parent(
    connection: Connection,
    listing: Listing[Any],
    filter: Filter,
    parents: Sequence[Parent],
    at_most: int | None = None,
) -> list[int]:
    """Count the rows of each parent as `count_rows` does. All parents must have the same column."""
    shape, parameters = shape_of(filter, listing.fields)
    ids, column = list(dict.fromkeys(parent.id for parent in parents)), parents[0].column
    if at_most is None:
        rows = connection.fetch(_counts_statement(listing, shape, column), {**parameters, "parents": ids})
    else:
        arguments = {**parameters, "parents": [[id] for id in ids], "at_most": at_most}
        rows = connection.fetch(_limited_counts_statement(listing, shape, column), arguments)
    counts = dict(rows)
    return [counts.get(parent.id, 0) for parent in parents]


def _page(rows: list[Row], window: PageWindow) -> Page:
    has_more = len(rows) > window.size
    del rows[window.size :]
    if window.from_end:
        rows.reverse()
    return Page(rows, has_more)


# --- bounds of a page ---

BoundType = Literal["", "exclusive", "inclusive"]
"""No bound; a bound that excludes the row at its position; a bound that includes it."""

KeySubset = Literal["all", "ids", "values", "nulls"]
KeyRange = tuple[KeySubset, BoundType, BoundType]
"""Keys of the rows to read (`ids`: the key is the id), and their lower and upper bounds."""


@dataclass(frozen=True, slots=True)
class _PartialRead:
    """A part of a list that one statement reads."""

    key_range: KeyRange
    parameters: Parameters


def _split_into_reads(listing: Listing[Any], order: SortOrder, window: PageWindow) -> list[_PartialRead]:
    """Return the partial reads to execute in order until the page is full."""
    lower, upper = (window.before, window.after) if order.descending else (window.after, window.before)
    if lower is None and upper is None:
        return [_PartialRead(("all", "", ""), {})]
    if order.key == "id":
        return [_partial_read("ids", lower, upper)]
    values = _partial_read("values", lower if lower and lower.key is not None else None, upper)
    if not listing.table.c[order.key].nullable:
        return [values]
    nulls = _partial_read("nulls", lower, upper if upper and upper.key is None else None)
    reads = [nulls] if lower is None or lower.key is None else []
    if upper is None or upper.key is not None:
        reads.append(values)
    return reads if order.descending == window.from_end else reads[::-1]


def _partial_read(keys: KeySubset, lower: Position | None, upper: Position | None) -> _PartialRead:
    parameters: dict[str, Any] = {}
    bounds: list[BoundType] = []
    for name, position in (("low", lower), ("high", upper)):
        if position is None:
            bounds.append("")
            continue
        bounds.append("inclusive" if position.is_inclusive else "exclusive")
        parameters[f"{name}_id"] = position.id
        if keys == "values":
            parameters[f"{name}_key"] = position.key
    return _PartialRead((keys, bounds[0], bounds[1]), parameters)


# --- statements ---


@lru_cache(MAX_CACHED_STATEMENTS)
def _page_statement(
    listing: Listing[Any],
    shape: Shape,
    order: SortOrder,
    from_end: bool,
    key_range: KeyRange,
    parent_column: str | None,
    selection: Selection,
    lock: bool,
) -> Statement:
    table = listing.table
    selected = select(table.c[order.key], table.c.id, *selection.columns).select_from(selection.source)
    if parent_column is not None:
        selected = selected.where(table.c[parent_column] == bindparam("parent", required=True))
    selected = selected.where(*clauses_of(shape, listing.fields, table), *_range_clauses(key_range, order, table))
    selected = _limited(_ordered(selected, order, from_end, table))
    return Statement(selected.with_for_update(of=table, key_share=True) if lock else selected)


@lru_cache(MAX_CACHED_STATEMENTS)
def _pages_statement(
    listing: Listing[Any],
    shape: Shape,
    order: SortOrder,
    from_end: bool,
    parent_column: str,
    selection: Selection,
) -> Statement:
    """Build a statement that finds the ids of the page of each parent, and then reads the rows by their ids."""
    table, parents = listing.table, unnest_rows("parents", id=Id)
    paged_rows = listing.table.alias("paged")
    children = select(paged_rows.c.id).where(
        paged_rows.c[parent_column] == parents.c.id, *clauses_of(shape, listing.fields, paged_rows)
    )
    ids = _limited(_ordered(children, order, from_end, paged_rows)).correlate(parents)
    selected = select(parents.c.id, table.c[order.key], table.c.id, *selection.columns).select_from(
        selection.source.join(parents, is_in_subquery(table.c.id, ids))
    )
    return Statement(_ordered(selected, order, from_end, table))


@lru_cache(MAX_CACHED_STATEMENTS)
def _count_statement(listing: Listing[Any], shape: Shape) -> Statement:
    table = listing.table
    clauses = clauses_of(shape, listing.fields, table, "at once")
    return Statement(select(func.count()).select_from(table).where(*clauses))


@lru_cache(MAX_CACHED_STATEMENTS)
def _counts_statement(listing: Listing[Any], shape: Shape, parent_column: str) -> Statement:
    table = listing.table
    column = table.c[parent_column]
    counted = select(column, func.count()).select_from(table).group_by(column)
    return Statement(counted.where(is_among(column, "parents"), *clauses_of(shape, listing.fields, table)))


_at_most: BindParameter[int] = bindparam("at_most", required=True)


@lru_cache(MAX_CACHED_STATEMENTS)
def _limited_count_statement(listing: Listing[Any], shape: Shape) -> Statement:
    table = listing.table
    # Row by row: the database stops reading when it has found enough rows.
    counted = select(table.c.id).where(*clauses_of(shape, listing.fields, table)).limit(_at_most).subquery()
    return Statement(select(func.count()).select_from(counted))


@lru_cache(MAX_CACHED_STATEMENTS)
def _limited_counts_statement(listing: Listing[Any], shape: Shape, parent_column: str) -> Statement:
    table, parents = listing.table, unnest_rows("parents", id=Id)
    counted = (
        select(table.c.id)
        .where(table.c[parent_column] == parents.c.id, *clauses_of(shape, listing.fields, table))
        .limit(_at_most)
        .correlate(parents)
        .subquery()
    )
    return Statement(select(parents.c.id, select(func.count()).select_from(counted).scalar_subquery()))


def _sort_key(order: SortOrder, table: FromClause) -> ColumnElement[Any]:
    column = table.c[order.key]
    return collate_by_code_point(column) if isinstance(column.type, Text) else column


def _ordered(
    selected: Select[Any],
    order: SortOrder,
    from_end: bool,
    table: FromClause,
) -> Select[Any]:
    key, id = _sort_key(order, table), table.c.id
    nullable = table.c[order.key].nullable
    if order.descending != from_end:
        keys = [key.desc().nulls_last() if nullable else key.desc(), id.desc()]
    else:
        keys = [key.asc().nulls_first() if nullable else key.asc(), id.asc()]
    return selected.order_by(*(keys[1:] if order.key == "id" else keys))


def _limited(selected: Select[Any]) -> Select[Any]:
    return selected.limit(bindparam("limit", required=True)).offset(bindparam("offset", required=True))


def _range_clauses(key_range: KeyRange, order: SortOrder, table: FromClause) -> list[ColumnElement[bool]]:
    keys, lower, upper = key_range
    column, key, id = table.c[order.key], _sort_key(order, table), table.c.id
    clauses: list[ColumnElement[bool]] = []
    if keys == "nulls":
        clauses.append(column.is_(None))
    elif keys == "values" and column.nullable and not lower and not upper:
        clauses.append(column.is_not(None))
    bounds: list[tuple[str, BoundType]] = [("low", lower), ("high", upper)]
    for name, bound in bounds:
        if not bound:
            continue
        position_id = bindparam(f"{name}_id", required=True, type_=id.type)
        if keys != "values":
            row_key, bound_key = id, position_id
        else:
            # A comparison of rows can bound the scan of an index on both columns.
            row_key, bound_key = (
                tuple_(key, id),
                tuple_(bindparam(f"{name}_key", required=True, type_=column.type), position_id),
            )
        clauses.append(_bound_clause(name, bound, row_key, bound_key))
    return clauses


def _bound_clause(name: str, bound: BoundType, row_key: Any, bound_key: Any) -> ColumnElement[bool]:
    if name == "low":
        return row_key >= bound_key if bound == "inclusive" else row_key > bound_key
    return row_key <= bound_key if bound == "inclusive" else row_key < bound_key

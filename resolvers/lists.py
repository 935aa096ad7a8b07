"""Lists of records: pages and row counts, of one list or of the same list for many parents.

Requests are batched: lists that differ only in their parent cost one statement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from db.connection import Connection, Row
from db.enums import DeploymentSort, FlowRunSort, FlowSort, TaskRunSort
from db.query import pagination
from db.query.column_paths import MAX_CACHED_ROW_STATEMENTS, columns_for_flow_runs, columns_for_task_runs
from db.query.filters import Filter
from db.query.pagination import (
    LATEST_FIRST,
    LEADING_COLUMNS,
    Listing,
    PageWindow,
    Parent,
    Position,
    Selection,
    SortOrder,
)
from db.records import JsonText, to_json
from db.statements.flow_runs import FLOW_RUNS
from db.statements.flows import DEPLOYMENTS, FLOWS
from db.statements.task_runs import TASK_RUNS

__all__ = ["LEADING_COLUMNS", "Filter", "PageWindow", "Position"]

Record = TypeVar("Record")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class ListQuery(Generic[Record]):
    """A sorted list of the rows of one kind that match a filter. With a parent, only the rows of that parent."""

    listing: Listing[Record]
    filter: Filter
    order: SortOrder = LATEST_FIRST
    parent: Parent | None = None

    @property
    def signature(self) -> JsonText:
        """Key of the query without its parent id. Lists with the same signature are read together."""
        column = self.parent and self.parent.column
        return to_json([self.listing.name, self.filter, self.order.key, self.order.descending, column])


def task_runs(filter: Filter, sort: TaskRunSort, *, flow_run_id: str | None = None) -> ListQuery[Any]:
    """Build the query for all task runs, or for those of a flow run."""
    parent = None if flow_run_id is None else Parent("flow_run_id", flow_run_id)
    return ListQuery(TASK_RUNS, filter, SortOrder.parse(sort), parent)


def flow_runs(filter: Filter, sort: FlowRunSort, *, flow_id: str | None = None) -> ListQuery[Any]:
    """Build the query for all flow runs, or for those of a flow."""
    return ListQuery(FLOW_RUNS, filter, SortOrder.parse(sort), None if flow_id is None else Parent("flow_id", flow_id))


def flows(filter: Filter, sort: FlowSort) -> ListQuery[Any]:
    """Build the query for all flows."""
    return ListQuery(FLOWS, filter, SortOrder.parse(sort))


def deployments(filter: Filter, sort: DeploymentSort) -> ListQuery[Any]:
    """Build the query for all deployments."""
    return ListQuery(DEPLOYMENTS, filter, SortOrder.parse(sort))


@dataclass(frozen=True, slots=True, eq=False)
class PageRequest(Generic[Record]):
    """A list and the window of it to read."""

    list: ListQuery[Record]
    window: PageWindow


@dataclass(frozen=True, slots=True)
class ListPage(Generic[Record]):
    """The records of a page and their positions."""

    nodes: list[Record]
    positions: list[Position]
    has_more: bool
    """Whether the window's part of the list has more rows, on the side opposite to the one from which it is read."""

    @property
    def end_positions(self) -> tuple[Position, Position] | None:
        """The positions of the first and the last row; None if the page is empty."""
        return (self.positions[0], self.positions[-1]) if self.positions else None


def read_pages(connection: Connection, requests: Sequence[PageRequest[Any]]) -> list[ListPage[Any]]:
    """Read pages and return them in the order of the requests."""
    return _map_grouped(
        requests,
        lambda request: (request.list.signature, request.window, _unbatchable_parent(request)),
        lambda batch: _read_batch(connection, batch),
    )


@dataclass(frozen=True, slots=True)
class RowPage:
    """A page of plain rows instead of records. Each row has the `LEADING_COLUMNS` of its position and the requested
    columns."""

    rows: list[Row]
    has_more: bool
    read_at: str

    @property
    def positions(self) -> list[Position]:
        return [_position_of(row) for row in self.rows]

    @property
    def end_positions(self) -> tuple[Position, Position] | None:
        """The positions of the first and the last row; None if the page is empty."""
        return (_position_of(self.rows[0]), _position_of(self.rows[-1])) if self.rows else None


def _position_of(row: Row) -> Position:
    return Position(row[0], row[1])


def supports_row_pages(query: ListQuery[Any]) -> bool:
    """Return whether `read_row_page` can read this list."""
    return query.parent is None and query.listing.name in _COLUMNS


def read_row_page(connection: Connection, request: PageRequest[Any], paths: tuple[str, ...]) -> RowPage:
    """Read a page with only the columns of `paths`.

    The first path must be the id. It is not selected again, because it is the last of the `LEADING_COLUMNS`.
    """
    query = request.list
    selection = _selection(query.listing.name, paths[1:])
    page = pagination.read_page(
        connection, query.listing, query.filter, query.order, request.window, selection=selection
    )
    return RowPage(page.rows, page.has_more, connection.now)


_COLUMNS = {"task_run": columns_for_task_runs, "flow_run": columns_for_flow_runs}


@lru_cache(MAX_CACHED_ROW_STATEMENTS)
def _selection(name: str, paths: tuple[str, ...]) -> Selection:
    columns, source = _COLUMNS[name](paths)
    return Selection(tuple(columns), source)


def _unbatchable_parent(request: PageRequest[Any]) -> str | None:
    """Return the parent id of a page that starts or ends at a position, and None for every other page.

    A position is valid in one list only, so the page cannot be read together with pages of other parents.
    """
    window, parent = request.window, request.list.parent
    return parent.id if parent and (window.after or window.before) else None


def _read_batch(connection: Connection, requests: Sequence[PageRequest[Any]]) -> list[ListPage[Any]]:
    """Read pages of lists that differ only in their parent."""
    query, window = requests[0].list, requests[0].window
    parents = [request.list.parent for request in requests if request.list.parent is not None]
    if not parents or window.after or window.before:
        page = pagination.read_page(connection, query.listing, query.filter, query.order, window, parent=query.parent)
        return [_to_list_page(page, query.listing, connection.now)] * len(requests)
    found = pagination.read_pages(connection, query.listing, query.filter, query.order, window, parents)
    return [_to_list_page(page, query.listing, connection.now) for page in found]


def _to_list_page(page: pagination.Page, listing: Listing[Record], read_at: str) -> ListPage[Record]:
    nodes = [listing.to_record(row[LEADING_COLUMNS:], read_at) for row in page.rows]
    return ListPage(nodes, [_position_of(row) for row in page.rows], page.has_more)


@dataclass(frozen=True, slots=True)
class CountRequest:
    """A request to count the rows of a list, up to `at_most` of them; None for no limit."""

    list: ListQuery[Any]
    at_most: int | None = None


def count_list(connection: Connection, query: ListQuery[Any], at_most: int | None = None) -> int:
    """Count the rows of a list without a parent. Stops at `at_most`, which then means that number or more."""
    return pagination.count_rows(connection, query.listing, query.filter, at_most)


def count_lists(connection: Connection, requests: Sequence[CountRequest]) -> list[int]:
    """Count the rows of each list as `count_list` does."""
    return _map_grouped(
        requests, lambda each: (each.list.signature, each.at_most), lambda batch: _count_batch(connection, batch)
    )


def _count_batch(connection: Connection, requests: Sequence[CountRequest]) -> list[int]:
    query, at_most = requests[0].list, requests[0].at_most
    parents = [each.list.parent for each in requests if each.list.parent is not None]
    if parents:
        return pagination.count_rows_by_parent(connection, query.listing, query.filter, parents, at_most)
    return [count_list(connection, query, at_most)] * len(requests)


def has_rows(connection: Connection, query: ListQuery[Any], *, after: Position | None, before: Position | None) -> bool:
    """Return whether the list has rows after, or before, a position."""
    window = PageWindow(0, from_end=before is not None, after=after, before=before)
    listing, parent = query.listing, query.parent
    return pagination.read_page(connection, listing, query.filter, query.order, window, parent=parent).has_more


def _map_grouped(
    items: Sequence[Item], key: Callable[[Item], object], work: Callable[[Sequence[Item]], list[Result]]
) -> list[Result]:
    """Call `work` once for each group of items with equal keys, and return its results in the order of the items."""
    groups: dict[object, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(key(item), []).append(index)
    results: dict[int, Result] = {}
    for indexes in groups.values():
        results.update(zip(indexes, work([items[index] for index in indexes]), strict=True))
    return [results[index] for index in range(len(items))]

"""Lists: a page of one, or of one for each of many parents; whether there is more; how many rows there are.

What many rows of one answer ask for is read together: lists that differ in nothing but their parent cost one statement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from db.connection import Connection, Row
from db.enums import FlowRunSort, TaskRunSort
from db.query import pagination
from db.query.column_paths import MOST_ROW_STATEMENTS, columns_for_flow_runs, columns_for_task_runs
from db.query.filters import Filter
from db.query.pagination import BEFORE_SELECTED, LATEST_FIRST, Listing, Order, Parent, Place, Selection, Window
from db.records import JsonText, to_json
from db.statements.flow_runs import FLOW_RUNS
from db.statements.flows import DEPLOYMENTS, FLOWS
from db.statements.task_runs import TASK_RUNS

__all__ = ["BEFORE_SELECTED", "Filter", "Place", "Window"]

Record = TypeVar("Record")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class RowList(Generic[Record]):
    """A list: rows of a kind that a filter lets through, in an order; of one parent alone, where it has a parent."""

    listing: Listing[Record]
    filter: Filter
    order: Order = LATEST_FIRST
    parent: Parent | None = None

    @property
    def asked(self) -> JsonText:
        """What is asked, the same for the lists of all parents."""
        column = self.parent and self.parent.column
        return to_json([self.listing.name, self.filter, self.order.key, self.order.descending, column])


def task_runs(filter: Filter, sort: TaskRunSort, *, flow_run_id: str | None = None) -> RowList[Any]:
    """All task runs, or those of a flow run."""
    parent = None if flow_run_id is None else Parent("flow_run_id", flow_run_id)
    return RowList(TASK_RUNS, filter, Order.of(sort), parent)


def flow_runs(filter: Filter, sort: FlowRunSort, *, flow_id: str | None = None) -> RowList[Any]:
    """All flow runs, or those of a flow."""
    return RowList(FLOW_RUNS, filter, Order.of(sort), None if flow_id is None else Parent("flow_id", flow_id))


def flows(filter: Filter) -> RowList[Any]:
    """All flows, the latest first."""
    return RowList(FLOWS, filter)


def deployments(filter: Filter) -> RowList[Any]:
    """All deployments, the latest first."""
    return RowList(DEPLOYMENTS, filter)


@dataclass(frozen=True, slots=True, eq=False)
class Request(Generic[Record]):
    """A page that somebody wants."""

    list: RowList[Record]
    window: Window


@dataclass(frozen=True, slots=True)
class Page(Generic[Record]):
    """The rows of a page, each with its place."""

    nodes: list[Record]
    places: list[Place]
    goes_on: bool
    """Whether there are more of those that the window was opened on, at the side that it does not begin from."""

    @property
    def ends(self) -> tuple[Place, Place] | None:
        """The places of the first and the last row; None where there is none."""
        return (self.places[0], self.places[-1]) if self.places else None


def read_pages(connection: Connection, requests: Sequence[Request[Any]]) -> list[Page[Any]]:
    """The pages, in the order of the requests."""
    return _together(
        requests,
        lambda request: (request.list.asked, request.window, _stands_alone(request)),
        lambda alike: _read_alike(connection, alike),
    )


@dataclass(frozen=True, slots=True)
class RowPage:
    """As `Page`, but nothing is made of its rows: each is what its place is made of, and the columns that were asked for."""

    rows: list[Row]
    goes_on: bool
    read_at: str

    @property
    def places(self) -> list[Place]:
        return [_place_of(row) for row in self.rows]

    @property
    def ends(self) -> tuple[Place, Place] | None:
        """The places of the first and the last row; None where there is none."""
        return (_place_of(self.rows[0]), _place_of(self.rows[-1])) if self.rows else None


def _place_of(row: Row) -> Place:
    return Place(row[0], row[1])


def has_row_pages(wanted: RowList[Any]) -> bool:
    """Whether `read_row_page` can read this list."""
    return wanted.parent is None and wanted.listing.name in _COLUMNS


def read_row_page(connection: Connection, request: Request[Any], paths: tuple[str, ...]) -> RowPage:
    """The page, of each row only the columns that these paths name, behind the `BEFORE_SELECTED` of its place. The first
    path is the id, which is the last of those."""
    wanted = request.list
    selection = _selection(wanted.listing.name, paths[1:])
    page = pagination.read_page(
        connection, wanted.listing, wanted.filter, wanted.order, request.window, selection=selection
    )
    return RowPage(page.rows, page.goes_on, connection.now)


_COLUMNS = {"task_run": columns_for_task_runs, "flow_run": columns_for_flow_runs}


@lru_cache(MOST_ROW_STATEMENTS)
def _selection(name: str, paths: tuple[str, ...]) -> Selection:
    columns, source = _COLUMNS[name](paths)
    return Selection(tuple(columns), source)


def _stands_alone(request: Request[Any]) -> str | None:
    """The parent, of a page that can not be read together with those of other parents: a place is one in its own list."""
    window, parent = request.window, request.list.parent
    return parent.id if parent and (window.after or window.before) else None


def _read_alike(connection: Connection, requests: Sequence[Request[Any]]) -> list[Page[Any]]:
    """Pages of lists that differ in nothing but their parent."""
    wanted, window = requests[0].list, requests[0].window
    parents = [request.list.parent for request in requests if request.list.parent is not None]
    if not parents or window.after or window.before:
        page = pagination.read_page(
            connection, wanted.listing, wanted.filter, wanted.order, window, parent=wanted.parent
        )
        return [_with_records(page, wanted.listing, connection.now)] * len(requests)
    found = pagination.read_pages(connection, wanted.listing, wanted.filter, wanted.order, window, parents)
    return [_with_records(page, wanted.listing, connection.now) for page in found]


def _with_records(page: pagination.Page, listing: Listing[Record], read_at: str) -> Page[Record]:
    nodes = [listing.read(row[BEFORE_SELECTED:], read_at) for row in page.rows]
    return Page(nodes, [_place_of(row) for row in page.rows], page.goes_on)


def count_list(connection: Connection, wanted: RowList[Any]) -> int:
    """How long the list, which has no parent, is."""
    return pagination.count_rows(connection, wanted.listing, wanted.filter)


def count_lists(connection: Connection, lists: Sequence[RowList[Any]]) -> list[int]:
    """How long each list is."""
    return _together(lists, lambda each: each.asked, lambda alike: _count_alike(connection, alike))


def _count_alike(connection: Connection, lists: Sequence[RowList[Any]]) -> list[int]:
    wanted = lists[0]
    parents = [each.parent for each in lists if each.parent is not None]
    if parents:
        return pagination.count_rows_of(connection, wanted.listing, wanted.filter, parents)
    return [count_list(connection, wanted)] * len(lists)


def has_rows(connection: Connection, wanted: RowList[Any], *, after: Place | None, before: Place | None) -> bool:
    """Whether the list has anything after, or before, a place."""
    window = Window(0, from_back=before is not None, after=after, before=before)
    listing, parent = wanted.listing, wanted.parent
    return pagination.read_page(connection, listing, wanted.filter, wanted.order, window, parent=parent).goes_on


def _together(
    items: Sequence[Item], kind: Callable[[Item], object], work: Callable[[Sequence[Item]], list[Result]]
) -> list[Result]:
    """The results of `work` on all items, which it is given by kinds, in the order of the items."""
    kinds: dict[object, list[int]] = {}
    for place, item in enumerate(items):
        kinds.setdefault(kind(item), []).append(place)
    results: dict[int, Result] = {}
    for places in kinds.values():
        results.update(zip(places, work([items[place] for place in places]), strict=True))
    return [results[place] for place in range(len(items))]

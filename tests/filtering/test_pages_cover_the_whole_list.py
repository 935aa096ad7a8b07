"""Walking a list page by page, from the front or from the back, meets each row once and in order."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from db.connection import SQLiteConnection
from db.enums import FlowRunSort, TaskRunSort
from db.query.pagination import Listing, Order, Page, Parent, Place, Window, count_rows_of, read_page, read_pages
from db.statements.flow_runs import FLOW_RUNS
from db.statements.task_runs import TASK_RUNS
from tests.builders.population import Population
from tests.filtering.filters import task_run_filters
from tests.filtering.reference_filters import meets

Populated = tuple[SQLiteConnection, Population]

THOROUGHLY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
SORTS = [*((TASK_RUNS, sort) for sort in TaskRunSort), *((FLOW_RUNS, sort) for sort in FlowRunSort)]


def in_order(rows: list[Any], sort: str) -> list[str]:
    """The ids of the rows in the order of the sort: nulls count as less than anything, and ids decide among equals."""
    key, direction = sort.rsplit("_", 1)

    def place(row: Any) -> tuple[Any, ...]:
        value = getattr(row, key.lower())
        return value is not None, value or "", row.id

    return [row.id for row in sorted(rows, key=place, reverse=direction == "DESC")]


def ids(page: Page) -> list[str]:
    return [row[1] for row in page.rows]


def place_of(row: tuple[Any, ...]) -> Place:
    return Place(row[0], row[1])


def walk(connection: SQLiteConnection, listing: Listing[Any], filter: Any, order: Order, size: int) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = read_page(connection, listing, filter, order, Window(size, after=after))
        found += ids(page)
        assert page.goes_on == bool(
            read_page(connection, listing, filter, order, Window(1, after=end(page, after))).rows
        )
        if not page.goes_on:
            return found
        after = place_of(page.rows[-1])


def end(page: Page, otherwise: Place | None) -> Place | None:
    return place_of(page.rows[-1]) if page.rows else otherwise


def walk_back(connection: SQLiteConnection, listing: Listing[Any], filter: Any, order: Order, size: int) -> list[str]:
    found: list[str] = []
    before = None
    while True:
        page = read_page(connection, listing, filter, order, Window(size, from_back=True, before=before))
        found = ids(page) + found
        if not page.goes_on:
            return found
        before = place_of(page.rows[0])


@pytest.mark.parametrize(("listing", "sort"), SORTS, ids=[f"{each.name}-{sort}" for each, sort in SORTS])
@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_a_walk_meets_each_row_once_and_in_order(rows: Populated, listing: Listing[Any], sort: str, size: int) -> None:
    connection, all = rows
    expected = in_order([*getattr(all, f"{listing.name}s").values()], sort)

    assert walk(connection, listing, {}, Order.of(sort), size) == expected
    assert walk_back(connection, listing, {}, Order.of(sort), size) == expected


@THOROUGHLY
@given(data=some.data(), sort=some.sampled_from(TaskRunSort), size=some.integers(1, 9))
def test_a_walk_through_a_filter_meets_what_it_lets_through(
    rows: Populated, data: some.DataObject, sort: TaskRunSort, size: int
) -> None:
    connection, all = rows
    filter = data.draw(task_run_filters(all))
    expected = in_order([row for row in all.task_runs.values() if meets(filter, row, all)], sort)

    assert walk(connection, TASK_RUNS, filter, Order.of(sort), size) == expected
    assert walk_back(connection, TASK_RUNS, filter, Order.of(sort), size) == expected


@THOROUGHLY
@given(data=some.data(), sort=some.sampled_from(TaskRunSort), from_back=some.booleans())
def test_between_two_places_lies_what_lies_between_them(
    rows: Populated, data: some.DataObject, sort: TaskRunSort, from_back: bool
) -> None:
    connection, all = rows
    ordered = in_order([*all.task_runs.values()], sort)
    spots = some.integers(0, len(ordered) - 1)
    start, stop = data.draw(spots), data.draw(spots)
    size = data.draw(some.integers(0, 70))
    takes_in = data.draw(some.tuples(some.booleans(), some.booleans()))
    key = Order.of(sort).key
    after, before = (
        Place(getattr(all.task_runs[ordered[spot]], key), ordered[spot], takes)
        for spot, takes in zip((start, stop), takes_in, strict=True)
    )

    page = read_page(connection, TASK_RUNS, {}, Order.of(sort), Window(size, from_back, after, before))

    between = ordered[start + (not takes_in[0]) : stop + takes_in[1]]
    assert ids(page) == (between[max(0, len(between) - size) :] if from_back else between[:size])
    assert page.goes_on == (len(between) > size)


@THOROUGHLY
@given(
    data=some.data(),
    sort=some.sampled_from(TaskRunSort),
    from_back=some.booleans(),
    size=some.integers(0, 5),
    offset=some.integers(0, 4),
)
def test_the_same_page_of_many_lists_is_read_at_once(
    rows: Populated, data: some.DataObject, sort: TaskRunSort, from_back: bool, size: int, offset: int
) -> None:
    connection, all = rows
    filter = data.draw(task_run_filters(all))
    parents = [Parent("flow_run_id", id) for id in [*all.flow_runs, "01a206b2-304f-7000-b2ee-99ddb7de4877"]]
    before = connection.statements

    window = Window(size, from_back, offset=offset)
    pages = read_pages(connection, TASK_RUNS, filter, Order.of(sort), window, parents)
    counts = count_rows_of(connection, TASK_RUNS, filter, parents)

    assert connection.statements - before == 2
    for parent, page, count in zip(parents, pages, counts, strict=True):
        theirs = [row for row in all.task_runs.values() if row.flow_run_id == parent.id and meets(filter, row, all)]
        ordered = in_order(theirs, sort)
        left = ordered[: max(0, len(ordered) - offset)] if from_back else ordered[offset:]
        assert ids(page) == (left[max(0, len(left) - size) :] if from_back else left[:size])
        assert page.goes_on == (len(left) > size)
        assert count == len(ordered)

"""Paging through a list forwards or backwards visits each row once and in order."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.connection import SQLiteConnection
from db.enums import DeploymentSort, FlowRunSort, FlowSort, TaskRunSort
from db.query.pagination import (
    Listing,
    Page,
    PageWindow,
    Parent,
    Position,
    SortOrder,
    count_rows_by_parent,
    read_page,
    read_pages,
)
from db.statements.flow_runs import FLOW_RUNS
from db.statements.flows import DEPLOYMENTS, FLOWS
from db.statements.task_runs import TASK_RUNS
from tests.builders.ids import UNKNOWN_ID
from tests.builders.population import Population
from tests.filtering.filters import task_run_filters
from tests.filtering.reference_filters import matches

PopulatedDatabase = tuple[SQLiteConnection, Population]

THOROUGH = settings(
    max_examples=settings().max_examples * 3 // 2, deadline=None, suppress_health_check=list(HealthCheck)
)
SORTS = [
    *((TASK_RUNS, sort) for sort in TaskRunSort),
    *((FLOW_RUNS, sort) for sort in FlowRunSort),
    *((FLOWS, sort) for sort in FlowSort),
    *((DEPLOYMENTS, sort) for sort in DeploymentSort),
]


def in_order(rows: list[Any], sort: str) -> list[str]:
    """Return the ids of the rows in sort order: nulls sort lowest, and ties are broken by id."""
    key, direction = sort.rsplit("_", 1)

    def sort_key(row: Any) -> tuple[Any, ...]:
        value = getattr(row, key.lower())
        return value is not None, value or "", row.id

    return [row.id for row in sorted(rows, key=sort_key, reverse=direction == "DESC")]


def ids(page: Page) -> list[str]:
    return [row[1] for row in page.rows]


def position_of(row: tuple[Any, ...]) -> Position:
    return Position(row[0], row[1])


def page_forwards(
    connection: SQLiteConnection, listing: Listing[Any], filter: Any, order: SortOrder, size: int
) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = read_page(connection, listing, filter, order, PageWindow(size, after=after))
        found += ids(page)
        assert page.has_more == bool(
            read_page(connection, listing, filter, order, PageWindow(1, after=last_position(page, after))).rows
        )
        if not page.has_more:
            return found
        after = position_of(page.rows[-1])


def last_position(page: Page, default: Position | None) -> Position | None:
    return position_of(page.rows[-1]) if page.rows else default


def page_backwards(
    connection: SQLiteConnection, listing: Listing[Any], filter: Any, order: SortOrder, size: int
) -> list[str]:
    found: list[str] = []
    before = None
    while True:
        page = read_page(connection, listing, filter, order, PageWindow(size, from_end=True, before=before))
        found = ids(page) + found
        if not page.has_more:
            return found
        before = position_of(page.rows[0])


@pytest.mark.parametrize(("listing", "sort"), SORTS, ids=[f"{each.name}-{sort}" for each, sort in SORTS])
@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_paging_visits_each_row_once_and_in_order(
    rows: PopulatedDatabase, listing: Listing[Any], sort: str, size: int
) -> None:
    connection, population = rows
    expected = in_order([*getattr(population, f"{listing.name}s").values()], sort)

    assert page_forwards(connection, listing, {}, SortOrder.parse(sort), size) == expected
    assert page_backwards(connection, listing, {}, SortOrder.parse(sort), size) == expected


@THOROUGH
@given(data=st.data(), sort=st.sampled_from(TaskRunSort), size=st.integers(1, 9))
def test_paging_with_a_filter_visits_exactly_the_matching_rows(
    rows: PopulatedDatabase, data: st.DataObject, sort: TaskRunSort, size: int
) -> None:
    connection, population = rows
    filter = data.draw(task_run_filters(population))
    expected = in_order([row for row in population.task_runs.values() if matches(filter, row, population)], sort)

    assert page_forwards(connection, TASK_RUNS, filter, SortOrder.parse(sort), size) == expected
    assert page_backwards(connection, TASK_RUNS, filter, SortOrder.parse(sort), size) == expected


@THOROUGH
@given(data=st.data(), sort=st.sampled_from(TaskRunSort), from_end=st.booleans())
def test_a_page_between_two_positions_holds_the_rows_between_them(
    rows: PopulatedDatabase, data: st.DataObject, sort: TaskRunSort, from_end: bool
) -> None:
    connection, population = rows
    ordered = in_order([*population.task_runs.values()], sort)
    indexes = st.integers(0, len(ordered) - 1)
    start, stop = data.draw(indexes), data.draw(indexes)
    size = data.draw(st.integers(0, 70))
    inclusive = data.draw(st.tuples(st.booleans(), st.booleans()))
    key = SortOrder.parse(sort).key
    after, before = (
        Position(getattr(population.task_runs[ordered[index]], key), ordered[index], is_inclusive)
        for index, is_inclusive in zip((start, stop), inclusive, strict=True)
    )

    page = read_page(connection, TASK_RUNS, {}, SortOrder.parse(sort), PageWindow(size, from_end, after, before))

    between = ordered[start + (not inclusive[0]) : stop + inclusive[1]]
    assert ids(page) == (between[max(0, len(between) - size) :] if from_end else between[:size])
    assert page.has_more == (len(between) > size)


@THOROUGH
@given(
    data=st.data(),
    sort=st.sampled_from(TaskRunSort),
    from_end=st.booleans(),
    size=st.integers(0, 5),
    offset=st.integers(0, 4),
)
def test_one_page_of_many_lists_is_read_in_two_statements(
    rows: PopulatedDatabase, data: st.DataObject, sort: TaskRunSort, from_end: bool, size: int, offset: int
) -> None:
    connection, population = rows
    filter = data.draw(task_run_filters(population))
    parents = [Parent("flow_run_id", id) for id in [*population.flow_runs, UNKNOWN_ID]]
    before = connection.statements

    window = PageWindow(size, from_end, offset=offset)
    pages = read_pages(connection, TASK_RUNS, filter, SortOrder.parse(sort), window, parents)
    counts = count_rows_by_parent(connection, TASK_RUNS, filter, parents)

    assert connection.statements - before == 2
    for parent, page, count in zip(parents, pages, counts, strict=True):
        matching = [
            row
            for row in population.task_runs.values()
            if row.flow_run_id == parent.id and matches(filter, row, population)
        ]
        ordered = in_order(matching, sort)
        rest = ordered[: max(0, len(ordered) - offset)] if from_end else ordered[offset:]
        assert ids(page) == (rest[max(0, len(rest) - size) :] if from_end else rest[:size])
        assert page.has_more == (len(rest) > size)
        assert count == len(ordered)

"""Any filter lets through exactly the rows that it does when it is read in plain Python."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from db.connection import SQLiteConnection
from db.query.filters import Filter
from db.query.pagination import LATEST_FIRST, Listing, Window, count_rows, read_page
from db.statements.flow_runs import FLOW_RUNS
from db.statements.flows import DEPLOYMENTS, FLOWS
from db.statements.task_runs import TASK_RUNS
from tests.builders.population import Population
from tests.filtering import filters
from tests.filtering.reference_filters import meets

Populated = tuple[SQLiteConnection, Population]

THOROUGHLY = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))

KINDS: Mapping[str, tuple[Listing[Any], Callable[[Population], filters.AnyFilter]]] = {
    "task_runs": (TASK_RUNS, filters.task_run_filters),
    "flow_runs": (FLOW_RUNS, filters.flow_run_filters),
    "flows": (FLOWS, filters.flow_filters),
    "deployments": (DEPLOYMENTS, filters.deployment_filters),
}


def let_through(connection: SQLiteConnection, listing: Listing[Any], filter: Filter) -> list[str]:
    return [row[1] for row in read_page(connection, listing, filter, LATEST_FIRST, Window(1000)).rows]


@pytest.mark.parametrize("kind", KINDS)
@THOROUGHLY
@given(data=some.data())
def test_the_database_and_plain_python_agree(rows: Populated, kind: str, data: some.DataObject) -> None:
    connection, all = rows
    listing, make = KINDS[kind]
    filter = data.draw(make(all))

    found = let_through(connection, listing, filter)

    expected = [id for id, row in getattr(all, kind).items() if meets(filter, row, all)]
    assert found == sorted(expected, reverse=True)
    assert count_rows(connection, listing, filter) == len(expected)


@pytest.mark.parametrize("kind", KINDS)
@THOROUGHLY
@given(data=some.data())
def test_a_filter_and_its_opposite_share_out_all_rows(rows: Populated, kind: str, data: some.DataObject) -> None:
    connection, all = rows
    listing, make = KINDS[kind]
    filter = data.draw(make(all))

    passed, refused = let_through(connection, listing, filter), let_through(connection, listing, {"not": filter})

    assert sorted(passed + refused) == sorted(getattr(all, kind))

"""Any filter matches exactly the rows that the reference implementation in Python matches."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.connection import SQLiteConnection
from db.query.filters import Filter
from db.query.pagination import LATEST_FIRST, Listing, PageWindow, count_rows, read_page
from db.sql.text import end_of_prefix
from db.statements.flow_runs import FLOW_RUNS
from db.statements.flows import DEPLOYMENTS, FLOWS
from db.statements.task_runs import TASK_RUNS
from tests.builders.population import Population
from tests.filtering import filters
from tests.filtering.reference_filters import matches

PopulatedDatabase = tuple[SQLiteConnection, Population]

THOROUGH = settings(max_examples=3 * settings().max_examples, deadline=None, suppress_health_check=list(HealthCheck))

KINDS: Mapping[str, tuple[Listing[Any], Callable[[Population], filters.FilterStrategy]]] = {
    "task_runs": (TASK_RUNS, filters.task_run_filters),
    "flow_runs": (FLOW_RUNS, filters.flow_run_filters),
    "flows": (FLOWS, filters.flow_filters),
    "deployments": (DEPLOYMENTS, filters.deployment_filters),
}


def matching_ids(connection: SQLiteConnection, listing: Listing[Any], filter: Filter) -> list[str]:
    return [row[1] for row in read_page(connection, listing, filter, LATEST_FIRST, PageWindow(1000)).rows]


@pytest.mark.parametrize("kind", KINDS)
@THOROUGH
@given(data=st.data())
def test_the_database_and_the_reference_filter_agree(rows: PopulatedDatabase, kind: str, data: st.DataObject) -> None:
    connection, population = rows
    listing, strategy = KINDS[kind]
    filter = data.draw(strategy(population))

    found = matching_ids(connection, listing, filter)

    expected = [id for id, row in getattr(population, kind).items() if matches(filter, row, population)]
    assert found == sorted(expected, reverse=True)
    assert count_rows(connection, listing, filter) == len(expected)


@pytest.mark.parametrize("kind", KINDS)
@THOROUGH
@given(data=st.data())
def test_a_filter_and_its_negation_partition_all_rows(rows: PopulatedDatabase, kind: str, data: st.DataObject) -> None:
    connection, population = rows
    listing, strategy = KINDS[kind]
    filter = data.draw(strategy(population))

    matched, excluded = matching_ids(connection, listing, filter), matching_ids(connection, listing, {"not": filter})

    assert sorted(matched + excluded) == sorted(getattr(population, kind))


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("a", "b"),
        ("az", "a{"),
        ("a\U0010ffff", "b"),
        ("\ud7ff", "\ue000"),
        ("\U0010ffff", None),
        ("", None),
    ],
)
def test_the_end_of_a_prefix_is_the_first_text_after_all_texts_with_it(prefix: str, end: str | None) -> None:
    assert end_of_prefix(prefix) == end

"""A finished operation leaves no reference cycles around its variables.

The garbage collector runs when many objects have been created, but variables can be few and large.
"""

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from queries import document
from tests.client import Client

IDS = "query Q($ids: [ID!]!) { nodes(ids: $ids) { id } }"
OPERATIONS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "a mutation": (document("CreateTaskRun")[0], {"input": {"taskKey": "a"}}, True),
    "a query": (document("ListTaskRuns")[0], {"filter": {"name": {"in": ["a"]}}}, True),
    "nothing found": (document("GetTaskRun")[0], {"id": "01a206b2-303f-7000-b0b3-40b8ceb3f489"}, True),
    "too many ids": (IDS, {"ids": ["a"] * 1001}, False),
    "no ids": (IDS, {"ids": ["a"]}, False),
    "values of the wrong type": (IDS, {"ids": [{}, {}]}, False),
    "a NUL": (IDS, {"ids": ["\0"]}, False),
    "nothing to delete": (document("DeleteTaskRun")[0], {"id": "01a206b2-303f-7000-b0b3-40b8ceb3f489"}, False),
}


@pytest.fixture
def garbage() -> Iterator[list[Any]]:
    """Collect the objects that only the garbage collector finds; disable its automatic runs."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.parametrize("name", OPERATIONS)
async def test_the_variables_of_a_finished_operation_are_freed_without_garbage_collection(
    client: Client, name: str, garbage: list[Any]
) -> None:
    query, variables, succeeds = OPERATIONS[name]
    body = {"query": query, "variables": {**variables, "marker": "of these"}}

    for _ in range(3):
        result = (await client.http.post("/graphql", json=body)).json()
        assert ("errors" not in result) is succeeds, result
    gc.collect()

    assert [each for each in garbage if type(each) is dict and each.get("marker") == "of these"] == []

"""An operation that is over leaves nothing behind that only the garbage collector would find: it comes by when many objects
are made, and variables can be large and few."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from queries import document
from tests.client import Client

IDS = "query Q($ids: [ID!]!) { nodes(ids: $ids) { id } }"
OPERATIONS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "a mutation": (document("CreateTaskRun")[0], {"input": {"taskKey": "a"}}, True),
    "a query": (document("ListTaskRuns")[0], {"filter": {"name": {"any": ["a"]}}}, True),
    "nothing found": (document("GetTaskRun")[0], {"id": "01a206b2-303f-7000-b0b3-40b8ceb3f489"}, True),
    "too many ids": (IDS, {"ids": ["a"] * 1001}, False),
    "no ids": (IDS, {"ids": ["a"]}, False),
    "values of the wrong type": (IDS, {"ids": [{}, {}]}, False),
    "a NUL": (IDS, {"ids": ["\0"]}, False),
    "nothing to delete": (document("DeleteTaskRun")[0], {"id": "01a206b2-303f-7000-b0b3-40b8ceb3f489"}, False),
}


@pytest.fixture
def garbage() -> Iterator[list[Any]]:
    """What the garbage collector finds when it is called; it does not come by itself."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.parametrize("name", OPERATIONS)
async def test_the_variables_of_an_operation_are_gone_when_it_is_answered(
    client: Client, name: str, garbage: list[Any]
) -> None:
    query, variables, is_answered = OPERATIONS[name]
    body = {"query": query, "variables": {**variables, "marker": "of these"}}

    for _ in range(3):
        answer = (await client.http.post("/graphql", json=body)).json()
        assert ("errors" not in answer) is is_answered, answer
    gc.collect()

    assert [each for each in garbage if type(each) is dict and each.get("marker") == "of these"] == []

"""What the inputs of one request may have: filters, lists and texts, refused by the name of what is too large."""

from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError

from tests.client import Client


@pytest.fixture
def database_kind() -> str:
    """One kind alone: these promises are kept in front of the database."""
    return "sqlite"


JSON = {"content-type": "application/json"}


PART = "query Count($part: TaskRunFilter!) "
PARTS = "query Count($parts: [TaskRunFilter!]) "


def any_of(filters: list[str]) -> str:
    return "{ taskRunCount(filter: {or: [" + ", ".join(filters) + "]}) }"


@pytest.mark.parametrize(
    ("query", "variables", "argument", "message"),
    [
        (
            any_of(['{name: {any: ["a"]}}'] * 51),
            {},
            "filter",
            "has more than 100 conditions.",
        ),
        (
            PART + any_of(["$part"] * 51),
            {"part": {"name": {"any": ["a"]}}},
            "filter",
            "has more than 100 conditions.",
        ),
        (
            PARTS + "{ taskRunCount(filter: {or: $parts}) }",
            {"parts": [{"name": {"any": ["a"]}}] * 51},
            "filter",
            "has more than 100 conditions.",
        ),
        (
            "{ taskRunCount(filter: " + "{not: " * 11 + "{}" + "}" * 11 + ") }",
            {},
            "filter" + ".not" * 11,
            "is too deep: filters may nest 10 deep.",
        ),
        (
            PART + "{ taskRunCount(filter: {not: {not: $part}}) }",
            {"part": {"not": {"not": {"not": {"not": {"not": {"not": {"not": {"not": {"flowRun": {}}}}}}}}}}},
            "filter" + ".not" * 10 + ".flowRun",
            "is too deep: filters may nest 10 deep.",
        ),
        (
            PART + "{ taskRunCount(filter: $part) }",
            {"part": {"name": {"like": "a" * 1001}}},
            "filter.name.like",
            "takes at most 1,000 characters, not 1,001.",
        ),
        (
            "query Q($ids: [ID!]!) { nodes(ids: $ids) { id } }",
            {"ids": ["5"] * 1001},
            "ids",
            "takes at most 1,000 items at once, not 1,001.",
        ),
    ],
    ids=["written", "repeated", "list", "deep", "deep in a variable", "text", "ids"],
)
async def test_a_filter_or_list_that_is_too_large_is_named(
    client: Client, query: str, variables: dict[str, Any], argument: str, message: str
) -> None:
    answer = (await client.http.post("/graphql", json={"query": query, "variables": variables})).json()

    (error,) = answer["errors"]
    assert error["message"] == f"{argument}: {message}"
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": argument}


async def test_lists_in_variables_may_have_so_many_items_together_and_json_any_number(client: Client) -> None:
    most = {"taskKey": "t", "parameters": {"many": [[]] * 60_000}}
    query = "mutation M($input: TaskRunCreateInput!, $b: TaskRunCreateInput!) {"
    query += " a: createTaskRun(input: $input) { created } b: createTaskRun(input: $b) { created } }"

    async def create(tags: int, others: int = 0) -> Any:
        variables = {"b": {"taskKey": "t", "tags": ["b"] * others}, "input": {**most, "tags": ["a"] * tags}}
        return (await client.http.post("/graphql", json={"query": query, "variables": variables})).json()

    assert "errors" not in await create(24_000, 1000)

    (error,) = (await create(25_001))["errors"]
    assert error["message"] == "input: has 25,001 items in its lists; 25,000 are allowed."
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "input"}
    (error,) = (await create(24_000, 1001))["errors"]
    assert (
        error["message"] == "b: has 1,001 items in its lists, with those of other variables 25,001; 25,000 are allowed."
    )
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "b"}
    assert await client.ask("CountTaskRuns") == 2


async def test_a_request_may_have_half_a_million_lists_and_objects(client: Client) -> None:
    def body(lists: int) -> bytes:
        return b'{"query": "{ __typename }", "extensions": {"many": [' + b"[]," * lists + b"0]}}"

    most = await client.http.post("/graphql", content=body(499_997), headers=JSON)
    more = await client.http.post("/graphql", content=body(499_998), headers=JSON)

    assert most.json() == {"data": {"__typename": "Query"}}
    assert more.status_code == 413
    message = "The request has 500,001 lists and objects; 500,000 are allowed."
    assert more.json() == {"errors": [{"message": message, "extensions": {"code": "BAD_USER_INPUT"}}]}


async def test_brackets_in_a_text_are_no_lists(client: Client) -> None:
    answer = await client.http.post("/graphql", json={"query": "{ __typename }", "extensions": {"log": "[" * 600_000}})

    assert answer.json() == {"data": {"__typename": "Query"}}


async def test_a_message_with_too_many_lists_and_objects_closes_its_socket(client: Client) -> None:
    async with client.socket() as socket:
        await socket.connection.send("[" + ("[" * 1000 + "]" * 1000 + ",") * 501 + "0]")

        with pytest.raises(ConnectionClosedError) as closed:
            await socket.receive()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400


@pytest.mark.parametrize(
    ("variables", "argument", "message"),
    [
        (
            {"filter": {"a" * 101: 0, "name": {"any": ["a" * 60_000]}}},
            "filter",
            f"has a field '{'a' * 59} that TaskRunFilter does not have.",
        ),
        (
            {"filter": {"state": {"type": {"any": ["RUNNING", "A" * 60_000]}}}},
            "filter.state.type.any.1",
            f"'{'A' * 59} is no StateType.",
        ),
    ],
    ids=["field", "enum"],
)
async def test_a_long_name_is_not_compared_with_others(
    client: Client, variables: dict[str, Any], argument: str, message: str
) -> None:
    query = "query Q($filter: TaskRunFilter) { taskRunCount(filter: $filter) }"

    answer = (await client.http.post("/graphql", json={"query": query, "variables": variables})).json()

    (error,) = answer["errors"]
    assert error["message"] == f"{argument}: {message}"
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": argument}


async def test_the_first_of_many_texts_with_a_nul_is_named(client: Client) -> None:
    query = "mutation M($input: TaskRunCreateInput!) { createTaskRun(input: $input) { created } }"
    many = [0, {"a": ["b", "\0"]}, "\0", {"\0": 0}]

    answer = await client.http.post(
        "/graphql", json={"query": query, "variables": {"input": {"taskKey": "a", "parameters": many}}}
    )

    (error,) = answer.json()["errors"]
    assert error["message"] == "input.parameters.1.a.1: A text may not contain the character NUL."
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "input.parameters.1.a.1"}
    assert await client.ask("CountTaskRuns") == 0


async def test_an_object_with_many_names_that_nobody_knows_is_refused_before_each_is_looked_for(client: Client) -> None:
    variables = {"filter": {"not": {f"unknown{number}": 0 for number in range(20_000)}}}
    query = "query Q($filter: TaskRunFilter) { taskRunCount(filter: $filter) }"

    answer = (await client.http.post("/graphql", json={"query": query, "variables": variables})).json()

    (error,) = answer["errors"]
    assert error["message"] == "filter.not: has 20,000 fields that TaskRunFilter does not have."
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "filter.not"}

"""Limits on the inputs of one request: filters, lists and strings. An error names the argument that exceeds a limit."""

from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError

from tests.client import Client
from tests.serving import SQLITE_ONLY

pytestmark = SQLITE_ONLY

JSON = {"content-type": "application/json"}


PART = "query Count($part: TaskRunFilter!) "
PARTS = "query Count($parts: [TaskRunFilter!]) "


def count_with_any_of(filters: list[str]) -> str:
    return "{ taskRunCount(filter: {or: [" + ", ".join(filters) + "]}) }"


@pytest.mark.parametrize(
    ("query", "variables", "argument", "message"),
    [
        (
            count_with_any_of(['{name: {in: ["a"]}}'] * 51),
            {},
            "filter",
            "exceeds the limit of 100 conditions. A list operator such as `in` counts as one.",
        ),
        (
            PART + count_with_any_of(["$part"] * 51),
            {"part": {"name": {"in": ["a"]}}},
            "filter",
            "exceeds the limit of 100 conditions. A list operator such as `in` counts as one.",
        ),
        (
            PARTS + "{ taskRunCount(filter: {or: $parts}) }",
            {"parts": [{"name": {"in": ["a"]}}] * 51},
            "filter",
            "exceeds the limit of 100 conditions. A list operator such as `in` counts as one.",
        ),
        (
            "{ taskRunCount(filter: " + "{not: " * 11 + "{}" + "}" * 11 + ") }",
            {},
            "filter" + ".not" * 11,
            "exceeds the maximum filter depth of 10. Use fewer nested filters.",
        ),
        (
            PART + "{ taskRunCount(filter: {not: {not: $part}}) }",
            {"part": {"not": {"not": {"not": {"not": {"not": {"not": {"not": {"not": {"flowRun": {}}}}}}}}}}},
            "filter" + ".not" * 10 + ".flowRun",
            "exceeds the maximum filter depth of 10. Use fewer nested filters.",
        ),
        (
            PART + "{ taskRunCount(filter: $part) }",
            {"part": {"name": {"contains": "a" * 1001}}},
            "filter.name.contains",
            "must have at most 1,000 characters; got 1,001.",
        ),
        (
            '{ taskRunCount(filter: {name: {startsWith: "' + "a" * 1001 + '"}}) }',
            {},
            "filter.name.startsWith",
            "must have at most 1,000 characters; got 1,001.",
        ),
        (
            "query Q($ids: [ID!]!) { nodes(ids: $ids) { id } }",
            {"ids": ["5"] * 1001},
            "ids",
            "must have at most 1,000 items; got 1,001.",
        ),
    ],
    ids=["written", "repeated", "list", "deep", "deep in a variable", "text", "start of a text", "ids"],
)
async def test_a_filter_or_list_over_a_limit_is_refused_by_name(
    client: Client, query: str, variables: dict[str, Any], argument: str, message: str
) -> None:
    result = (await client.http.post("/graphql", json={"query": query, "variables": variables})).json()

    (error,) = result["errors"]
    assert error["message"] == f"{argument}: {message}"
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": argument}


async def test_list_items_in_variables_are_limited_in_total_except_in_json(client: Client) -> None:
    most = {"taskKey": "t", "parameters": {"many": [[]] * 60_000}}
    query = "mutation M($input: TaskRunCreateInput!, $b: TaskRunCreateInput!) {"
    query += " a: createTaskRun(input: $input) { created } b: createTaskRun(input: $b) { created } }"

    async def create(tags: int, others: int = 0) -> Any:
        variables = {"b": {"taskKey": "t", "tags": ["b"] * others}, "input": {**most, "tags": ["a"] * tags}}
        return (await client.http.post("/graphql", json={"query": query, "variables": variables})).json()

    assert "errors" not in await create(24_000, 1000)

    (error,) = (await create(25_001))["errors"]
    assert error["message"] == "input: must have at most 25,000 list items; got 25,001."
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "input"}
    (error,) = (await create(24_000, 1001))["errors"]
    assert error["message"] == "b: must have at most 25,000 list items; got 1,001 (25,001 with the other variables)."
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "b"}
    assert await client.execute("CountTaskRuns") == 2


async def test_a_request_may_have_half_a_million_lists_and_objects(client: Client) -> None:
    def body(lists: int) -> bytes:
        return b'{"query": "{ __typename }", "extensions": {"many": [' + b"[]," * lists + b"0]}}"

    most = await client.http.post("/graphql", content=body(499_997), headers=JSON)
    more = await client.http.post("/graphql", content=body(499_998), headers=JSON)

    assert most.json() == {"data": {"__typename": "Query"}}
    assert more.status_code == 413
    message = "The request has 500,001 lists and objects; 500,000 are allowed."
    assert more.json() == {"errors": [{"message": message, "extensions": {"code": "BAD_USER_INPUT"}}]}


async def test_brackets_in_a_string_do_not_count_as_lists(client: Client) -> None:
    result = await client.http.post("/graphql", json={"query": "{ __typename }", "extensions": {"log": "[" * 600_000}})

    assert result.json() == {"data": {"__typename": "Query"}}


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
            {"filter": {"a" * 101: 0, "name": {"in": ["a" * 60_000]}}},
            "filter",
            f"field '{'a' * 59} is not defined by type TaskRunFilter.",
        ),
        (
            {"filter": {"state": {"type": {"in": ["RUNNING", "A" * 60_000]}}}},
            "filter.state.type.in.1",
            f"'{'A' * 59} is not a value of enum StateType.",
        ),
    ],
    ids=["field", "enum"],
)
async def test_no_suggestions_are_computed_for_a_long_unknown_name(
    client: Client, variables: dict[str, Any], argument: str, message: str
) -> None:
    query = "query Q($filter: TaskRunFilter) { taskRunCount(filter: $filter) }"

    result = (await client.http.post("/graphql", json={"query": query, "variables": variables})).json()

    (error,) = result["errors"]
    assert error["message"] == f"{argument}: {message}"
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": argument}


async def test_the_first_of_several_strings_with_a_nul_is_named(client: Client) -> None:
    query = "mutation M($input: TaskRunCreateInput!) { createTaskRun(input: $input) { created } }"
    many = [0, {"a": ["b", "\0"]}, "\0", {"\0": 0}]

    result = await client.http.post(
        "/graphql", json={"query": query, "variables": {"input": {"taskKey": "a", "parameters": many}}}
    )

    (error,) = result.json()["errors"]
    assert error["message"] == "input.parameters.1.a.1: must not contain the NUL character (U+0000)."
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "input.parameters.1.a.1"}
    assert await client.execute("CountTaskRuns") == 0


async def test_an_object_with_many_unknown_fields_is_refused_by_their_number(client: Client) -> None:
    variables = {"filter": {"not": {f"unknown{number}": 0 for number in range(20_000)}}}
    query = "query Q($filter: TaskRunFilter) { taskRunCount(filter: $filter) }"

    result = (await client.http.post("/graphql", json={"query": query, "variables": variables})).json()

    (error,) = result["errors"]
    assert error["message"] == "filter.not: 20,000 fields are not defined by type TaskRunFilter."
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "filter.not"}

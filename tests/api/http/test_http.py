"""GraphQL over HTTP: what may be sent, what is refused, and how answers are typed."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from queries import document
from tests.client import Client
from tests.serving import Serving, serving


@pytest.fixture
def database_kind() -> str:
    """One kind alone: these promises are kept in front of the database."""
    return "sqlite"


RESPONSE_TYPE = "application/graphql-response+json"
TYPENAME = {"query": "{ __typename }"}
CREATE = {"query": 'mutation { createTaskRun(input: {taskKey: "t"}) { created } }'}
TWO = "query One { one: __typename } query Two { two: __typename }"


async def post(client: Client, body: object, **headers: str) -> httpx.Response:
    return await client.http.post("/graphql", json=body, headers=headers)


async def post_raw(client: Client, body: Any, content_type: str | None = "application/json") -> httpx.Response:
    headers = {} if content_type is None else {"Content-Type": content_type}
    return await client.http.post("/graphql", content=body, headers=headers)


def refusal_of(response: httpx.Response) -> str:
    """The message of the one error, which is coded, has no `data` beside it, and comes as JSON."""
    assert response.headers["content-type"] == "application/json"
    (error,) = response.json().pop("errors")
    assert list(response.json()) == ["errors"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT"}
    return error["message"]


async def count_runs(client: Client) -> int:
    return (await client.ask("ListTaskRuns"))["totalCount"]


# --- methods ---


async def test_a_query_is_answered_by_post(client: Client) -> None:
    response = await post(client, TYPENAME)

    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == {"data": {"__typename": "Query"}}


async def test_a_mutation_is_carried_out_by_post(client: Client) -> None:
    response = await post(client, CREATE)

    assert response.json() == {"data": {"createTaskRun": {"created": True}}}
    assert await count_runs(client) == 1


async def test_a_query_is_answered_by_get(client: Client) -> None:
    parameters = {
        "query": "query One($first: Int) { taskRuns(first: $first) { totalCount } } query Two { __typename }",
        "operationName": "One",
        "variables": '{"first": 1}',
        "extensions": "{}",
    }

    response = await client.http.get("/graphql", params=parameters)

    assert (response.status_code, response.json()) == (200, {"data": {"taskRuns": {"totalCount": 0}}})


async def test_a_mutation_by_get_is_refused_and_changes_nothing(client: Client) -> None:
    response = await client.http.get("/graphql", params=CREATE)

    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert refusal_of(response) == "Mutations are sent by POST."
    assert await count_runs(client) == 0


async def test_a_query_beside_a_mutation_is_answered_by_get(client: Client) -> None:
    query = 'mutation Create { createTaskRun(input: {taskKey: "t"}) { created } } query Ask { __typename }'

    response = await client.http.get("/graphql", params={"query": query, "operationName": "Ask"})

    assert (response.status_code, response.json()) == (200, {"data": {"__typename": "Query"}})
    assert await count_runs(client) == 0


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
async def test_other_methods_are_refused(client: Client, method: str) -> None:
    response = await client.http.request(method, "/graphql", params=TYPENAME)

    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST")


async def test_a_subscription_by_plain_post_is_told_where_it_is_taken(client: Client) -> None:
    response = await post(client, {"query": document("ScheduledTaskRuns")[0], "variables": {"taskKeys": ["t"]}})

    assert response.status_code == 400
    assert refusal_of(response) == (
        "Subscriptions are sent over WebSocket, by the protocol graphql-transport-ws, or by POST with "
        "Accept: text/event-stream."
    )


async def test_a_subscription_by_get_is_refused(client: Client) -> None:
    response = await client.http.get("/graphql", params={"query": document("ScheduledTaskRuns")[0]})

    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert refusal_of(response) == "Subscriptions are sent by POST."


# --- bodies ---


@pytest.mark.parametrize("body", ["5", "null", '"x"', "[]", "true", '[{"query": "{ __typename }"}]'])
async def test_a_body_that_is_no_object_is_refused(client: Client, body: str) -> None:
    response = await post_raw(client, body)

    assert response.status_code == 400
    assert refusal_of(response) == "The body has to be a JSON object with a query."


@pytest.mark.parametrize("body", [b"", b"{", b"query=x", b"{'query': 1}", b'{"query": NaN}', b"\xff\xfe"])
async def test_a_body_that_is_no_json_is_refused(client: Client, body: bytes) -> None:
    response = await post_raw(client, body)

    assert response.status_code == 400
    assert refusal_of(response).startswith("The body is not valid JSON: ")


@pytest.mark.parametrize(
    ("content_type", "named"),
    [
        (None, "of no type"),
        ("text/plain", "text/plain"),
        ("application/graphql", "application/graphql"),
        ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded"),
        ("multipart/form-data; boundary=x", "multipart/form-data"),
        ("application/jsonx", "application/jsonx"),
    ],
)
async def test_a_body_of_another_type_is_refused_and_changes_nothing(
    client: Client, content_type: str | None, named: str
) -> None:
    body = '{"query": "mutation { createTaskRun(input: {taskKey: \\"t\\"}) { created } }"}'

    response = await post_raw(client, body, content_type)

    assert response.status_code == 415
    assert refusal_of(response) == f"The body has to be application/json, not {named}."
    assert await count_runs(client) == 0


@pytest.mark.parametrize(
    ("types", "status"), [(["application/json"] * 2, 200), (["text/plain", "application/json"], 415)]
)
async def test_of_several_types_of_a_body_the_first_counts(client: Client, types: list[str], status: int) -> None:
    headers = [("Content-Type", each) for each in types]

    response = await client.http.post("/graphql", content=json.dumps(TYPENAME), headers=headers)

    assert response.status_code == status


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;"])
async def test_a_body_may_say_json_in_other_words(client: Client, content_type: str) -> None:
    response = await post_raw(client, '{"query": "{ __typename }"}', content_type)

    assert (response.status_code, response.json()) == (200, {"data": {"__typename": "Query"}})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"query": 5}, "query is missing, or is no text."),
        ({"query": None}, "query is missing, or is no text."),
        ({"query": ["{ __typename }"]}, "query is missing, or is no text."),
        ({"variables": [1]}, "variables has to be a JSON object."),
        ({"variables": "{}"}, "variables has to be a JSON object."),
        ({"operationName": 5}, "operationName has to be a text."),
        ({"extensions": [1]}, "extensions has to be a JSON object."),
        ({"extensions": "x"}, "extensions has to be a JSON object."),
    ],
)
async def test_a_parameter_of_the_wrong_type_is_refused(
    client: Client, parameters: dict[str, Any], message: str
) -> None:
    response = await post(client, {**TYPENAME, **parameters})

    assert response.status_code == 400
    assert refusal_of(response) == message


async def test_parameters_that_are_null_are_as_left_out(client: Client) -> None:
    response = await post(client, {**TYPENAME, "variables": None, "operationName": None, "extensions": None, "id": 5})

    assert (response.status_code, response.json()) == (200, {"data": {"__typename": "Query"}})


async def test_a_request_without_a_query_is_refused(client: Client) -> None:
    by_post, by_get = await post(client, {}), await client.http.get("/graphql")

    assert (by_post.status_code, refusal_of(by_post)) == (400, "query is missing, or is no text.")
    assert (by_get.status_code, refusal_of(by_get)) == (400, "query is missing, or is no text.")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"variables": "{"}, "variables is not valid JSON: "),
        ({"variables": "[1]"}, "variables has to be a JSON object."),
        ({"extensions": "x"}, "extensions is not valid JSON: "),
        ({"extensions": "5"}, "extensions has to be a JSON object."),
    ],
)
async def test_a_malformed_parameter_of_a_get_is_refused(
    client: Client, parameters: dict[str, str], message: str
) -> None:
    response = await client.http.get("/graphql", params={**TYPENAME, **parameters})

    assert response.status_code == 400
    assert refusal_of(response).startswith(message)


def padded(size: int) -> bytes:
    """A request that creates a run, of exactly this many bytes."""
    body = b'{"query": "mutation { createTaskRun(input: {taskKey: \\"t\\"}) { created } }"}'
    return body + b" " * (size - len(body))


async def in_parts(body: bytes) -> AsyncIterator[bytes]:
    """The body in parts, so that it goes out chunked and does not tell its length beforehand."""
    for start in range(0, len(body), 50):
        yield body[start : start + 50]


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_of_the_largest_size_is_taken(tmp_path: Path, is_chunked: bool) -> None:
    body = padded(300)
    async with serving(tmp_path, max_body_bytes=300) as served:
        response = await post_raw(served.client, in_parts(body) if is_chunked else body)

        assert response.request.headers.get("transfer-encoding") == ("chunked" if is_chunked else None)
        assert (response.status_code, response.json()) == (200, {"data": {"createTaskRun": {"created": True}}})


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_larger_body_is_refused_and_changes_nothing(tmp_path: Path, is_chunked: bool) -> None:
    body = padded(301)
    async with serving(tmp_path, max_body_bytes=300) as served:
        response = await post_raw(served.client, in_parts(body) if is_chunked else body)

        assert response.request.headers.get("transfer-encoding") == ("chunked" if is_chunked else None)
        assert response.status_code == 413
        assert refusal_of(response) == "The body may have at most 300 bytes."
        query = "{ taskRuns { totalCount } }"
        assert (await post(served.client, {"query": query})).json() == {"data": {"taskRuns": {"totalCount": 0}}}


# --- operations ---


async def test_of_several_operations_the_named_one_is_run(client: Client) -> None:
    response = await post(client, {"query": TWO, "operationName": "Two"})

    assert (response.status_code, response.json()) == (200, {"data": {"two": "Query"}})


@pytest.mark.parametrize("name", [None, ""])
async def test_of_several_operations_none_is_run_without_a_name(client: Client, name: str | None) -> None:
    query = f'mutation Create {{ createTaskRun(input: {{taskKey: "t"}}) {{ created }} }} {TWO}'

    response = await post(client, {"query": query, "operationName": name})

    assert refusal_of(response) == "The document has several operations: say which one with operationName."
    assert await count_runs(client) == 0


async def test_a_name_that_no_operation_has_is_refused(client: Client) -> None:
    response = await post(client, {"query": TWO, "operationName": "Three"})

    assert refusal_of(response) == "The document has no operation named 'Three'."


REQUEST_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"query": ""}, "There is no query."),
    ({"query": "  # nothing\n"}, "Syntax Error: Unexpected <EOF>."),
    ({"query": "{"}, "Syntax Error: Expected Name, found <EOF>."),
    ({"query": "fragment F on Query { __typename }"}, "The document has no operation."),
    ({"query": "{ nothing }"}, "Cannot query field 'nothing' on type 'Query'."),
    (
        {"query": "query Q($id: ID!) { taskRun(id: $id) { id } }"},
        "Variable '$id' has invalid value: Expected a value of non-null type 'ID!' to be provided.",
    ),
    ({"query": TWO}, "The document has several operations: say which one with operationName."),
]
"""Requests that GraphQL can not run, and what it says."""


@pytest.mark.parametrize(("body", "message"), REQUEST_ERRORS)
async def test_what_can_not_be_run_is_200_without_data_for_older_clients(
    client: Client, body: dict[str, Any], message: str
) -> None:
    response = await post(client, body, Accept="application/json")

    assert response.status_code == 200
    assert refusal_of(response) == message


@pytest.mark.parametrize(("body", "message"), REQUEST_ERRORS)
async def test_what_can_not_be_run_is_400_without_data_for_newer_clients(
    client: Client, body: dict[str, Any], message: str
) -> None:
    response = await post(client, body, Accept=RESPONSE_TYPE)

    assert (response.status_code, response.headers["content-type"]) == (400, RESPONSE_TYPE)
    assert list(response.json()) == ["errors"]
    assert [error["message"] for error in response.json()["errors"]] == [message]


async def test_a_number_of_absurdly_many_digits_is_refused(client: Client) -> None:
    response = await post(client, {"query": f"{{ taskRuns(first: {'9' * 5000}) {{ totalCount }} }}"})

    assert [error["extensions"]["code"] for error in response.json()["errors"]] == ["BAD_USER_INPUT"]


async def test_what_was_run_and_refused_is_200_with_data_for_newer_clients(client: Client) -> None:
    response = await post(client, {"query": '{ taskRun(id: "x") { id } __typename }'}, Accept=RESPONSE_TYPE)

    assert (response.status_code, response.headers["content-type"]) == (200, RESPONSE_TYPE)
    assert response.json()["data"] == {"taskRun": None, "__typename": "Query"}
    assert [error["path"] for error in response.json()["errors"]] == [["taskRun"]]


async def test_a_syntax_error_tells_its_place(client: Client) -> None:
    response = await post(client, {"query": "{\n  taskRuns(\n"})

    (error,) = response.json()["errors"]
    assert error["locations"] == [{"line": 3, "column": 1}]


# --- Accept ---


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (RESPONSE_TYPE, RESPONSE_TYPE),
        (f"{RESPONSE_TYPE}; charset=utf-8, application/json; charset=utf-8", RESPONSE_TYPE),
        ("application/json", "application/json"),
        ("text/html, application/json;q=0.9", "application/json"),
        ("application/*", "application/json"),
        ("*/*", "application/json"),
        ("", "application/json"),
    ],
)
async def test_an_answer_has_the_type_that_was_asked_for(client: Client, accept: str, content_type: str) -> None:
    response = await post(client, TYPENAME, Accept=accept)

    assert (response.status_code, response.headers["content-type"]) == (200, content_type)


@pytest.mark.parametrize("accept", ["text/html", "image/png", "text/plain, application/xml"])
async def test_a_type_that_there_is_not_is_refused_and_nothing_is_run(client: Client, accept: str) -> None:
    response = await post(client, CREATE, Accept=accept)

    assert response.status_code == 406
    assert refusal_of(response) == f"Answers are {RESPONSE_TYPE} or application/json, or text/event-stream."
    assert await count_runs(client) == 0


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("APPLICATION/JSON", 200),
        ("text/plain , application/json ; q=0.5", 200),
        ("application/jsonx", 406),
        ("text/plain, application/json;q=0", 406),
        ("text/plain, application/json; q=0.000", 406),
    ],
)
async def test_accept_is_read_as_a_list_of_types(client: Client, accept: str, status: int) -> None:
    response = await post(client, TYPENAME, Accept=accept)

    assert response.status_code == status


async def test_a_browser_gets_graphiql(client: Client) -> None:
    accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

    response = await client.http.get("/graphql", headers={"Accept": accept})

    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<title>Runyard</title>" in response.text
    assert response.headers["vary"] == "Accept"


async def test_the_front_door_leads_to_graphiql(client: Client) -> None:
    response = await client.http.get("/")

    assert (response.status_code, response.headers["location"]) == (307, "/graphql")


async def test_any_other_path_is_not_found(client: Client) -> None:
    assert (await client.http.get("/nothing")).status_code == 404


# --- health ---


async def test_a_server_that_serves_is_alive_and_ready(client: Client) -> None:
    alive, ready = await client.http.get("/healthz"), await client.http.get("/readyz")

    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    assert ready.headers["cache-control"] == "no-store"


async def test_a_server_that_stops_is_alive_and_not_ready(server: Serving) -> None:
    await server.life.drain()

    alive, ready = await server.client.http.get("/healthz"), await server.client.http.get("/readyz")

    assert alive.status_code == 200
    assert (ready.status_code, ready.json()) == (503, {"status": "stopping"})


async def test_a_server_whose_database_was_migrated_under_it_is_not_ready(client: Client, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "runyard.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'later'")
        database.commit()

    ready = await client.http.get("/readyz")

    assert (ready.status_code, ready.json()) == (503, {"status": "the database's migrations are not current"})


async def test_a_server_tells_what_it_is(client: Client) -> None:
    server = await client.ask("GetServer")

    assert server == {
        "version": "0.1.0",
        "database": f"SQLite {sqlite3.sqlite_version}",
        "startedAt": "2030-01-01T12:00:00.000000Z",
    }

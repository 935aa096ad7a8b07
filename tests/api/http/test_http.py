"""GraphQL over HTTP: accepted requests, refused requests, and the content types of responses."""

import gzip
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from queries import document
from tests.builders.api_runs import count_task_runs
from tests.client import Client, Socket
from tests.serving import SQLITE_ONLY, RunningServer, run_server

pytestmark = SQLITE_ONLY

RESPONSE_TYPE = "application/graphql-response+json"
PROTOCOLS: Any = ["graphql-transport-ws"]
TYPENAME = {"query": "{ __typename }"}
CREATE = {"query": 'mutation { createTaskRun(input: {taskKey: "t"}) { created } }'}
TWO = "query One { one: __typename } query Two { two: __typename }"


async def post(client: Client, body: object, **headers: str) -> httpx.Response:
    return await client.http.post("/graphql", json=body, headers=headers)


async def post_raw(client: Client, body: Any, content_type: str | None = "application/json") -> httpx.Response:
    headers = {} if content_type is None else {"Content-Type": content_type}
    return await client.http.post("/graphql", content=body, headers=headers)


def error_message(response: httpx.Response) -> str:
    """Return the message of the only error; check its code, the content type, and that there is no `data`."""
    assert response.headers["content-type"] == "application/json"
    (error,) = response.json().pop("errors")
    assert list(response.json()) == ["errors"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT"}
    return error["message"]


async def test_a_query_is_executed_by_post(client: Client) -> None:
    response = await post(client, TYPENAME)

    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == {"data": {"__typename": "Query"}}


async def test_a_mutation_is_executed_by_post(client: Client) -> None:
    response = await post(client, CREATE)

    assert response.json() == {"data": {"createTaskRun": {"created": True}}}
    assert await count_task_runs(client) == 1


async def test_a_query_is_executed_by_get(client: Client) -> None:
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
    assert error_message(response) == "Mutations must be sent by POST."
    assert await count_task_runs(client) == 0


async def test_a_get_may_select_the_query_of_a_document_with_mutations(client: Client) -> None:
    query = 'mutation Create { createTaskRun(input: {taskKey: "t"}) { created } } query Ask { __typename }'

    response = await client.http.get("/graphql", params={"query": query, "operationName": "Ask"})

    assert (response.status_code, response.json()) == (200, {"data": {"__typename": "Query"}})
    assert await count_task_runs(client) == 0


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
async def test_other_methods_are_refused(client: Client, method: str) -> None:
    response = await client.http.request(method, "/graphql", params=TYPENAME)

    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST")


async def test_a_subscription_by_plain_post_is_refused_naming_supported_transports(client: Client) -> None:
    response = await post(client, {"query": document("ScheduledTaskRuns")[0], "variables": {"taskKeys": ["t"]}})

    assert response.status_code == 400
    assert error_message(response) == (
        "Subscriptions must be sent over WebSocket (graphql-transport-ws), or with the header Accept: text/event-stream."
    )


@pytest.mark.parametrize("body", ["5", "null", '"x"', "true"])
async def test_a_body_that_is_not_a_json_object_is_refused(client: Client, body: str) -> None:
    response = await post_raw(client, body)

    assert response.status_code == 400
    assert error_message(response) == "The body must be a JSON object with a query."


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_a_batch_of_requests_is_refused_and_changes_nothing(client: Client, count: int) -> None:
    response = await post(client, [CREATE] * count)

    assert response.status_code == 400
    assert error_message(response) == "Batched requests are not supported. Send the operations one at a time."
    assert await count_task_runs(client) == 0


@pytest.mark.parametrize("body", [b"", b"{", b"query=x", b"{'query': 1}", b'{"query": NaN}', b"\xff\xfe"])
async def test_a_body_that_is_not_valid_json_is_refused(client: Client, body: bytes) -> None:
    response = await post_raw(client, body)

    assert response.status_code == 400
    assert error_message(response).startswith("The body is not valid JSON: ")


@pytest.mark.parametrize(
    ("content_type", "named"),
    [
        (None, "none"),
        ("text/plain", "text/plain"),
        ("application/graphql", "application/graphql"),
        ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded"),
        ("multipart/form-data; boundary=x", "multipart/form-data"),
        ("application/jsonx", "application/jsonx"),
    ],
)
async def test_a_body_of_another_content_type_is_refused_and_changes_nothing(
    client: Client, content_type: str | None, named: str
) -> None:
    body = '{"query": "mutation { createTaskRun(input: {taskKey: \\"t\\"}) { created } }"}'

    response = await post_raw(client, body, content_type)

    assert response.status_code == 415
    assert error_message(response) == f"Content-Type must be application/json; got {named}."
    assert await count_task_runs(client) == 0


@pytest.mark.parametrize(
    ("types", "status"), [(["application/json"] * 2, 200), (["text/plain", "application/json"], 415)]
)
async def test_the_first_of_several_content_types_applies(client: Client, types: list[str], status: int) -> None:
    headers = [("Content-Type", each) for each in types]

    response = await client.http.post("/graphql", content=json.dumps(TYPENAME), headers=headers)

    assert response.status_code == status


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;"])
async def test_variants_of_the_json_content_type_are_accepted(client: Client, content_type: str) -> None:
    response = await post_raw(client, '{"query": "{ __typename }"}', content_type)

    assert (response.status_code, response.json()) == (200, {"data": {"__typename": "Query"}})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"query": 5}, "query is required and must be a string."),
        ({"query": None}, "query is required and must be a string."),
        ({"query": ["{ __typename }"]}, "query is required and must be a string."),
        ({"variables": [1]}, "variables must be a JSON object."),
        ({"variables": "{}"}, "variables must be a JSON object."),
        ({"operationName": 5}, "operationName must be a string."),
        ({"extensions": [1]}, "extensions must be a JSON object."),
        ({"extensions": "x"}, "extensions must be a JSON object."),
    ],
)
async def test_a_parameter_of_the_wrong_type_is_refused(
    client: Client, parameters: dict[str, Any], message: str
) -> None:
    response = await post(client, {**TYPENAME, **parameters})

    assert response.status_code == 400
    assert error_message(response) == message


async def test_null_parameters_are_treated_as_absent(client: Client) -> None:
    response = await post(client, {**TYPENAME, "variables": None, "operationName": None, "extensions": None, "id": 5})

    assert (response.status_code, response.json()) == (200, {"data": {"__typename": "Query"}})


async def test_a_request_without_a_query_is_refused(client: Client) -> None:
    by_post, by_get = await post(client, {}), await client.http.get("/graphql")

    assert (by_post.status_code, error_message(by_post)) == (400, "query is required and must be a string.")
    assert (by_get.status_code, error_message(by_get)) == (400, "query is required and must be a string.")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"variables": "{"}, "variables is not valid JSON: "),
        ({"variables": "[1]"}, "variables must be a JSON object."),
        ({"extensions": "x"}, "extensions is not valid JSON: "),
        ({"extensions": "5"}, "extensions must be a JSON object."),
    ],
)
async def test_a_malformed_parameter_of_a_get_is_refused(
    client: Client, parameters: dict[str, str], message: str
) -> None:
    response = await client.http.get("/graphql", params={**TYPENAME, **parameters})

    assert response.status_code == 400
    assert error_message(response).startswith(message)


@pytest.mark.parametrize(
    ("encoding", "named"), [("gzip", "gzip"), ("GZIP", "GZIP"), ("identity, br", "identity, br"), ("x" * 99, "x" * 60)]
)
async def test_a_compressed_body_is_refused_naming_content_encoding(client: Client, encoding: str, named: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}

    response = await client.http.post("/graphql", content=gzip.compress(json.dumps(CREATE).encode()), headers=headers)

    assert (response.status_code, response.headers["accept-encoding"]) == (415, "identity")
    assert error_message(response) == f"Content-Encoding must be identity; got {named}. Send the body uncompressed."
    assert await count_task_runs(client) == 0


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
async def test_a_body_may_declare_that_it_is_not_compressed(client: Client, encoding: str) -> None:
    response = await post(client, TYPENAME, **{"Content-Encoding": encoding})

    assert response.json() == {"data": {"__typename": "Query"}}


def padded(size: int) -> bytes:
    """Write a request of exactly `size` bytes that creates a run."""
    body = b'{"query": "mutation { createTaskRun(input: {taskKey: \\"t\\"}) { created } }"}'
    return body + b" " * (size - len(body))


async def in_chunks(body: bytes) -> AsyncIterator[bytes]:
    """Yield the body in chunks: it is sent with chunked transfer encoding, without its length."""
    for start in range(0, len(body), 50):
        yield body[start : start + 50]


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_of_the_maximum_size_is_accepted(tmp_path: Path, is_chunked: bool) -> None:
    body = padded(300)
    async with run_server(tmp_path, max_body_bytes=300) as server:
        response = await post_raw(server.client, in_chunks(body) if is_chunked else body)

        assert response.request.headers.get("transfer-encoding") == ("chunked" if is_chunked else None)
        assert (response.status_code, response.json()) == (200, {"data": {"createTaskRun": {"created": True}}})


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_larger_body_is_refused_and_changes_nothing(tmp_path: Path, is_chunked: bool) -> None:
    body = padded(301)
    async with run_server(tmp_path, max_body_bytes=300) as server:
        response = await post_raw(server.client, in_chunks(body) if is_chunked else body)

        assert response.request.headers.get("transfer-encoding") == ("chunked" if is_chunked else None)
        assert response.status_code == 413
        assert error_message(response) == "The body must not exceed 300 bytes."
        query = "{ taskRuns { totalCount } }"
        assert (await post(server.client, {"query": query})).json() == {"data": {"taskRuns": {"totalCount": 0}}}


async def test_the_named_operation_of_several_is_executed(client: Client) -> None:
    response = await post(client, {"query": TWO, "operationName": "Two"})

    assert (response.status_code, response.json()) == (200, {"data": {"two": "Query"}})


@pytest.mark.parametrize("name", [None, ""])
async def test_several_operations_without_a_name_are_refused_and_none_is_executed(
    client: Client, name: str | None
) -> None:
    query = f'mutation Create {{ createTaskRun(input: {{taskKey: "t"}}) {{ created }} }} {TWO}'

    response = await post(client, {"query": query, "operationName": name})

    assert error_message(response) == "The document has several operations. Select one with `operationName`."
    assert await count_task_runs(client) == 0


async def test_an_empty_operation_name_selects_the_only_operation(client: Client) -> None:
    parameters = {"query": "query One { __typename }", "operationName": ""}
    result = {"data": {"__typename": "Query"}}

    by_post = await post(client, parameters)
    by_get = await client.http.get("/graphql", params=parameters)
    streamed = await post(client, parameters, Accept="text/event-stream")
    async with client.socket() as socket:
        await socket.send({"id": "1", "type": "subscribe", "payload": parameters})
        message = await socket.receive()

    assert (by_post.json(), by_get.json()) == (result, result)
    assert streamed.text.startswith('event: next\ndata: {"data":{"__typename":"Query"}}\n')
    assert message == {"id": "1", "type": "next", "payload": result}


async def test_an_unknown_operation_name_is_refused(client: Client) -> None:
    response = await post(client, {"query": TWO, "operationName": "Three"})

    assert error_message(response) == "The document has no operation named 'Three'."


REQUEST_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"query": ""}, "The request has no query. Send a GraphQL document in `query`."),
    ({"query": "  # nothing\n"}, "Syntax Error: Unexpected <EOF>."),
    ({"query": "{"}, "Syntax Error: Expected Name, found <EOF>."),
    ({"query": "{}"}, "Syntax Error: Expected Name, found '}'."),
    (
        {"query": "fragment F on Query { __typename }"},
        "The document has no operation. It must contain a query, mutation or subscription.",
    ),
    ({"query": "{ nothing }"}, "Cannot query field 'nothing' on type 'Query'."),
    (
        {"query": "query Q($id: ID!) { taskRun(id: $id) { id } }"},
        "Variable '$id' has invalid value: Expected a value of non-null type 'ID!' to be provided.",
    ),
    ({"query": TWO}, "The document has several operations. Select one with `operationName`."),
]
"""Requests that fail before execution, and their error messages."""


@pytest.mark.parametrize(("body", "message"), REQUEST_ERRORS)
async def test_a_request_error_is_200_without_data_for_application_json(
    client: Client, body: dict[str, Any], message: str
) -> None:
    response = await post(client, body, Accept="application/json")

    assert response.status_code == 200
    assert error_message(response) == message


@pytest.mark.parametrize(("body", "message"), REQUEST_ERRORS)
async def test_a_request_error_is_400_without_data_for_graphql_response_json(
    client: Client, body: dict[str, Any], message: str
) -> None:
    response = await post(client, body, Accept=RESPONSE_TYPE)

    assert (response.status_code, response.headers["content-type"]) == (400, RESPONSE_TYPE)
    assert list(response.json()) == ["errors"]
    assert [error["message"] for error in response.json()["errors"]] == [message]


@pytest.mark.parametrize(
    ("query", "column"),
    [
        ("{}", 2),
        ("{ taskRuns {} }", 13),
        ("{ taskRuns { nodes { ... on TaskRun {} } } }", 38),
        ("{ taskRunCount } fragment F on TaskRun {}", 41),
        ('mutation { deleteTaskRun(id: "x") {} }', 36),
    ],
)
async def test_an_empty_selection_is_a_syntax_error_with_its_position(client: Client, query: str, column: int) -> None:
    response = await post(client, {"query": query})

    (error,) = response.json()["errors"]
    assert error == {
        "message": "Syntax Error: Expected Name, found '}'.",
        "locations": [{"line": 1, "column": column}],
        "extensions": {"code": "BAD_USER_INPUT"},
    }


async def test_a_number_with_thousands_of_digits_is_refused(client: Client) -> None:
    response = await post(client, {"query": f"{{ taskRuns(first: {'9' * 5000}) {{ totalCount }} }}"})

    assert [error["extensions"]["code"] for error in response.json()["errors"]] == ["BAD_USER_INPUT"]


async def test_a_field_error_is_200_with_data_for_graphql_response_json(client: Client) -> None:
    response = await post(client, {"query": '{ taskRun(id: "x") { id } __typename }'}, Accept=RESPONSE_TYPE)

    assert (response.status_code, response.headers["content-type"]) == (200, RESPONSE_TYPE)
    assert response.json()["data"] == {"taskRun": None, "__typename": "Query"}
    assert [error["path"] for error in response.json()["errors"]] == [["taskRun"]]


async def test_a_syntax_error_has_its_location(client: Client) -> None:
    response = await post(client, {"query": "{\n  taskRuns(\n"})

    (error,) = response.json()["errors"]
    assert error["locations"] == [{"line": 3, "column": 1}]


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
async def test_a_response_has_the_accepted_content_type(client: Client, accept: str, content_type: str) -> None:
    response = await post(client, TYPENAME, Accept=accept)

    assert (response.status_code, response.headers["content-type"]) == (200, content_type)


@pytest.mark.parametrize("accept", ["text/html", "image/png", "text/plain, application/xml"])
async def test_an_unsupported_accept_type_is_refused_and_nothing_is_executed(client: Client, accept: str) -> None:
    response = await post(client, CREATE, Accept=accept)

    assert response.status_code == 406
    assert error_message(response) == f"Accept must include {RESPONSE_TYPE}, application/json or text/event-stream."
    assert await count_task_runs(client) == 0


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
async def test_accept_is_parsed_as_a_list_of_media_types(client: Client, accept: str, status: int) -> None:
    response = await post(client, TYPENAME, Accept=accept)

    assert response.status_code == status


async def test_a_browser_gets_graphiql(client: Client) -> None:
    accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

    response = await client.http.get("/graphql", headers={"Accept": accept})

    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<title>Runyard</title>" in response.text
    assert response.headers["vary"] == "Accept"


@pytest.mark.parametrize("path", ["/", "/graphql", "/graphql/"])
async def test_the_root_path_and_a_trailing_slash_serve_requests_without_a_redirect(client: Client, path: str) -> None:
    by_post = await client.http.post(path, json=CREATE)
    by_get = await client.http.get(path, params=TYPENAME)
    page = await client.http.get(path, headers={"Accept": "text/html"})
    async with connect(client.url.replace("http", "ws", 1) + path, subprotocols=PROTOCOLS, proxy=None) as connection:
        await connection.send('{"type": "connection_init"}')
        acknowledged = await Socket(connection).receive()

    assert by_post.json() == {"data": {"createTaskRun": {"created": True}}}
    assert by_get.json() == {"data": {"__typename": "Query"}}
    assert "<title>Runyard</title>" in page.text
    assert acknowledged == {"type": "connection_ack"}
    assert await count_task_runs(client) == 1


@pytest.mark.parametrize("path", ["/healthz/", "/readyz/", "/metrics/"])
async def test_other_pages_are_served_with_a_trailing_slash_too(client: Client, path: str) -> None:
    assert (await client.http.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/nothing", "/nothing/", "/graphql/nothing", "/graphiql", "/graphiql/"])
async def test_any_other_path_is_not_found(client: Client, path: str) -> None:
    assert (await client.http.get(path)).status_code == 404


@pytest.mark.parametrize(
    "headers", [{"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}, {"Sec-WebSocket-Protocol": "graphql-transport-ws"}]
)
@pytest.mark.parametrize("access", ["anonymous", "tokens"])
async def test_a_websocket_handshake_without_upgrade_is_refused_with_the_reason(
    tmp_path: Path, database_url: str, headers: dict[str, str], access: str
) -> None:
    async with run_server(tmp_path, database_url=database_url, access=access) as server:
        response = await server.client.http.get("/graphql", headers=headers)

    assert (response.status_code, response.headers["upgrade"]) == (426, "websocket")
    assert error_message(response) == (
        "The WebSocket handshake arrived without the headers Upgrade: websocket and Connection: Upgrade. Proxies "
        "between client and server must forward both."
    )


async def test_a_running_server_is_alive_and_ready(client: Client) -> None:
    alive, ready = await client.http.get("/healthz"), await client.http.get("/readyz")

    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    assert ready.headers["cache-control"] == "no-store"


async def test_a_stopping_server_is_alive_and_not_ready(server: RunningServer) -> None:
    await server.services.drain()

    alive, ready = await server.client.http.get("/healthz"), await server.client.http.get("/readyz")

    assert alive.status_code == 200
    assert (ready.status_code, ready.json()) == (503, {"status": "stopping"})


async def test_a_server_with_another_migration_version_is_not_ready(client: Client, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "runyard.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'later'")
        database.commit()

    ready = await client.http.get("/readyz")

    assert (ready.status_code, ready.json()) == (503, {"status": "the database's migrations are not current"})


async def test_the_server_field_returns_version_database_and_start_time(client: Client) -> None:
    server = await client.execute("GetServer")

    assert server == {
        "version": "0.1.0",
        "database": f"SQLite {sqlite3.sqlite_version}",
        "startedAt": "2030-01-01T12:00:00.000000Z",
    }

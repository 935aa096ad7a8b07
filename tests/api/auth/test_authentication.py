"""Token authentication: a valid token allows the operations of its scopes; every other request is refused."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from websockets.asyncio.client import connect

from db.connection import Connection
from queries import document
from resolvers.task_runs import read_queue_entries
from runyard.auth.authenticator import Authenticator
from tests.bearer_tokens import bearer_headers, post_query, revoke
from tests.client import TIMEOUT_SECONDS
from tests.event_streams import COMPLETE, next_event, read_events
from tests.serving import SQLITE_ONLY, RunningServer, run_server
from tests.tables import count_rows
from tests.websocket_messages import receive_close, send_connection_init

CREATE = 'mutation { createTaskRun(input: {taskKey: "t"}) { created } }'
RESPONSE_TYPE = "application/graphql-response+json"


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """Run a server that requires tokens."""
    async with run_server(tmp_path, database_url=database_url, access="tokens") as running:
        yield running


def error_code(response: httpx.Response) -> str:
    (error,) = response.json()["errors"]
    assert list(response.json()) == ["errors"]
    return error["extensions"]["code"]


def assert_unauthenticated(response: httpx.Response) -> None:
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert error_code(response) == "UNAUTHENTICATED"


async def test_a_valid_token_is_accepted(server: RunningServer) -> None:
    response = await post_query(server.client, "{ taskRunCount }", await bearer_headers(server, "read"))

    assert (response.status_code, response.json()) == (200, {"data": {"taskRunCount": 0}})


HEADERS: list[dict[str, str]] = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer nonsense"},
    {"Authorization": f"Bearer runyard_{'0' * 12}_{'0' * 64}"},
    {"Authorization": "Basic cnVueWFyZDpydW55YXJk"},
]


async def test_requests_without_a_valid_token_are_refused_without_effect(
    server: RunningServer, database_url: str
) -> None:
    for headers in HEADERS:
        for query in (CREATE, "{ __typename }", "{ __schema { queryType { name } } }", "{"):
            assert_unauthenticated(await post_query(server.client, query, headers))
    assert await count_rows(database_url, ["task_run"]) == {"task_run": 0}


async def test_a_valid_token_id_with_a_wrong_secret_is_refused(server: RunningServer) -> None:
    headers = await bearer_headers(server, "read")
    wrong = {"Authorization": headers["Authorization"][:-64] + "0" * 64}

    assert_unauthenticated(await post_query(server.client, "{ taskRunCount }", wrong))
    assert (await post_query(server.client, "{ taskRunCount }", headers)).status_code == 200
    assert_unauthenticated(await post_query(server.client, "{ taskRunCount }", wrong))


async def test_an_expired_token_is_refused(server: RunningServer) -> None:
    headers = await bearer_headers(server, "read", lifetime=timedelta(seconds=3))

    server.clock.advance(2.9)
    before = await post_query(server.client, "{ taskRunCount }", headers)
    server.clock.advance(0.1)

    assert before.status_code == 200
    assert_unauthenticated(await post_query(server.client, "{ taskRunCount }", headers))


async def test_a_revoked_token_is_refused_after_five_seconds(server: RunningServer) -> None:
    headers = await bearer_headers(server, "read")
    await post_query(server.client, "{ taskRunCount }", headers)

    await revoke(server.services.database, headers)
    server.clock.advance(5)

    assert_unauthenticated(await post_query(server.client, "{ taskRunCount }", headers))


@SQLITE_ONLY
async def test_concurrent_requests_with_one_token_cost_one_statement(server: RunningServer) -> None:
    headers = await bearer_headers(server, "read")
    authenticator: Authenticator = server.app.state.authenticator

    async with server.record_reads() as statements:
        callers = await asyncio.gather(*(authenticator.authenticate(headers["Authorization"]) for _ in range(5)))

    assert len(set(callers)) == 1
    assert len(statements) == 1


@SQLITE_ONLY
async def test_a_recently_verified_token_costs_no_statement(server: RunningServer) -> None:
    headers = await bearer_headers(server, "read")

    async with server.record_reads() as statements:
        await post_query(server.client, "{ __typename }", headers)
        first = len(statements)
        await post_query(server.client, "{ __typename }", headers)
        second = len(statements)

    assert (first, second) == (1, 1)


async def test_a_get_query_also_requires_a_token(server: RunningServer) -> None:
    parameters = {"query": "{ taskRunCount }"}

    assert_unauthenticated(await server.client.http.get("/graphql", params=parameters))
    allowed = await server.client.http.get("/graphql", params=parameters, headers=await bearer_headers(server, "read"))
    assert allowed.json() == {"data": {"taskRunCount": 0}}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/graphql"])
async def test_health_checks_and_graphiql_require_no_token(server: RunningServer, path: str) -> None:
    response = await server.client.http.get(path, headers={"Accept": "text/html"})

    assert response.status_code == 200


async def test_metrics_require_a_token_with_the_read_scope(server: RunningServer) -> None:
    http = server.client.http
    none = await http.get("/metrics")
    works = await http.get("/metrics", headers=await bearer_headers(server, "work"))
    reads = await http.get("/metrics", headers=await bearer_headers(server, "read"))

    assert (none.status_code, none.headers["www-authenticate"]) == (401, "Bearer")
    assert (works.status_code, reads.status_code) == (403, 200)


@SQLITE_ONLY
async def test_during_a_database_outage_only_recently_verified_tokens_are_accepted(server: RunningServer) -> None:
    known = await bearer_headers(server, "read", lifetime=timedelta(seconds=60))
    unknown = await bearer_headers(server, "read")
    query = "{ __typename }"
    await post_query(server.client, query, known)
    async with server.client.raw_socket() as connection:
        socket = await send_connection_init(connection, known)
        await socket.receive()

        await server.services.database.close()
        server.clock.advance(5)
        known_response = await post_query(server.client, query, known)
        unknown_response = await post_query(server.client, query, unknown)
        await socket.send({"type": "ping"})
        reply = await socket.receive()
        async with server.client.raw_socket() as other:
            await send_connection_init(other, unknown)
            closed = await receive_close(other)
        server.clock.advance(55)
        expired = await receive_close(connection)

    assert known_response.json() == {"data": {"__typename": "Query"}}
    assert (unknown_response.status_code, error_code(unknown_response)) == (503, "UNAVAILABLE")
    assert reply == {"type": "pong"}
    assert closed == (1013, "The database is unavailable")
    assert expired == (4403, "Forbidden")


async def test_each_scope_allows_exactly_its_own_operations(server: RunningServer) -> None:
    read, write, work = [await bearer_headers(server, scope) for scope in ("read", "write", "work")]
    run = (
        await post_query(server.client, document("CreateTaskRun")[0], write, variables={"input": {"taskKey": "t"}})
    ).json()
    id = run["data"]["createTaskRun"]["taskRun"]["id"]
    queries = {
        "lists": "{ taskRuns(first: 1) { totalCount } }",
        "reads": f'{{ taskRun(id: "{id}") {{ id }} }}',
        "updates": f'mutation {{ updateTaskRun(id: "{id}", input: {{name: "n"}}) {{ taskRun {{ id }} }} }}',
        "sets state": f'mutation {{ setTaskRunState(id: "{id}", state: {{type: RUNNING}}) {{ status }} }}',
        "claims": 'mutation { claimTaskRuns(taskKeys: ["t"]) { deliveries { leaseId } } }',
        "introspects": "{ __schema { queryType { name } } __typename }",
    }

    allowed = {
        name: [
            who
            for who, headers in {"read": read, "write": write, "work": work}.items()
            if "errors" not in (await post_query(server.client, query, headers)).json()
        ]
        for name, query in queries.items()
    }

    assert allowed == {
        "lists": ["read", "write"],
        "reads": ["read", "write", "work"],
        "updates": ["write"],
        "sets state": ["write"],
        "claims": ["work"],
        "introspects": ["read", "write", "work"],
    }


@pytest.mark.parametrize(
    "query",
    [
        CREATE,
        'mutation { a: createTaskRun(input: {taskKey: "t"}) { created } }',
        "mutation { ...Create } " + CREATE.replace("mutation", "fragment Create on Mutation"),
        "mutation { ... on Mutation " + CREATE.removeprefix("mutation") + " }",
        "mutation M($no: Boolean = false) { __typename "
        + CREATE.removeprefix("mutation {").replace(")", ") @include(if: $no)", 1),
    ],
)
async def test_a_forbidden_field_is_named_and_has_no_effect(
    server: RunningServer, database_url: str, query: str
) -> None:
    response = await post_query(
        server.client, query, await bearer_headers(server, "read", "work") | {"Accept": RESPONSE_TYPE}
    )

    assert (response.status_code, error_code(response)) == (403, "FORBIDDEN")
    (error,) = response.json()["errors"]
    assert error["message"] == "createTaskRun requires a token with the scope write; this token has read and work."
    assert await count_rows(database_url, ["task_run"]) == {"task_run": 0}


async def test_one_forbidden_field_also_prevents_the_fields_before_it(server: RunningServer, database_url: str) -> None:
    claim = 'claimTaskRuns(taskKeys: ["t"]) { deliveries { leaseId } }'
    query = f'mutation {{ {claim} createFlow(input: {{name: "f"}}) {{ created }} }}'

    response = await post_query(server.client, query, await bearer_headers(server, "write"))

    assert (response.status_code, error_code(response)) == (200, "FORBIDDEN")
    assert await count_rows(database_url, ["flow"]) == {"flow": 0}


async def test_only_the_selected_operation_of_a_document_is_authorized(server: RunningServer) -> None:
    query = f"query Count {{ taskRunCount }} {CREATE.replace('mutation', 'mutation Create')}"
    headers = await bearer_headers(server, "read")

    allowed = await post_query(server.client, query, headers, operationName="Count")
    refused = await post_query(server.client, query, headers, operationName="Create")

    assert allowed.json() == {"data": {"taskRunCount": 0}}
    assert error_code(refused) == "FORBIDDEN"


@pytest.mark.parametrize("is_revoked", [True, False])
async def test_an_event_stream_ends_when_its_token_becomes_invalid(server: RunningServer, is_revoked: bool) -> None:
    lifetime = None if is_revoked else timedelta(seconds=4)
    headers = await bearer_headers(server, "work", lifetime=lifetime) | {"Accept": "text/event-stream"}
    body = {"query": document("ScheduledTaskRuns")[0], "variables": {"taskKeys": ["t"]}}

    async with server.client.http.stream("POST", "/graphql", json=body, headers=headers) as response:
        events = read_events(response)
        if is_revoked:
            await revoke(server.services.database, headers)
        server.clock.advance(5 if is_revoked else 4)
        name, result = await next_event(events)
        end = await next_event(events)

    assert (name, [error["extensions"] for error in result["errors"]]) == ("next", [{"code": "UNAUTHENTICATED"}])
    assert end == COMPLETE


async def test_an_event_stream_requires_its_scope(server: RunningServer) -> None:
    headers = await bearer_headers(server, "read") | {"Accept": "text/event-stream"}
    body = {"query": document("ScheduledTaskRuns")[0], "variables": {"taskKeys": ["t"]}}

    async with server.client.http.stream("POST", "/graphql", json=body, headers=headers) as response:
        name, result = await next_event(read_events(response))

    assert (name, result["errors"][0]["extensions"]) == ("next", {"code": "FORBIDDEN"})


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
async def test_a_socket_may_send_its_token_in_connection_init(server: RunningServer, name: str) -> None:
    token = (await bearer_headers(server, "read"))["Authorization"]

    async with server.client.raw_socket() as connection:
        socket = await send_connection_init(connection, {name: token})

        assert await socket.receive() == {"type": "connection_ack"}
        await socket.subscribe("CountTaskRuns")
        assert await socket.event() == 0


async def test_a_socket_may_send_its_token_in_the_upgrade_request(server: RunningServer) -> None:
    address = server.client.url.replace("http", "ws", 1) + "/graphql"
    headers = await bearer_headers(server, "read")

    async with connect(
        address,
        subprotocols=["graphql-transport-ws"],
        proxy=None,
        additional_headers=headers,  # type: ignore[list-item]
    ) as connection:
        assert await (await send_connection_init(connection)).receive() == {"type": "connection_ack"}


@pytest.mark.parametrize("payload", [None, {}, {"Authorization": "Bearer x"}, {"Authorization": 5}, {"token": "x"}])
async def test_a_socket_without_a_valid_token_is_closed_with_4403(server: RunningServer, payload: object) -> None:
    async with server.client.raw_socket() as connection:
        await send_connection_init(connection, payload)

        assert await receive_close(connection) == (4403, "Forbidden")


async def test_a_socket_operation_outside_the_scopes_is_forbidden(server: RunningServer, database_url: str) -> None:
    async with server.client.raw_socket() as connection:
        socket = await send_connection_init(connection, await bearer_headers(server, "work"))
        await socket.receive()
        payload = {"query": CREATE}
        await socket.send({"id": "1", "type": "subscribe", "payload": payload})
        refused = await socket.receive()

    assert (refused["type"], refused["payload"][0]["extensions"]) == ("error", {"code": "FORBIDDEN"})
    assert await count_rows(database_url, ["task_run"]) == {"task_run": 0}


@pytest.mark.parametrize("is_revoked", [True, False])
async def test_an_invalidated_token_closes_the_socket_and_releases_unacknowledged_runs(
    server: RunningServer, is_revoked: bool
) -> None:
    lifetime = None if is_revoked else timedelta(seconds=4)
    headers = await bearer_headers(server, "write", "work", lifetime=lifetime)
    run = await post_query(
        server.client,
        document("CreateTaskRun")[0],
        headers,
        variables={"input": {"taskKey": "t", "state": {"type": "SCHEDULED"}}},
    )
    id = run.json()["data"]["createTaskRun"]["taskRun"]["id"]
    async with server.client.raw_socket() as connection:
        socket = await send_connection_init(connection, headers)
        await socket.receive()
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        await socket.deliveries(1)
        if is_revoked:
            await revoke(server.services.database, headers)
        server.clock.advance(5 if is_revoked else 4)

        assert await receive_close(connection) == (4403, "Forbidden")

    def entry(read: Connection) -> Any:
        return read_queue_entries(read, [id])[0]

    assert (await server.services.database.read(entry)).lease_id is None
    assert (await server.services.database.read(entry)).lapses == 0


async def test_a_socket_stays_open_while_its_token_is_valid(server: RunningServer) -> None:
    headers = await bearer_headers(server, "read", lifetime=timedelta(seconds=60))
    async with server.client.raw_socket() as connection:
        socket = await send_connection_init(connection, headers)
        await socket.receive()
        for _ in range(3):
            await server.clock.wait_for_waiter(5)
            server.clock.advance(5)

        await socket.send({"type": "ping"})
        assert await socket.receive() == {"type": "pong"}


async def test_a_malformed_connection_init_payload_is_closed_with_4400(server: RunningServer) -> None:
    async with server.client.raw_socket() as connection:
        await connection.send(orjson.dumps({"type": "connection_init", "payload": 5}).decode())

        assert await receive_close(connection) == (4400, "Invalid connection init payload")


async def wait_for_no_sockets(server: RunningServer) -> None:
    """Wait until the server has registered that all sockets are closed."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while server.app.state.operation_metrics.open_websockets:
            await server.client.http.get("/healthz")


async def test_each_token_has_a_limited_number_of_sockets(database_url: str, tmp_path: Path) -> None:
    changed = {"database_url": database_url, "access": "tokens", "max_sockets_per_client": 1}
    async with run_server(tmp_path, **changed) as server:
        one, other = await bearer_headers(server, "read"), await bearer_headers(server, "read")
        async with server.client.raw_socket() as first:
            assert await (await send_connection_init(first, one)).receive() == {"type": "connection_ack"}
            async with server.client.raw_socket() as second:
                await send_connection_init(second, one)
                assert await receive_close(second) == (4429, "Too many connections from this client")
            async with server.client.raw_socket() as third:
                assert await (await send_connection_init(third, other)).receive() == {"type": "connection_ack"}
        await wait_for_no_sockets(server)
        async with server.client.raw_socket() as again:
            assert await (await send_connection_init(again, one)).receive() == {"type": "connection_ack"}


@SQLITE_ONLY
async def test_without_tokens_each_address_has_a_limited_number_of_sockets(database_url: str, tmp_path: Path) -> None:
    async with run_server(tmp_path, database_url=database_url, max_sockets_per_client=2) as server:
        async with server.client.socket(), server.client.raw_socket(), server.client.raw_socket() as third:
            assert await receive_close(third) == (4429, "Too many connections from this client")
            assert third.subprotocol == "graphql-transport-ws"
        await wait_for_no_sockets(server)
        async with server.client.socket() as again:
            await again.send({"type": "ping"})
            assert await again.receive() == {"type": "pong"}

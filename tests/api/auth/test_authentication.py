"""Where access is by tokens, holders of valid ones are let in, to do what their scopes allow; nobody else."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from db.connection import Connection
from db.database import Database
from queries import document
from resolvers.api_tokens import revoke_tokens
from resolvers.task_runs import read_queue_entries
from runyard.auth.authenticator import Access
from tests.api.http.test_event_streams import COMPLETE, events_of, following
from tests.builders.tokens import new_token
from tests.client import PATIENCE, Client, Socket
from tests.serving import ON_SQLITE, Serving, serving
from tests.tables import count_rows

CREATE = 'mutation { createTaskRun(input: {taskKey: "t"}) { created } }'
RESPONSE_TYPE = "application/graphql-response+json"


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[Serving]:
    """A server that lets in holders of tokens alone."""
    async with serving(tmp_path, database_url=database_url, access="tokens") as served:
        yield served


async def bearer(server: Serving, *scopes: str, **fields: Any) -> dict[str, str]:
    """The header of somebody with a new token."""
    token = await new_token(server.life.database, *scopes, **fields)
    return {"Authorization": f"Bearer {token.text}"}


async def ask(client: Client, query: str, headers: dict[str, str], **more: Any) -> httpx.Response:
    return await client.http.post("/graphql", json={"query": query, **more}, headers=headers)


def code_of(response: httpx.Response) -> str:
    (error,) = response.json()["errors"]
    assert list(response.json()) == ["errors"]
    return error["extensions"]["code"]


def assert_turned_away(response: httpx.Response) -> None:
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert code_of(response) == "UNAUTHENTICATED"


async def revoke(database: Database, headers: dict[str, str]) -> None:
    await database.write(revoke_tokens, headers["Authorization"].removeprefix("Bearer "))


# --- HTTP ---


async def test_a_valid_token_lets_in(server: Serving) -> None:
    response = await ask(server.client, "{ taskRunCount }", await bearer(server, "read"))

    assert (response.status_code, response.json()) == (200, {"data": {"taskRunCount": 0}})


HEADERS: list[dict[str, str]] = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer nonsense"},
    {"Authorization": f"Bearer runyard_{'0' * 12}_{'0' * 64}"},
    {"Authorization": "Basic cnVueWFyZDpydW55YXJk"},
]


async def test_without_one_nothing_is_answered_and_nothing_is_done(server: Serving, database_url: str) -> None:
    for headers in HEADERS:
        for query in (CREATE, "{ __typename }", "{ __schema { queryType { name } } }", "{"):
            assert_turned_away(await ask(server.client, query, headers))
    assert await count_rows(database_url, ["task_run"]) == {"task_run": 0}


async def test_the_right_id_with_a_wrong_secret_does_not_let_in(server: Serving) -> None:
    headers = await bearer(server, "read")
    wrong = {"Authorization": headers["Authorization"][:-64] + "0" * 64}

    assert_turned_away(await ask(server.client, "{ taskRunCount }", wrong))
    assert (await ask(server.client, "{ taskRunCount }", headers)).status_code == 200
    assert_turned_away(await ask(server.client, "{ taskRunCount }", wrong))


async def test_an_expired_token_does_not_let_in(server: Serving) -> None:
    headers = await bearer(server, "read", lifetime=timedelta(seconds=3))

    server.clock.advance(2.9)
    before = await ask(server.client, "{ taskRunCount }", headers)
    server.clock.advance(0.1)

    assert before.status_code == 200
    assert_turned_away(await ask(server.client, "{ taskRunCount }", headers))


async def test_a_revoked_token_does_not_let_in_after_five_seconds(server: Serving) -> None:
    headers = await bearer(server, "read")
    await ask(server.client, "{ taskRunCount }", headers)

    await revoke(server.life.database, headers)
    server.clock.advance(5)

    assert_turned_away(await ask(server.client, "{ taskRunCount }", headers))


@ON_SQLITE
async def test_many_that_come_with_one_token_cost_one_statement(server: Serving) -> None:
    headers = await bearer(server, "read")
    access: Access = server.app.state.access

    async with server.counting() as statements:
        callers = await asyncio.gather(*(access.caller(headers["Authorization"]) for _ in range(5)))

    assert len(set(callers)) == 1
    assert len(statements) == 1


@ON_SQLITE
async def test_a_token_that_was_just_seen_costs_no_statement(server: Serving) -> None:
    headers = await bearer(server, "read")

    async with server.counting() as statements:
        await ask(server.client, "{ __typename }", headers)
        first = len(statements)
        await ask(server.client, "{ __typename }", headers)
        second = len(statements)

    assert (first, second) == (1, 1)


async def test_a_query_by_get_needs_a_token_too(server: Serving) -> None:
    parameters = {"query": "{ taskRunCount }"}

    assert_turned_away(await server.client.http.get("/graphql", params=parameters))
    allowed = await server.client.http.get("/graphql", params=parameters, headers=await bearer(server, "read"))
    assert allowed.json() == {"data": {"taskRunCount": 0}}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/graphql"])
async def test_health_and_the_page_need_no_token(server: Serving, path: str) -> None:
    response = await server.client.http.get(path, headers={"Accept": "text/html"})

    assert response.status_code == 200


async def test_metrics_need_a_token_that_reads(server: Serving) -> None:
    http = server.client.http
    none = await http.get("/metrics")
    works = await http.get("/metrics", headers=await bearer(server, "work"))
    reads = await http.get("/metrics", headers=await bearer(server, "read"))

    assert (none.status_code, none.headers["www-authenticate"]) == (401, "Bearer")
    assert (works.status_code, reads.status_code) == (403, 200)


# --- while the database is away ---


@ON_SQLITE
async def test_who_was_let_in_goes_on_to_be_and_nobody_else_is(server: Serving) -> None:
    known = await bearer(server, "read", lifetime=timedelta(seconds=60))
    stranger = await bearer(server, "read")
    query = "{ __typename }"
    await ask(server.client, query, known)
    async with server.client.raw_socket() as connection:
        socket = await introduced(connection, known)
        await socket.receive()

        await server.life.database.close()
        server.clock.advance(5)
        of_known = await ask(server.client, query, known)
        of_stranger = await ask(server.client, query, stranger)
        await socket.send({"type": "ping"})
        still = await socket.receive()
        async with server.client.raw_socket() as other:
            await introduced(other, stranger)
            closed = await closing_of(other)
        server.clock.advance(55)
        expired = await closing_of(connection)

    assert of_known.json() == {"data": {"__typename": "Query"}}
    assert (of_stranger.status_code, code_of(of_stranger)) == (503, "UNAVAILABLE")
    assert still == {"type": "pong"}
    assert closed == (1013, "The database is away")
    assert expired == (4403, "Forbidden")


# --- scopes ---


async def test_a_scope_does_what_it_is_for_and_nothing_else(server: Serving) -> None:
    read, write, work = [await bearer(server, scope) for scope in ("read", "write", "work")]
    run = (await ask(server.client, document("CreateTaskRun")[0], write, variables={"input": {"taskKey": "t"}})).json()
    id = run["data"]["createTaskRun"]["taskRun"]["id"]
    queries = {
        "lists": "{ taskRuns(first: 1) { totalCount } }",
        "reads one": f'{{ taskRun(id: "{id}") {{ id }} }}',
        "updates": f'mutation {{ updateTaskRun(id: "{id}", input: {{name: "n"}}) {{ id }} }}',
        "sets": f'mutation {{ setTaskRunState(id: "{id}", state: {{type: RUNNING}}) {{ status }} }}',
        "claims": 'mutation { claimTaskRuns(taskKeys: ["t"]) { leaseId } }',
        "looks at the schema": "{ __schema { queryType { name } } __typename }",
    }

    allowed = {
        name: [
            who
            for who, headers in {"read": read, "write": write, "work": work}.items()
            if "errors" not in (await ask(server.client, query, headers)).json()
        ]
        for name, query in queries.items()
    }

    assert allowed == {
        "lists": ["read", "write"],
        "reads one": ["read", "write", "work"],
        "updates": ["write"],
        "sets": ["write", "work"],
        "claims": ["work"],
        "looks at the schema": ["read", "write", "work"],
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
async def test_what_is_forbidden_is_named_and_not_begun(server: Serving, database_url: str, query: str) -> None:
    response = await ask(server.client, query, await bearer(server, "read", "work") | {"Accept": RESPONSE_TYPE})

    assert (response.status_code, code_of(response)) == (403, "FORBIDDEN")
    (error,) = response.json()["errors"]
    assert error["message"] == "createTaskRun needs a token with the scope write; this one has read and work."
    assert await count_rows(database_url, ["task_run"]) == {"task_run": 0}


async def test_one_forbidden_field_stops_those_before_it_too(server: Serving, database_url: str) -> None:
    query = 'mutation { claimTaskRuns(taskKeys: ["t"]) { leaseId } createFlow(input: {name: "f"}) { created } }'

    response = await ask(server.client, query, await bearer(server, "write"))

    assert (response.status_code, code_of(response)) == (200, "FORBIDDEN")
    assert await count_rows(database_url, ["flow"]) == {"flow": 0}


async def test_of_several_operations_the_one_that_is_run_is_judged(server: Serving) -> None:
    query = f"query Count {{ taskRunCount }} {CREATE.replace('mutation', 'mutation Create')}"
    headers = await bearer(server, "read")

    allowed = await ask(server.client, query, headers, operationName="Count")
    refused = await ask(server.client, query, headers, operationName="Create")

    assert allowed.json() == {"data": {"taskRunCount": 0}}
    assert code_of(refused) == "FORBIDDEN"


# --- streams ---


@pytest.mark.parametrize("is_revoked", [True, False])
async def test_an_event_stream_ends_with_its_token(server: Serving, is_revoked: bool) -> None:
    lifetime = None if is_revoked else timedelta(seconds=4)
    headers = await bearer(server, "work", lifetime=lifetime) | {"Accept": "text/event-stream"}
    body = {"query": document("ScheduledTaskRuns")[0], "variables": {"taskKeys": ["t"]}}

    async with server.client.http.stream("POST", "/graphql", json=body, headers=headers) as response:
        events = events_of(response)
        if is_revoked:
            await revoke(server.life.database, headers)
        server.clock.advance(5 if is_revoked else 4)
        name, result = await following(events)
        end = await following(events)

    assert (name, [error["extensions"] for error in result["errors"]]) == ("next", [{"code": "UNAUTHENTICATED"}])
    assert end == COMPLETE


async def test_an_event_stream_needs_its_scope(server: Serving) -> None:
    headers = await bearer(server, "read") | {"Accept": "text/event-stream"}
    body = {"query": document("ScheduledTaskRuns")[0], "variables": {"taskKeys": ["t"]}}

    async with server.client.http.stream("POST", "/graphql", json=body, headers=headers) as response:
        name, result = await following(events_of(response))

    assert (name, result["errors"][0]["extensions"]) == ("next", {"code": "FORBIDDEN"})


# --- WebSocket ---


async def introduced(connection: ClientConnection, payload: object = None) -> Socket:
    socket = Socket(connection)
    await socket.send({"type": "connection_init", **({} if payload is None else {"payload": payload})})
    return socket


async def closing_of(connection: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as closed:
        await asyncio.wait_for(connection.recv(), PATIENCE)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
async def test_a_socket_shows_its_token_in_its_introduction(server: Serving, name: str) -> None:
    token = (await bearer(server, "read"))["Authorization"]

    async with server.client.raw_socket() as connection:
        socket = await introduced(connection, {name: token})

        assert await socket.receive() == {"type": "connection_ack"}
        await socket.subscribe("CountTaskRuns")
        assert await socket.event() == 0


async def test_a_socket_may_show_its_token_with_the_upgrade(server: Serving) -> None:
    address = server.client.url.replace("http", "ws", 1) + "/graphql"
    headers = await bearer(server, "read")

    async with connect(
        address,
        subprotocols=["graphql-transport-ws"],
        proxy=None,
        additional_headers=headers,  # type: ignore[list-item]
    ) as connection:
        assert await (await introduced(connection)).receive() == {"type": "connection_ack"}


@pytest.mark.parametrize("payload", [None, {}, {"Authorization": "Bearer x"}, {"Authorization": 5}, {"token": "x"}])
async def test_a_socket_without_a_token_is_closed_with_4403(server: Serving, payload: object) -> None:
    async with server.client.raw_socket() as connection:
        await introduced(connection, payload)

        assert await closing_of(connection) == (4403, "Forbidden")


async def test_a_socket_does_what_its_scopes_allow(server: Serving, database_url: str) -> None:
    async with server.client.raw_socket() as connection:
        socket = await introduced(connection, await bearer(server, "work"))
        await socket.receive()
        payload = {"query": CREATE}
        await socket.send({"id": "1", "type": "subscribe", "payload": payload})
        refused = await socket.receive()

    assert (refused["type"], refused["payload"][0]["extensions"]) == ("error", {"code": "FORBIDDEN"})
    assert await count_rows(database_url, ["task_run"]) == {"task_run": 0}


@pytest.mark.parametrize("is_revoked", [True, False])
async def test_a_socket_ends_with_its_token_and_gives_back_what_was_not_begun(
    server: Serving, is_revoked: bool
) -> None:
    lifetime = None if is_revoked else timedelta(seconds=4)
    headers = await bearer(server, "write", "work", lifetime=lifetime)
    run = await ask(
        server.client,
        document("CreateTaskRun")[0],
        headers,
        variables={"input": {"taskKey": "t", "state": {"type": "SCHEDULED"}}},
    )
    id = run.json()["data"]["createTaskRun"]["taskRun"]["id"]
    async with server.client.raw_socket() as connection:
        socket = await introduced(connection, headers)
        await socket.receive()
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        await socket.deliveries(1)
        if is_revoked:
            await revoke(server.life.database, headers)
        server.clock.advance(5 if is_revoked else 4)

        assert await closing_of(connection) == (4403, "Forbidden")

    def entry(read: Connection) -> Any:
        return read_queue_entries(read, [id])[0]

    assert (await server.life.database.read(entry)).lease_id is None
    assert (await server.life.database.read(entry)).lapses == 0


async def test_a_socket_stays_while_its_token_is_valid(server: Serving) -> None:
    headers = await bearer(server, "read", lifetime=timedelta(seconds=60))
    async with server.client.raw_socket() as connection:
        socket = await introduced(connection, headers)
        await socket.receive()
        for _ in range(3):
            await server.clock.somebody_waits(5)
            server.clock.advance(5)

        await socket.send({"type": "ping"})
        assert await socket.receive() == {"type": "pong"}


async def test_a_malformed_introduction_is_told_as_such(server: Serving) -> None:
    async with server.client.raw_socket() as connection:
        await connection.send(orjson.dumps({"type": "connection_init", "payload": 5}).decode())

        assert await closing_of(connection) == (4400, "Invalid connection init payload")


# --- how many ---


async def no_sockets(server: Serving) -> None:
    """Return when the server has noticed that all sockets are closed."""
    async with asyncio.timeout(PATIENCE):
        while server.app.state.meter.sockets:
            await server.client.http.get("/healthz")


async def test_a_token_has_so_many_sockets_and_no_more(database_url: str, tmp_path: Path) -> None:
    changed = {"database_url": database_url, "access": "tokens", "max_sockets_per_client": 1}
    async with serving(tmp_path, **changed) as server:
        one, other = await bearer(server, "read"), await bearer(server, "read")
        async with server.client.raw_socket() as first:
            assert await (await introduced(first, one)).receive() == {"type": "connection_ack"}
            async with server.client.raw_socket() as second:
                await introduced(second, one)
                assert await closing_of(second) == (4429, "Too many sockets of this client")
            async with server.client.raw_socket() as third:
                assert await (await introduced(third, other)).receive() == {"type": "connection_ack"}
        await no_sockets(server)
        async with server.client.raw_socket() as again:
            assert await (await introduced(again, one)).receive() == {"type": "connection_ack"}


@ON_SQLITE
async def test_without_tokens_an_address_has_so_many_sockets(database_url: str, tmp_path: Path) -> None:
    async with serving(tmp_path, database_url=database_url, max_sockets_per_client=2) as server:
        async with server.client.socket(), server.client.raw_socket(), server.client.raw_socket() as third:
            assert await closing_of(third) == (4429, "Too many sockets of this client")
            assert third.subprotocol == "graphql-transport-ws"
        await no_sockets(server)
        async with server.client.socket() as again:
            await again.send({"type": "ping"})
            assert await again.receive() == {"type": "pong"}

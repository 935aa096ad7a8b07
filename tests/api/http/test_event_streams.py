"""Subscriptions, queries and mutations over Server-Sent Events (graphql-sse)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from queries import document
from tests.client import Client
from tests.event_streams import COMPLETE, next_event, read_events
from tests.serving import SQLITE_ONLY, RunningServer, run_server

pytestmark = SQLITE_ONLY

STREAM = "text/event-stream"


@asynccontextmanager
async def streaming(
    client: Client, query: str, accept: str = STREAM, **variables: Any
) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[tuple[str, Any]]]]:
    """Yield the response and an iterator of its events as (name, data); a comment has an empty name."""
    body = {"query": query, "variables": variables}
    async with client.http.stream("POST", "/graphql", json=body, headers={"Accept": accept}) as response:
        yield response, read_events(response)


LISTEN = document("ScheduledTaskRuns")[0]


async def test_a_subscription_is_a_stream_of_events(client: Client) -> None:
    async with streaming(client, LISTEN, taskKeys=["t"]) as (response, events):
        created = await client.execute("CreateTaskRun", input={"taskKey": "t", "state": {"type": "SCHEDULED"}})
        name, result = await next_event(events)

    assert response.status_code == 200
    assert response.headers["content-type"].startswith(STREAM)
    assert response.headers["cache-control"] == "no-store"
    (delivery,) = result["data"]["scheduledTaskRuns"]
    assert (name, delivery["taskRun"]["id"]) == ("next", created["taskRun"]["id"])


async def test_a_disconnected_client_releases_its_unacknowledged_runs(server: RunningServer) -> None:
    client = server.client
    async with streaming(client, LISTEN, taskKeys=["t"]) as (_, events):
        created = await client.execute("CreateTaskRun", input={"taskKey": "t", "state": {"type": "SCHEDULED"}})
        await next_event(events)

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)
    assert delivery["taskRun"]["id"] == created["taskRun"]["id"]


@pytest.mark.parametrize(
    ("operation", "variables"), [("ScheduledTaskRuns", {"taskKeys": ["t"]}), ("TaskRunStateChanges", {})]
)
async def test_a_stopping_server_ends_its_streams_without_completing_them(
    server: RunningServer, operation: str, variables: dict[str, Any]
) -> None:
    async with streaming(server.client, document(operation)[0], **variables) as (_, events):
        await server.services.drain()

        with pytest.raises(StopAsyncIteration):
            await next_event(events)


async def test_a_subscription_to_a_stopping_server_gets_a_retryable_error_and_no_complete(
    server: RunningServer,
) -> None:
    await server.services.drain()

    async with streaming(server.client, LISTEN, taskKeys=["t"]) as (_, events):
        ((name, result),) = [event async for event in events]

    assert (name, result["errors"][0]["extensions"]) == ("next", {"code": "UNAVAILABLE", "retryable": True})


async def test_a_query_to_a_stopping_server_is_completed(server: RunningServer) -> None:
    await server.services.drain()

    async with streaming(server.client, "{ __typename }") as (_, events):
        assert [event async for event in events] == [("next", {"data": {"__typename": "Query"}}), COMPLETE]


async def test_an_idle_stream_is_kept_alive_by_comments(tmp_path: Path) -> None:
    async with (
        run_server(tmp_path, keep_alive_seconds=0.05) as server,
        streaming(server.client, LISTEN, taskKeys=["t"]) as (_, events),
    ):
        # The manual clock does not advance, so no empty event is sent.
        assert [await next_event(events) for _ in range(2)] == [("", "")] * 2


@pytest.mark.parametrize(
    ("query", "result"),
    [
        ("{ __typename }", {"data": {"__typename": "Query"}}),
        (
            'mutation { createTaskRun(input: {taskKey: "t"}) { created } }',
            {"data": {"createTaskRun": {"created": True}}},
        ),
    ],
)
async def test_a_query_or_mutation_is_one_event(client: Client, query: str, result: object) -> None:
    async with streaming(client, query) as (_, events):
        assert [event async for event in events] == [("next", result), COMPLETE]


async def test_an_invalid_operation_is_reported_as_an_event(client: Client) -> None:
    async with streaming(client, "subscription { nothing }") as (response, events):
        (name, result), *rest = [event async for event in events]

    assert (response.status_code, name, rest) == (200, "next", [COMPLETE])
    assert list(result) == ["errors"]
    assert result["errors"][0]["extensions"] == {"code": "BAD_USER_INPUT"}


async def test_a_client_accepting_both_types_gets_json_queries_and_streamed_subscriptions(client: Client) -> None:
    accept = f"application/graphql-response+json, application/json, {STREAM}"

    async with streaming(client, "{ __typename }", accept) as (response, _):
        assert response.headers["content-type"] == "application/graphql-response+json"
    async with streaming(client, LISTEN, accept, taskKeys=["t"]) as (response, _):
        assert response.headers["content-type"].startswith(STREAM)


async def test_every_state_change_after_the_response_headers_is_streamed_by_get(client: Client) -> None:
    query = document("TaskRunStateChanges")[0]
    async with client.http.stream("GET", "/graphql", params={"query": query}, headers={"Accept": STREAM}) as response:
        events = read_events(response)
        created = await client.execute("CreateTaskRun", input={"taskKey": "t", "state": {"type": "SCHEDULED"}})
        name, result = await next_event(events)

    assert (response.status_code, response.headers["content-type"]) == (200, f"{STREAM}; charset=utf-8")
    assert (name, result["data"]["taskRunStateChanges"]["taskRun"]["id"]) == ("next", created["taskRun"]["id"])


@pytest.mark.parametrize("accept", [STREAM, "*/*"])
async def test_scheduled_runs_by_get_are_refused_and_not_delivered(client: Client, accept: str) -> None:
    created = await client.execute("CreateTaskRun", input={"taskKey": "t", "state": {"type": "SCHEDULED"}})
    parameters = {"query": LISTEN, "variables": '{"taskKeys": ["t"]}'}

    response = await client.http.get("/graphql", params=parameters, headers={"Accept": accept})

    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    (error,) = response.json()["errors"]
    assert error == {
        "message": "Subscriptions that deliver task runs must be sent by POST.",
        "extensions": {"code": "BAD_USER_INPUT"},
    }
    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]
    assert (delivery["taskRun"]["id"], delivery["attempt"]) == (created["taskRun"]["id"], 1)


async def test_state_changes_by_get_without_accept_name_the_header(client: Client) -> None:
    response = await client.http.get("/graphql", params={"query": "subscription { taskRunStateChanges { cursor } }"})

    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert error["message"] == (
        "Subscriptions must be sent over WebSocket (graphql-transport-ws), or with the header Accept: text/event-stream."
    )


@pytest.mark.parametrize("headers", [{"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_pages_of_other_origins_may_not_stream_state_changes(client: Client, headers: dict[str, str]) -> None:
    parameters = {"query": "subscription { taskRunStateChanges { cursor } }"}

    response = await client.http.get("/graphql", params=parameters, headers={"Accept": STREAM, **headers})

    assert response.status_code == 403
    assert response.json()["errors"][0]["extensions"] == {"code": "FORBIDDEN"}


async def test_graphql_sse_single_connection_mode_is_refused(client: Client) -> None:
    response = await client.http.put("/graphql", headers={"Accept": STREAM})

    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST")
    (error,) = response.json()["errors"]
    assert error["message"] == (
        "GraphQL requests must use GET or POST. The single connection mode of graphql-sse is not supported."
    )

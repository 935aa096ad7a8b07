"""Subscriptions, and whatever else, as server-sent events by the protocol graphql-sse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from queries import document
from tests.client import PATIENCE, Client
from tests.serving import Serving, serving


@pytest.fixture
def database_kind() -> str:
    """One kind alone: these promises are kept in front of the database."""
    return "sqlite"


STREAM = "text/event-stream"
COMPLETE = ("complete", "")


@asynccontextmanager
async def streaming(
    client: Client, query: str, accept: str = STREAM, **variables: Any
) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[tuple[str, Any]]]]:
    """The response, and its events by name with their data; a comment goes by the name of nothing."""
    body = {"query": query, "variables": variables}
    async with client.http.stream("POST", "/graphql", json=body, headers={"Accept": accept}) as response:
        yield response, events_of(response)


async def events_of(response: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    text = ""
    async for part in response.aiter_text():
        text += part
        while "\n\n" in text:
            event, _, text = text.partition("\n\n")
            fields = dict(line.split(":", 1) for line in event.split("\n"))
            data = fields.get("data", "").strip()
            yield fields.get("event", "").strip(), orjson.loads(data) if data else ""


async def following(events: AsyncIterator[tuple[str, Any]]) -> tuple[str, Any]:
    return await asyncio.wait_for(anext(events), PATIENCE)


LISTEN = document("ScheduledTaskRuns")[0]


async def test_a_subscription_is_a_stream_of_events(client: Client) -> None:
    async with streaming(client, LISTEN, taskKeys=["t"]) as (response, events):
        created = await client.ask("CreateTaskRun", input={"taskKey": "t", "state": {"type": "SCHEDULED"}})
        name, result = await following(events)

    assert response.status_code == 200
    assert response.headers["content-type"].startswith(STREAM)
    assert response.headers["cache-control"] == "no-store"
    (delivery,) = result["data"]["scheduledTaskRuns"]
    assert (name, delivery["taskRun"]["id"]) == ("next", created["taskRun"]["id"])


async def test_a_client_that_goes_away_gives_back_what_it_has_not_taken_over(server: Serving) -> None:
    client = server.client
    async with streaming(client, LISTEN, taskKeys=["t"]) as (_, events):
        created = await client.ask("CreateTaskRun", input={"taskKey": "t", "state": {"type": "SCHEDULED"}})
        await following(events)

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)
    assert delivery["taskRun"]["id"] == created["taskRun"]["id"]


async def test_a_stopping_server_completes_its_streams(server: Serving) -> None:
    async with streaming(server.client, LISTEN, taskKeys=["t"]) as (_, events):
        await server.life.drain()

        assert await following(events) == COMPLETE
        with pytest.raises(StopAsyncIteration):
            await following(events)


async def test_a_silent_stream_is_kept_alive_by_comments(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, keep_alive_seconds=0.05) as served,
        streaming(served.client, LISTEN, taskKeys=["t"]) as (_, events),
    ):
        # The clock stands still, so that no empty event comes.
        assert [await following(events) for _ in range(2)] == [("", "")] * 2


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


async def test_what_can_not_be_run_is_told_by_an_event(client: Client) -> None:
    async with streaming(client, "subscription { nothing }") as (response, events):
        (name, result), *rest = [event async for event in events]

    assert (response.status_code, name, rest) == (200, "next", [COMPLETE])
    assert list(result) == ["errors"]
    assert result["errors"][0]["extensions"] == {"code": "BAD_USER_INPUT"}


async def test_a_client_that_takes_json_too_gets_a_query_as_json_and_a_subscription_as_a_stream(client: Client) -> None:
    accept = f"application/graphql-response+json, application/json, {STREAM}"

    async with streaming(client, "{ __typename }", accept) as (response, _):
        assert response.headers["content-type"] == "application/graphql-response+json"
    async with streaming(client, LISTEN, accept, taskKeys=["t"]) as (response, _):
        assert response.headers["content-type"].startswith(STREAM)


async def test_the_mode_of_a_single_connection_is_refused(client: Client) -> None:
    response = await client.http.put("/graphql", headers={"Accept": STREAM})

    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST")
    (error,) = response.json()["errors"]
    assert error["message"] == (
        "GraphQL is asked by GET or POST. Of graphql-sse, the mode of distinct connections is served."
    )

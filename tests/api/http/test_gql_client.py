"""The Python client `gql`: a run from creation to completion, and reconnecting to a server that was restarted."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from gql import Client as GQLClient
from gql import GraphQLRequest
from gql.client import AsyncClientSession
from gql.transport.exceptions import TransportConnectionFailed, TransportQueryError
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport

from queries import document
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import SQLITE_ONLY, RunningServer, ServerProcess

pytestmark = SQLITE_ONLY


def request(operation: str, **variables: Any) -> GraphQLRequest:
    return GraphQLRequest(document(operation)[0], variable_values=variables)


@pytest.fixture
async def over_http(client: Client) -> AsyncIterator[AsyncClientSession]:
    transport = HTTPXAsyncTransport(url=f"{client.url}/graphql")
    async with GQLClient(transport=transport, fetch_schema_from_transport=True) as session:
        yield session


@pytest.fixture
async def over_websocket(client: Client) -> AsyncIterator[AsyncClientSession]:
    transport = WebsocketsTransport(url=client.url.replace("http", "ws", 1) + "/graphql")
    async with GQLClient(transport=transport, fetch_schema_from_transport=True) as session:
        yield session


async def test_a_run_is_created_over_http_and_executed_over_a_websocket(
    over_http: AsyncClientSession, over_websocket: AsyncClientSession
) -> None:
    created = await over_http.execute(
        request("CreateTaskRun", input={"taskKey": "t", "parameters": {"to": "ada"}, "state": {"type": "SCHEDULED"}})
    )
    run_id = created["createTaskRun"]["taskRun"]["id"]

    events = over_websocket.subscribe(request("ScheduledTaskRuns", taskKeys=["t"]))
    (delivery,) = (await anext(events))["scheduledTaskRuns"]
    lease_id = delivery["leaseId"]
    acknowledged = await over_websocket.execute(request("AcknowledgeTaskRuns", leaseIds=[lease_id]))
    results = [
        await over_websocket.execute(request("SetTaskRunState", id=run_id, state={"type": type}, leaseId=lease_id))
        for type in ("PENDING", "RUNNING", "COMPLETED")
    ]
    await events.aclose()
    listed = await over_http.execute(request("ListTaskRuns", filter={"id": {"in": [run_id]}}))

    assert (delivery["taskRun"]["id"], delivery["taskRun"]["parameters"]) == (run_id, {"to": "ada"})
    assert acknowledged["acknowledgeTaskRuns"]["leases"][0]["status"] == "HELD"
    assert [result["setTaskRunState"]["status"] for result in results] == ["ACCEPT"] * 3
    assert [run["stateType"] for run in listed["taskRuns"]["nodes"]] == ["COMPLETED"]


async def test_the_current_protocol_is_negotiated_although_the_legacy_one_is_listed_first(
    over_websocket: AsyncClientSession,
) -> None:
    transport = over_websocket.transport

    assert isinstance(transport, WebsocketsTransport)
    assert next(iter(transport.adapter.subprotocols or ())) == "graphql-ws"
    assert transport.subprotocol == "graphql-transport-ws"


async def test_a_refusal_is_raised_with_its_code(
    over_http: AsyncClientSession, over_websocket: AsyncClientSession
) -> None:
    for session in (over_http, over_websocket):
        with pytest.raises(TransportQueryError) as raised:
            await session.execute(request("DeleteTaskRun", id="nonsense"))

        assert raised.value.errors is not None
        assert raised.value.errors[0]["extensions"] == {"code": "BAD_USER_INPUT", "argument": "id"}


async def test_a_stopped_subscription_leaves_the_session_usable(over_websocket: AsyncClientSession) -> None:
    await over_websocket.execute(request("CreateTaskRun", input={"taskKey": "t", "state": {"type": "SCHEDULED"}}))
    for attempt in (1, 2):
        events = over_websocket.subscribe(request("ScheduledTaskRuns", taskKeys=["t"]))

        (delivery,) = (await anext(events))["scheduledTaskRuns"]
        await events.aclose()

        assert delivery["attempt"] == attempt


async def follow_changes(session: AsyncClientSession, names: "asyncio.Queue[str]", after: str) -> None:
    """Put the name of each changed run into the queue. Subscribe again after each lost connection."""
    while True:
        try:
            async for event in session.subscribe(request("TaskRunStateChanges", after=after)):
                after = event["taskRunStateChanges"]["cursor"]
                await names.put(event["taskRunStateChanges"]["taskRun"]["name"])
        except TransportConnectionFailed:
            # The session reconnects in another task.
            await asyncio.sleep(0.1)
        else:
            await names.put("completed")


async def test_a_reconnecting_session_misses_no_change_during_a_restart(server_process: ServerProcess) -> None:
    client = await server_process.start()
    after = await client.execute("GetStateChangeCursor")
    gql_client = GQLClient(transport=WebsocketsTransport(url=f"ws://{server_process.address}/graphql"))
    session = await gql_client.connect_async(reconnecting=True)
    names: asyncio.Queue[str] = asyncio.Queue()
    following = asyncio.create_task(follow_changes(session, names, after))
    await client.execute("CreateTaskRun", input={"taskKey": "t", "name": "before"})
    received = [await asyncio.wait_for(names.get(), TIMEOUT_SECONDS)]

    await server_process.terminate()
    client = await server_process.start()
    await client.execute("CreateTaskRun", input={"taskKey": "t", "name": "after"})

    received.append(await asyncio.wait_for(names.get(), 3 * TIMEOUT_SECONDS))
    following.cancel()
    await gql_client.close_async()
    assert received == ["before", "after"]


async def test_a_session_that_connects_to_a_stopping_server_can_connect_again(server: RunningServer) -> None:
    await server.services.drain()
    transport = WebsocketsTransport(url=server.client.url.replace("http", "ws", 1) + "/graphql")
    async with GQLClient(transport=transport) as session:
        for _ in range(2):
            with pytest.raises(TransportConnectionFailed):
                await anext(session.subscribe(request("TaskRunStateChanges")))

            await transport.close()
            await transport.connect()

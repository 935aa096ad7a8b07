"""The faulty proxy of the tests does to requests and connections what it says."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from faulty_proxy import TIMEOUT_SECONDS, FaultyProxy, faulty_proxy
from runyard_client.testing.server import RunyardServer

CREATE = "mutation Create($key: String!) { createTaskRun(input: {taskKey: $key}) { taskRun { id } } }"
COUNT = "query Count($key: String!) { taskRunCount(filter: {taskKey: {in: [$key]}}) }"


@pytest.fixture
async def proxy(server: RunyardServer) -> AsyncIterator[FaultyProxy]:
    async with faulty_proxy(server.url) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)) as opened:
        yield opened


async def send(session: aiohttp.ClientSession, url: str, query: str, **variables: object) -> Any:
    async with session.post(url, json={"query": query, "variables": variables}) as response:
        return await response.json()


async def count_runs(session: aiohttp.ClientSession, url: str, key: str) -> int:
    return (await send(session, url, COUNT, key=key))["data"]["taskRunCount"]


async def test_requests_are_forwarded_and_recorded(proxy: FaultyProxy, session: aiohttp.ClientSession) -> None:
    assert await count_runs(session, proxy.url, "absent") == 0

    assert [tuple(request) for request in proxy.requests] == [("Count", {"key": "absent"}, 200)]


async def test_a_lost_response_is_executed_and_the_next_one_arrives(
    proxy: FaultyProxy, session: aiohttp.ClientSession, unique_key: Any
) -> None:
    key = unique_key("lost")
    proxy.lose_responses("Create")

    with pytest.raises(aiohttp.ClientConnectionError):
        await send(session, proxy.url, CREATE, key=key)

    assert await count_runs(session, proxy.url, key) == 1
    assert "data" in await send(session, proxy.url, CREATE, key=key)
    assert [request.status for request in proxy.requests] == ["lost", 200, 200]


async def test_a_refused_request_does_not_reach_the_server(
    proxy: FaultyProxy, server: RunyardServer, session: aiohttp.ClientSession, unique_key: Any
) -> None:
    key = unique_key("refused")
    proxy.refuse("Create", status=429, times=2, body={"errors": []}, headers={"retry-after": "7"})

    for _ in range(2):
        async with session.post(proxy.url, json={"query": CREATE, "variables": {"key": key}}) as response:
            assert (response.status, response.headers["retry-after"]) == (429, "7")
            assert await response.json() == {"errors": []}

    assert await count_runs(session, server.url, key) == 0
    assert "data" in await send(session, proxy.url, CREATE, key=key)


async def test_held_requests_are_forwarded_when_they_are_released(
    proxy: FaultyProxy, server: RunyardServer, session: aiohttp.ClientSession, unique_key: Any
) -> None:
    key = unique_key("held")
    with proxy.hold("Create") as hold:
        creating = asyncio.create_task(send(session, proxy.url, CREATE, key=key))
        await asyncio.wait_for(hold.arrived.wait(), TIMEOUT_SECONDS)

        assert await count_runs(session, proxy.url, key) == 0

    assert "data" in await creating
    assert await count_runs(session, server.url, key) == 1


async def test_disconnecting_cuts_and_refuses_until_connected_again(
    proxy: FaultyProxy, session: aiohttp.ClientSession
) -> None:
    with proxy.hold("Count") as hold:
        waiting = asyncio.create_task(count_runs(session, proxy.url, "absent"))
        await asyncio.wait_for(hold.arrived.wait(), TIMEOUT_SECONDS)
        await proxy.disconnect()
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await waiting
    with pytest.raises(aiohttp.ClientConnectorError):
        await count_runs(session, proxy.url, "absent")

    await proxy.connect()

    assert await count_runs(session, proxy.url, "absent") == 0


async def test_the_next_request_is_one_that_arrives_after_the_call(
    proxy: FaultyProxy, session: aiohttp.ClientSession
) -> None:
    await count_runs(session, proxy.url, "earlier")
    next_response = asyncio.create_task(proxy.next_response("Count"))
    await asyncio.sleep(0)  # the task has begun to wait

    await count_runs(session, proxy.url, "later")

    assert tuple(await next_response) == ("Count", {"key": "later"}, 200)


async def test_a_client_that_disconnects_ends_its_request_at_the_server(
    proxy: FaultyProxy, session: aiohttp.ClientSession, unique_key: Any
) -> None:
    key = unique_key("abandoned")
    claim = (
        "mutation Claim($key: String!)"
        " { claimTaskRuns(taskKeys: [$key], limit: 1, waitSeconds: 60) { deliveries { taskRun { id } } } }"
    )
    next_request = asyncio.create_task(proxy.next_request("Claim"))
    claiming = asyncio.create_task(send(session, proxy.url, claim, key=key))
    request = await next_request

    claiming.cancel()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await request.ended.wait()

    assert request.status is None


async def test_a_stopped_server_cuts_the_connection_of_the_client(session: aiohttp.ClientSession) -> None:
    async with faulty_proxy("http://127.0.0.1:9/graphql") as proxy:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await count_runs(session, proxy.url, "absent")

        assert proxy.requests[0].status == "unreachable"

"""Clients that do not read their responses hold a bounded share of the server's memory, for a bounded time."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from runyard import server as server_module
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import RunningServer, run_server

BODY = 256 * 1024
LONG = random.Random(1).randbytes(125_000).hex()  # noqa: S311 - noise
"""Random, because WebSocket messages are compressed."""
PAGE = "{ taskRuns(first: 60) { nodes { parameters } } }"
"""15 MB, or half as much compressed: more than the socket buffers between client and server hold."""

BUDGET_EXCEEDED = {
    "message": "Large responses in progress exceed the server's memory budget. Retry, or request less data.",
    "code": "UNAVAILABLE",
    "retryable": True,
}


@asynccontextmanager
async def run_server_with_small_budget(path: Path, database_url: str) -> AsyncIterator[RunningServer]:
    """Run a server whose memory budget fits one such page."""
    limits = {
        "max_body_bytes": BODY,
        "max_message_bytes": BODY,
        "max_response_bytes": 80 * BODY,
        "max_responses_bytes": 96 * BODY,
    }
    async with run_server(path, database_url=database_url, **limits) as running:
        for _ in range(60):
            await running.client.execute("CreateTaskRun", input={"taskKey": "t", "parameters": LONG})
        yield running


async def fetch_page(client: Client) -> list[str] | dict[str, Any]:
    """Return the parameters of the runs, or the error."""
    result = (await client.http.post("/graphql", json={"query": PAGE})).json()
    if "errors" in result:
        (error,) = result["errors"]
        return {"message": error["message"], **error["extensions"]}
    return [node["parameters"] for node in result["data"]["taskRuns"]["nodes"]]


async def request_without_reading(client: Client, accept: str = "application/json") -> socket.socket:
    """Open a connection, request the page, and read only the start of the response."""
    body = orjson.dumps({"query": PAGE})
    headers = f"Host: localhost\r\nAccept: {accept}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    head = f"POST /graphql HTTP/1.1\r\n{headers}\r\n\r\n"
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", client.http.base_url.port))
    await loop.sock_sendall(connection, head.encode() + body)
    # An event stream sends its headers before the operation starts.
    received, response_start = b"", b"event: next" if accept == "text/event-stream" else b"HTTP/1.1 200"
    while response_start not in received:
        received += await asyncio.wait_for(loop.sock_recv(connection, 64), TIMEOUT_SECONDS)
    return connection


async def wait_until(condition: Callable[[list[str] | dict[str, Any]], bool], client: Client) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not condition(await fetch_page(client)):
            continue


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_large_responses_hold_memory_budget_until_they_are_sent(
    tmp_path: Path, database_url: str, accept: str
) -> None:
    async with run_server_with_small_budget(tmp_path, database_url) as server:
        client = server.client
        assert await fetch_page(client) == [LONG] * 60

        with await request_without_reading(client, accept):
            assert await fetch_page(client) == BUDGET_EXCEEDED
            assert await client.execute("CountTaskRuns") == 60
            assert len((await client.execute("ListTaskRuns", first=60))["nodes"]) == 60

        await wait_until(lambda result: result == [LONG] * 60, client)


async def test_a_large_websocket_response_holds_memory_budget_until_it_is_sent(
    tmp_path: Path, database_url: str
) -> None:
    async with (
        run_server_with_small_budget(tmp_path, database_url) as server,
        server.client.socket(max_size=None) as peer,
    ):
        transport = peer.connection.transport
        transport.pause_reading()
        await peer.send({"id": "1", "type": "subscribe", "payload": {"query": PAGE}})
        await peer.wait_for_unread_data()
        assert await fetch_page(server.client) == BUDGET_EXCEEDED

        transport.resume_reading()
        message = await peer.receive()
        assert [each["parameters"] for each in message["payload"]["data"]["taskRuns"]["nodes"]] == [LONG] * 60
        assert (await peer.receive())["type"] == "complete"
        await wait_until(lambda result: result == [LONG] * 60, server.client)


async def test_mutations_and_events_succeed_when_the_memory_budget_is_exhausted(
    tmp_path: Path, database_url: str
) -> None:
    async with (
        run_server_with_small_budget(tmp_path, database_url) as server,
        server.client.socket(max_size=None) as peer,
    ):
        client = server.client
        with await request_without_reading(client):
            assert await fetch_page(client) == BUDGET_EXCEEDED
            inputs = [{"taskKey": "w", "parameters": LONG, "state": {"type": "SCHEDULED"}}]
            for _ in range(6):
                await client.execute("CreateTaskRuns", inputs=inputs)
            claimed = (await client.execute("ClaimTaskRuns", taskKeys=["w"], limit=5))["deliveries"]
            await peer.subscribe("ScheduledTaskRuns", taskKeys=["w"], autoAcknowledge=True)
            (delivery,) = await peer.deliveries(1)

    assert [each["taskRun"]["parameters"] for each in [*claimed, delivery]] == [LONG] * 6


async def test_a_sent_event_releases_its_memory_budget(tmp_path: Path, database_url: str) -> None:
    async with (
        run_server_with_small_budget(tmp_path, database_url) as server,
        server.client.socket(max_size=None) as peer,
    ):
        names = " ".join(f"n{number}: parameters" for number in range(40))
        query = f"subscription {{ taskRunStateChanges {{ taskRun {{ {names} }} }} }}"
        for id in ("1", "2", "3"):
            await peer.send({"id": id, "type": "subscribe", "payload": {"query": query}})
        await asyncio.wait_for(server.clock.wait_until_idle(3), TIMEOUT_SECONDS)
        await server.client.execute("CreateTaskRun", input={"taskKey": "t", "parameters": LONG})
        for _ in range(3):
            await peer.event()

        await wait_until(lambda result: result == [LONG] * 60, server.client)


async def test_a_client_that_reads_nothing_is_disconnected(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "UNREAD_DATA_TIMEOUT_SECONDS", 0.5)
    async with run_server_with_small_budget(tmp_path, database_url) as server:
        with await request_without_reading(server.client):
            await wait_until(lambda result: result == [LONG] * 60, server.client)

"""Clients that do not read their answers take no more than their part of the server's memory, and not for long."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from runyard import server as running
from tests.client import PATIENCE, Client
from tests.serving import Serving, serving

BODY = 256 * 1024
LONG = random.Random(1).randbytes(125_000).hex()  # noqa: S311 - noise
"""Noise, since WebSockets compress."""
PAGE = "{ taskRuns(first: 60) { nodes { parameters } } }"
"""15 MB, or half as much compressed: more than what lies between a client and the server can hold."""

CROWDED = {
    "message": "Too many large answers are under way; try again, or ask for less.",
    "code": "UNAVAILABLE",
    "retryable": True,
}


@asynccontextmanager
async def little_room(path: Path, database_url: str) -> AsyncIterator[Serving]:
    """A server with room for one such page."""
    limits = {
        "max_body_bytes": BODY,
        "max_message_bytes": BODY,
        "max_answer_bytes": 80 * BODY,
        "max_answers_bytes": 96 * BODY,
    }
    async with serving(path, database_url=database_url, **limits) as served:
        for _ in range(60):
            await served.client.ask("CreateTaskRun", input={"taskKey": "t", "parameters": LONG})
        yield served


async def page(client: Client) -> list[str] | dict[str, Any]:
    """What the runs carry, or the error."""
    answer = (await client.http.post("/graphql", json={"query": PAGE})).json()
    if "errors" in answer:
        (error,) = answer["errors"]
        return {"message": error["message"], **error["extensions"]}
    return [node["parameters"] for node in answer["data"]["taskRuns"]["nodes"]]


async def ask_and_not_read(client: Client, accept: str = "application/json") -> socket.socket:
    """A connection on which the page was asked for, and whose answer has begun to come."""
    body = orjson.dumps({"query": PAGE})
    headers = f"Host: localhost\r\nAccept: {accept}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    head = f"POST /graphql HTTP/1.1\r\n{headers}\r\n\r\n"
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", client.http.base_url.port))
    await loop.sock_sendall(connection, head.encode() + body)
    # A stream begins before its operation does.
    received, begun = b"", b"event: next" if accept == "text/event-stream" else b"HTTP/1.1 200"
    while begun not in received:
        received += await asyncio.wait_for(loop.sock_recv(connection, 64), PATIENCE)
    return connection


async def until(is_so: Callable[[list[str] | dict[str, Any]], bool], client: Client) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_so(await page(client)):
            continue


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_there_is_room_for_so_many_large_answers_until_they_are_sent(
    tmp_path: Path, database_url: str, accept: str
) -> None:
    async with little_room(tmp_path, database_url) as server:
        client = server.client
        assert await page(client) == [LONG] * 60

        with await ask_and_not_read(client, accept):
            assert await page(client) == CROWDED
            assert await client.ask("CountTaskRuns") == 60
            assert len((await client.ask("ListTaskRuns", first=60))["nodes"]) == 60

        await until(lambda answer: answer == [LONG] * 60, client)


async def test_the_same_holds_for_a_websocket(tmp_path: Path, database_url: str) -> None:
    async with little_room(tmp_path, database_url) as server, server.client.socket(max_size=None) as peer:
        transport = peer.connection.transport
        transport.pause_reading()
        await peer.send({"id": "1", "type": "subscribe", "payload": {"query": PAGE}})
        await peer.something_to_read()
        assert await page(server.client) == CROWDED

        transport.resume_reading()
        message = await peer.receive()
        assert [each["parameters"] for each in message["payload"]["data"]["taskRuns"]["nodes"]] == [LONG] * 60
        assert (await peer.receive())["type"] == "complete"
        await until(lambda answer: answer == [LONG] * 60, server.client)


async def test_mutations_and_events_are_answered_where_there_is_no_room(tmp_path: Path, database_url: str) -> None:
    async with little_room(tmp_path, database_url) as server, server.client.socket(max_size=None) as peer:
        client = server.client
        with await ask_and_not_read(client):
            assert await page(client) == CROWDED
            inputs = [{"taskKey": "w", "parameters": LONG, "state": {"type": "SCHEDULED"}}]
            for _ in range(6):
                await client.ask("CreateTaskRuns", inputs=inputs)
            claimed = await client.ask("ClaimTaskRuns", taskKeys=["w"], limit=5)
            await peer.subscribe("ScheduledTaskRuns", taskKeys=["w"], autoAcknowledge=True)
            (delivery,) = await peer.deliveries(1)

    assert [each["taskRun"]["parameters"] for each in [*claimed, delivery]] == [LONG] * 6


async def test_an_event_that_was_sent_takes_no_room(tmp_path: Path, database_url: str) -> None:
    async with little_room(tmp_path, database_url) as server, server.client.socket(max_size=None) as peer:
        names = " ".join(f"n{number}: parameters" for number in range(40))
        query = f"subscription {{ taskRunStateChanges {{ taskRun {{ {names} }} }} }}"
        for id in ("1", "2", "3"):
            await peer.send({"id": id, "type": "subscribe", "payload": {"query": query}})
        await asyncio.wait_for(server.clock.idle(3), PATIENCE)
        await server.client.ask("CreateTaskRun", input={"taskKey": "t", "parameters": LONG})
        for _ in range(3):
            await peer.event()

        await until(lambda answer: answer == [LONG] * 60, server.client)


async def test_who_reads_nothing_for_a_while_loses_the_connection(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "UNREAD_SECONDS", 0.5)
    async with little_room(tmp_path, database_url) as server:
        with await ask_and_not_read(server.client):
            await until(lambda answer: answer == [LONG] * 60, server.client)

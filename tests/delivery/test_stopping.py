"""A server that is told to stop ends its streams by their protocol, and gives back what was not started."""

import asyncio
import random
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from starlette.applications import Starlette

from queries import document
from runyard.server import build_server
from runyard.settings import Settings
from tests.builders.queued_runs import create_many, create_scheduled, run_ids
from tests.client import PATIENCE, Client
from tests.serving import ON_SQLITE, ServerProcess, Serving, serving

NOISE = random.Random(7).randbytes(50_000).hex()  # noqa: S311
"""What WebSockets can not compress to nothing."""


async def test_subscriptions_are_completed_and_what_they_had_is_waiting_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as before, before.client.socket() as socket:
        ids = await create_many(before.client, 2)
        id = await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        delivered = await socket.deliveries(2)

        await before.life.drain()

        assert await socket.receive() == {"id": id, "type": "complete"}
        entries = [(await before.client.ask("GetTaskRun", id=id))["queueEntry"] for id in ids]
    assert run_ids(delivered) == ids
    assert [(entry["leaseExpiresAt"], entry["isRetry"]) for entry in entries] == [(None, True)] * 2


async def test_a_subscription_to_a_stopping_server_is_refused_as_retryable(server: Serving) -> None:
    async with server.client.socket() as socket:
        await server.life.drain()
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        message = await socket.receive()

    assert message["type"] == "error"
    (error,) = message["payload"]
    assert error["extensions"] == {"code": "UNAVAILABLE", "retryable": True}


async def test_a_client_that_does_not_read_holds_up_neither_the_stop_nor_its_runs(tmp_path: Path) -> None:
    async with serving(tmp_path, stop_seconds=1) as before:
        inputs = [{"taskKey": "t", "parameters": NOISE, "state": {"type": "SCHEDULED"}}] * 25
        for _ in range(12):
            await before.client.ask("CreateTaskRuns", inputs=inputs)
        async with before.client.socket() as deaf:
            deaf.connection.transport.pause_reading()
            await deaf.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=300)
            # The sweep knows of leases: the deliveries are on their way.
            await asyncio.wait_for(before.clock.somebody_waits(5), PATIENCE)

            await asyncio.wait_for(before.life.drain(), PATIENCE)

            deaf.connection.transport.abort()
    async with serving(tmp_path) as after, after.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=300)
        assert len(await socket.deliveries(300)) == 300


async def test_a_stopping_server_is_not_ready(server: Serving) -> None:
    before = await server.client.http.get("/readyz")
    await server.life.drain()
    after = await server.client.http.get("/readyz")

    assert (before.status_code, before.json()) == (200, {"status": "ready"})
    assert (after.status_code, after.json()) == (503, {"status": "stopping"})


async def test_sigterm_ends_the_process_in_order(server_process: ServerProcess) -> None:
    client: Client = await server_process.start()
    await create_many(client, 1)

    async with client.socket() as socket:
        id = await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        await socket.deliveries(1)
        code = await server_process.terminate()
        message = await socket.receive()

    assert code == -signal.SIGTERM
    assert message == {"id": id, "type": "complete"}


async def test_a_server_sleeps_until_it_is_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runyard.server.TICK_SECONDS", 3600)
    server = build_server(Starlette(), Settings())
    main_loop = asyncio.create_task(server.main_loop())
    for _ in range(100):
        await asyncio.sleep(0)
    assert not main_loop.done()
    assert len(server._is_told._waiters) == 1

    server.handle_exit(signal.SIGTERM, None)

    await asyncio.wait_for(main_loop, PATIENCE)


class Upload:
    """A request whose body is still to come, while the server waits for it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        self._reader, self._writer, self._body = reader, writer, body

    @classmethod
    async def begin(cls, server: ServerProcess, operation: str, **variables: object) -> "Upload":
        """Send all but the body; return when the server has asked for it."""
        host, port = server.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = orjson.dumps({"query": document(operation)[0], "variables": variables})
        writer.write(
            b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        assert await asyncio.wait_for(reader.readline(), PATIENCE) == b"HTTP/1.1 100 Continue\r\n"
        return cls(reader, writer, body)

    async def finish(self) -> dict[str, Any]:
        """Send the body; the answer."""
        self._writer.write(self._body)
        answer = await asyncio.wait_for(self._reader.read(), PATIENCE)
        self.abandon()
        return orjson.loads(answer.rpartition(b"\r\n\r\n")[2])

    def abandon(self) -> None:
        self._writer.close()


async def test_a_request_that_is_under_way_is_answered_and_nothing_is_begun_any_more(
    server_process: ServerProcess,
) -> None:
    await server_process.start()
    upload = await Upload.begin(server_process, "CreateTaskRun", input={"taskKey": "t"})

    server_process.begin_to_stop()
    await server_process.closes()
    answer = await upload.finish()

    assert answer["data"]["createTaskRun"]["created"] is True
    assert await server_process.exit_code() == -signal.SIGTERM
    client = await server_process.start()
    assert (await client.ask("ListTaskRuns"))["totalCount"] == 1


@ON_SQLITE
async def test_a_client_that_has_closed_its_socket_and_does_not_read_takes_nobody_elses_answer(
    server_process: ServerProcess,
) -> None:
    client = await server_process.start()
    for _ in range(12):
        await client.ask("CreateTaskRuns", inputs=[{"taskKey": "t", "parameters": NOISE}] * 25)
    async with client.socket() as deaf:
        deaf.connection.transport.pause_reading()
        payload = {"query": "query { taskRuns(first: 300) { nodes { parameters } } }"}
        await deaf.send({"id": "large", "type": "subscribe", "payload": payload})
        await deaf.something_to_read()
        deaf.connection.protocol.send_close(1000)
        deaf.connection.send_data()
        await has_been_told(client, "runyard_websockets 0.0")
        upload = await Upload.begin(server_process, "CreateTaskRun", input={"taskKey": "t"})

        server_process.begin_to_stop()
        await server_process.closes()
        answer = await upload.finish()

        deaf.connection.transport.abort()
    assert answer["data"]["createTaskRun"]["created"] is True
    assert await server_process.exit_code() == -signal.SIGTERM


async def has_been_told(client: Client, line: str) -> None:
    """Wait until the server's metrics have this line."""
    async with asyncio.timeout(PATIENCE):
        while line not in (await client.http.get("/metrics")).text.splitlines():
            continue


@ON_SQLITE
async def test_a_second_signal_ends_it_at_once(server_process: ServerProcess) -> None:
    await server_process.start()
    upload = await Upload.begin(server_process, "CreateTaskRun", input={"taskKey": "t"})
    server_process.begin_to_stop()
    await server_process.closes()
    asked_at = time.monotonic()

    code = await server_process.terminate()

    upload.abandon()
    assert code == -signal.SIGTERM
    # The request would have had 25 s.
    assert time.monotonic() - asked_at < 5


async def test_under_load_every_answer_is_kept_and_what_nobody_took_over_is_waiting_again(
    server_process: ServerProcess,
) -> None:
    client = await server_process.start()
    created: set[str] = set()
    delivered: set[str] = set()
    busy = asyncio.Event()

    async def create_until_stopped() -> None:
        while True:
            try:
                created.add(await create_scheduled(client))
            except httpx.HTTPError:
                return
            if len(created) > 100 and len(delivered) > 20:
                busy.set()

    async def work_until_stopped() -> dict[str, Any]:
        """Receive ten and take over none; the last message."""
        async with client.socket() as socket:
            await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)
            while (message := await socket.receive())["type"] == "next":
                delivered.update(run_ids(message["payload"]["data"]["scheduledTaskRuns"]))
        return message

    workers = [asyncio.create_task(work_until_stopped()) for _ in range(3)]
    writers = [asyncio.create_task(create_until_stopped()) for _ in range(4)]
    await asyncio.wait_for(busy.wait(), PATIENCE)
    asked_at = time.monotonic()
    code = await server_process.terminate()
    took = time.monotonic() - asked_at
    last = await asyncio.gather(*workers)
    await asyncio.gather(*writers)

    assert code == -signal.SIGTERM
    assert took < 10
    assert [message["type"] for message in last] == ["complete"] * 3
    client = await server_process.start()
    page = await client.ask("ListTaskRuns", first=1000, filter={"taskKey": {"any": ["t"]}})
    there = {node["id"] for node in page["nodes"]}
    assert created <= there
    async with client.socket() as socket:
        # None is left under a lease: that would last for 30 s.
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1000)
        assert set(run_ids(await socket.deliveries(page["totalCount"]))) == there


async def has_leases(client: Client) -> bool:
    query = "{ taskRuns(first: 1000) { nodes { queueEntry { leaseExpiresAt } } } }"
    answer = (await client.http.post("/graphql", json={"query": query})).json()
    return any(node["queueEntry"]["leaseExpiresAt"] for node in answer["data"]["taskRuns"]["nodes"])


async def test_a_client_that_does_not_read_holds_the_process_up_for_no_longer_than_the_grace(
    server_process: ServerProcess,
) -> None:
    client = await server_process.start(RUNYARD_STOP_SECONDS="2")
    inputs = [{"taskKey": "t", "parameters": NOISE, "state": {"type": "SCHEDULED"}}] * 25
    for _ in range(5):
        await client.ask("CreateTaskRuns", inputs=inputs)
    async with client.socket() as deaf:
        deaf.connection.transport.pause_reading()
        await deaf.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=125)
        async with asyncio.timeout(PATIENCE):
            while not await has_leases(client):
                continue
        asked_at = time.monotonic()

        code = await server_process.terminate()

        took = time.monotonic() - asked_at
        deaf.connection.transport.abort()
    assert code == -signal.SIGTERM
    assert took < 5
    client = await server_process.start()
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=125)
        assert len(await socket.deliveries(125)) == 125


async def test_a_request_that_is_not_over_after_the_grace_is_told_to_ask_again(server_process: ServerProcess) -> None:
    client = await server_process.start(RUNYARD_STOP_SECONDS="1")
    host, port = server_process.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST /graphql HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\n{{".encode())
    await writer.drain()
    # So that the head has come when it stops.
    await client.ask("GetServer")

    code = await server_process.terminate()

    head, body = (await asyncio.wait_for(reader.read(), PATIENCE)).split(b"\r\n\r\n")
    writer.close()
    assert code == -signal.SIGTERM
    assert head.startswith(b"HTTP/1.1 503 ")
    (error,) = orjson.loads(body)["errors"]
    assert error["message"].endswith("Ask again.")
    assert error["extensions"] == {"code": "UNAVAILABLE", "retryable": True}
    assert b"Traceback" not in await server_process.errors()

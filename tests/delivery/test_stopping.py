"""Graceful shutdown: sockets are closed with 1012, unacknowledged runs are released, and requests in flight finish."""

import asyncio
import random
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from starlette.applications import Starlette
from websockets.exceptions import ConnectionClosed

from queries import document
from runyard.server import Server, build_server
from runyard.settings import Settings
from tests.builders.queued_runs import create_many, create_scheduled, run_ids
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import SQLITE_ONLY, RunningServer, ServerProcess, run_server
from tests.websocket_messages import assert_alive, receive_close, send_connection_init

NOISE = random.Random(7).randbytes(50_000).hex()  # noqa: S311
"""Random text, which WebSocket compression hardly shrinks."""


STOPPING = (1012, "The server is stopping")


async def test_stopping_completes_no_subscription_and_requeues_unacknowledged_runs(server: RunningServer) -> None:
    async with server.client.socket() as socket:
        ids = await create_many(server.client, 2)
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        delivered = await socket.deliveries(2)

        await server.services.drain()

        assert await receive_close(socket.connection) == STOPPING
    entries = [(await server.client.execute("GetTaskRun", id=id))["queueEntry"] for id in ids]
    assert run_ids(delivered) == ids
    assert [(entry["leaseExpiresAt"], entry["isRetry"]) for entry in entries] == [(None, True)] * 2


async def test_an_operation_in_flight_gets_its_result_before_the_socket_is_closed(server: RunningServer) -> None:
    async with server.client.socket() as socket:
        await socket.subscribe("TaskRunStateChanges")
        id = await socket.subscribe("ClaimTaskRuns", taskKeys=["t"], waitSeconds=60)
        await asyncio.wait_for(server.clock.wait_for_waiter(60), TIMEOUT_SECONDS)

        await server.services.drain()

        result = {"id": id, "type": "next", "payload": {"data": {"claimTaskRuns": {"deliveries": []}}}}
        assert await socket.receive() == result
        assert await socket.receive() == {"id": id, "type": "complete"}
        assert await receive_close(socket.connection) == STOPPING


async def test_a_subscription_to_a_stopping_server_gets_no_message_until_the_close(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, released = asyncio.Event(), asyncio.Event()

    async def claim(*_arguments: object, **_options: object) -> list[object]:
        started.set()
        await released.wait()
        return []

    monkeypatch.setattr(server.services.dispatcher, "claim", claim)
    async with server.client.socket() as socket:
        claiming = await socket.subscribe("ClaimTaskRuns", taskKeys=["t"])
        await asyncio.wait_for(started.wait(), TIMEOUT_SECONDS)
        draining = asyncio.create_task(server.services.drain())

        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])

        await assert_alive(socket)
        released.set()
        await asyncio.wait_for(draining, TIMEOUT_SECONDS)
        messages = [await socket.receive() for _ in range(2)]
        assert [(message["id"], message["type"]) for message in messages] == [
            (claiming, "next"),
            (claiming, "complete"),
        ]
        assert await receive_close(socket.connection) == STOPPING


async def test_a_socket_opened_while_the_server_stops_is_acknowledged_and_closed(server: RunningServer) -> None:
    async with server.client.raw_socket() as opened_before:
        await server.services.drain()
        async with server.client.raw_socket() as opened_after:
            for connection in (opened_before, opened_after):
                socket = await send_connection_init(connection)

                assert await socket.receive() == {"type": "connection_ack"}
                assert await receive_close(connection) == STOPPING


async def test_a_client_that_does_not_read_blocks_neither_shutdown_nor_its_runs(tmp_path: Path) -> None:
    async with run_server(tmp_path, stop_seconds=1) as before:
        inputs = [{"taskKey": "t", "parameters": NOISE, "state": {"type": "SCHEDULED"}}] * 25
        for _ in range(12):
            await before.client.execute("CreateTaskRuns", inputs=inputs)
        async with before.client.socket() as stalled:
            stalled.connection.transport.pause_reading()
            await stalled.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=300)
            # The lease sweeper has scheduled a sweep, so the deliveries are leased and being sent.
            await asyncio.wait_for(before.clock.wait_for_waiter(5), TIMEOUT_SECONDS)

            await asyncio.wait_for(before.services.drain(), TIMEOUT_SECONDS)

            stalled.connection.transport.abort()
    async with run_server(tmp_path) as after, after.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=300)
        assert len(await socket.deliveries(300)) == 300


async def test_a_stopping_server_is_not_ready(server: RunningServer) -> None:
    before = await server.client.http.get("/readyz")
    await server.services.drain()
    after = await server.client.http.get("/readyz")

    assert (before.status_code, before.json()) == (200, {"status": "ready"})
    assert (after.status_code, after.json()) == (503, {"status": "stopping"})


async def test_sigterm_closes_sockets_with_1012_and_completes_no_subscription(server_process: ServerProcess) -> None:
    client: Client = await server_process.start()
    await create_many(client, 1)

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        await socket.deliveries(1)
        code = await server_process.terminate()
        closed = await receive_close(socket.connection)

    assert (code, closed) == (-signal.SIGTERM, STOPPING)


async def test_a_server_sleeps_until_a_stop_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runyard.server.TICK_SECONDS", 3600)
    server = build_server(Starlette(), Settings())
    ticked = asyncio.Event()
    ticks: list[bool] = []

    async def on_tick(counter: int) -> bool:
        ticked.set()
        ticks.append(await Server.on_tick(server, counter))
        return ticks[-1]

    monkeypatch.setattr(server, "on_tick", on_tick)
    main_loop = asyncio.create_task(server.main_loop())
    await asyncio.wait_for(ticked.wait(), TIMEOUT_SECONDS)

    server.handle_exit(signal.SIGTERM, None)

    # Without the signal, the second tick would be an hour away.
    await asyncio.wait_for(main_loop, TIMEOUT_SECONDS)
    assert ticks == [False, True]


class Upload:
    """A request whose head was sent and whose body the server waits for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        self._reader, self._writer, self._body = reader, writer, body

    @classmethod
    async def begin(cls, server: ServerProcess, operation: str, **variables: object) -> "Upload":
        """Send the head of a request and wait for `100 Continue`."""
        host, port = server.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = orjson.dumps({"query": document(operation)[0], "variables": variables})
        writer.write(
            b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        assert await asyncio.wait_for(reader.readline(), TIMEOUT_SECONDS) == b"HTTP/1.1 100 Continue\r\n"
        return cls(reader, writer, body)

    async def finish(self) -> dict[str, Any]:
        """Send the body and return the parsed response."""
        self._writer.write(self._body)
        response = await asyncio.wait_for(self._reader.read(), TIMEOUT_SECONDS)
        self.abandon()
        return orjson.loads(response.rpartition(b"\r\n\r\n")[2])

    def abandon(self) -> None:
        self._writer.close()


async def test_a_request_in_flight_finishes_and_new_connections_are_refused(
    server_process: ServerProcess,
) -> None:
    await server_process.start()
    upload = await Upload.begin(server_process, "CreateTaskRun", input={"taskKey": "t"})

    server_process.request_stop()
    await server_process.wait_until_closed()
    response = await upload.finish()

    assert response["data"]["createTaskRun"]["created"] is True
    assert await server_process.wait_for_exit() == -signal.SIGTERM
    client = await server_process.start()
    assert (await client.execute("ListTaskRuns"))["totalCount"] == 1


@SQLITE_ONLY
async def test_a_client_closing_without_reading_does_not_cost_others_their_responses(
    server_process: ServerProcess,
) -> None:
    client = await server_process.start()
    for _ in range(12):
        await client.execute("CreateTaskRuns", inputs=[{"taskKey": "t", "parameters": NOISE}] * 25)
    async with client.socket() as stalled:
        stalled.connection.transport.pause_reading()
        payload = {"query": "query { taskRuns(first: 300) { nodes { parameters } } }"}
        await stalled.send({"id": "large", "type": "subscribe", "payload": payload})
        await stalled.wait_for_unread_data()
        stalled.connection.protocol.send_close(1000)
        stalled.connection.send_data()
        await wait_for_metric(client, "runyard_websockets 0.0")
        upload = await Upload.begin(server_process, "CreateTaskRun", input={"taskKey": "t"})

        server_process.request_stop()
        await server_process.wait_until_closed()
        response = await upload.finish()

        stalled.connection.transport.abort()
    assert response["data"]["createTaskRun"]["created"] is True
    assert await server_process.wait_for_exit() == -signal.SIGTERM


async def wait_for_metric(client: Client, line: str) -> None:
    """Wait until the server's metrics contain this line."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while line not in (await client.http.get("/metrics")).text.splitlines():
            continue


@SQLITE_ONLY
async def test_a_second_sigterm_stops_the_server_at_once(server_process: ServerProcess) -> None:
    await server_process.start(RUNYARD_STOP_SECONDS="3600")
    upload = await Upload.begin(server_process, "CreateTaskRun", input={"taskKey": "t"})
    server_process.request_stop()
    await server_process.wait_until_closed()

    code = await server_process.terminate()

    upload.abandon()
    # The request in flight would have had a grace period of an hour.
    assert code == -signal.SIGTERM


async def test_stopping_under_load_loses_no_confirmed_run_and_requeues_unacknowledged_runs(
    server_process: ServerProcess,
) -> None:
    client = await server_process.start(RUNYARD_STOP_SECONDS="3600")
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

    async def work_until_stopped() -> int | None:
        """Receive runs without acknowledging any until the server stops. Return the close code."""
        async with client.socket() as socket:
            await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)
            with suppress(ConnectionClosed):
                while True:
                    delivered.update(run_ids(await socket.event()))
        return socket.connection.close_code

    workers = [asyncio.create_task(work_until_stopped()) for _ in range(3)]
    writers = [asyncio.create_task(create_until_stopped()) for _ in range(4)]
    await asyncio.wait_for(busy.wait(), TIMEOUT_SECONDS)
    # Whatever did not end by itself would delay the exit by an hour.
    code = await server_process.terminate()
    codes = await asyncio.gather(*workers)
    await asyncio.gather(*writers)

    assert code == -signal.SIGTERM
    assert codes == [1012] * 3
    client = await server_process.start()
    page = await client.execute("ListTaskRuns", first=1000, filter={"taskKey": {"in": ["t"]}})
    stored = {node["id"] for node in page["nodes"]}
    assert created <= stored
    async with client.socket() as socket:
        # No run is left under a lease, which would last 30 s.
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1000)
        assert set(run_ids(await socket.deliveries(page["totalCount"]))) == stored


async def has_leases(client: Client) -> bool:
    query = "{ taskRuns(first: 1000) { nodes { queueEntry { leaseExpiresAt } } } }"
    response = (await client.http.post("/graphql", json={"query": query})).json()
    return any(node["queueEntry"]["leaseExpiresAt"] for node in response["data"]["taskRuns"]["nodes"])


async def test_a_client_not_reading_delays_the_exit_at_most_the_grace_period(
    server_process: ServerProcess,
) -> None:
    client = await server_process.start(RUNYARD_STOP_SECONDS="2")
    inputs = [{"taskKey": "t", "parameters": NOISE, "state": {"type": "SCHEDULED"}}] * 25
    for _ in range(5):
        await client.execute("CreateTaskRuns", inputs=inputs)
    async with client.socket() as stalled:
        stalled.connection.transport.pause_reading()
        await stalled.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=125)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not await has_leases(client):
                continue

        code = await server_process.terminate()

        stalled.connection.transport.abort()
    assert code == -signal.SIGTERM
    assert b"1 subscriptions did not end before the timeout" in await server_process.read_log()
    client = await server_process.start()
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=125)
        assert len(await socket.deliveries(125)) == 125


async def test_a_request_unfinished_after_the_grace_period_fails_as_retryable(server_process: ServerProcess) -> None:
    client = await server_process.start(RUNYARD_STOP_SECONDS="1")
    host, port = server_process.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST /graphql HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\n{{".encode())
    await writer.drain()
    # The server has received the head when this later request is complete.
    await client.execute("GetServer")

    code = await server_process.terminate()

    head, body = (await asyncio.wait_for(reader.read(), TIMEOUT_SECONDS)).split(b"\r\n\r\n")
    writer.close()
    assert code == -signal.SIGTERM
    assert head.startswith(b"HTTP/1.1 503 ")
    (error,) = orjson.loads(body)["errors"]
    assert error["message"].endswith("Retry the request.")
    assert error["extensions"] == {"code": "UNAVAILABLE", "retryable": True}
    assert b"Traceback" not in await server_process.read_log()

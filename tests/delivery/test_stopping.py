"""A server that is told to stop ends its streams by their protocol, and gives back what was not started."""

import asyncio
import signal
from pathlib import Path

from tests.client import PATIENCE, Client
from tests.delivery.create import create_many, run_ids
from tests.serving import ServerProcess, Serving, serving


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
        inputs = [{"taskKey": "t", "parameters": "x" * 100_000, "state": {"type": "SCHEDULED"}}] * 25
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

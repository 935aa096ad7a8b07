"""A worker whose machine or network is gone leaves a socket that says nothing: the server asks, and takes its runs back."""

import asyncio
from pathlib import Path

from tests.api.websocket.test_websocket_protocol import assert_alive, closing_of
from tests.builders.queued_runs import create_many, lease_ids, run_ids
from tests.client import PATIENCE
from tests.serving import ON_SQLITE, Serving, serving, settings_for


async def sockets_left(server: Serving, count: int) -> None:
    """Return when the server has no more than so many sockets."""
    async with asyncio.timeout(PATIENCE):
        while server.app.state.meter.sockets > count:
            await server.client.http.get("/healthz")


async def test_what_it_was_delivered_comes_back_long_before_the_time_to_acknowledge_is_up(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        serving(tmp_path, database_url=database_url, ping_seconds=0.2) as server,
        server.client.socket() as socket,
    ):
        client = server.client
        ids = await create_many(client, 2)
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        first = await socket.deliveries(2)

        # From now on nobody answers a ping. The clock by which deliveries run out stands still.
        socket.connection.transport.pause_reading()
        again = [await client.ask("ClaimTaskRuns", taskKeys=["t"], waitSeconds=60) for _ in ids]

        await sockets_left(server, 0)
        results = await client.ask("AcknowledgeTaskRuns", leaseIds=lease_ids(first))
        socket.connection.transport.resume_reading()
        assert await closing_of(socket.connection) == (1011, "keepalive ping timeout")
    assert run_ids([each for (each,) in again]) == run_ids(first) == ids
    assert [each["attempt"] for (each,) in again] == [2, 2]
    assert [result["status"] for result in results] == ["LOST", "LOST"]


@ON_SQLITE
async def test_a_worker_that_answers_is_left_alone(database_url: str, tmp_path: Path) -> None:
    # The first is asked before the silent one, so that its time is up before, too.
    async with (
        serving(tmp_path, database_url=database_url, ping_seconds=1) as server,
        server.client.socket() as answering,
        server.client.socket() as silent,
    ):
        silent.connection.transport.pause_reading()
        await sockets_left(server, 1)

        await assert_alive(answering)
        silent.connection.transport.resume_reading()
        assert await closing_of(silent.connection) == (1011, "keepalive ping timeout")


def test_it_takes_less_than_the_time_to_acknowledge_unless_an_operator_says_otherwise(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)

    assert (2 * settings.ping_seconds, settings.acknowledge_seconds) == (20, 30)

"""Half-open WebSockets: the server pings clients and releases the runs of those that do not respond."""

from pathlib import Path

from tests.builders.queued_runs import create_many, lease_ids, run_ids
from tests.serving import SQLITE_ONLY, run_server, settings_for
from tests.websocket_messages import assert_alive, receive_close, wait_for_socket_count


async def test_deliveries_of_a_silent_client_are_redelivered_before_their_acknowledgement_deadline(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        run_server(tmp_path, database_url=database_url, ping_seconds=0.2) as server,
        server.client.socket() as socket,
    ):
        client = server.client
        ids = await create_many(client, 2)
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        first = await socket.deliveries(2)

        # The client responds to no more pings. The manual clock stands still, so no acknowledgement deadline passes.
        socket.connection.transport.pause_reading()
        again = [(await client.execute("ClaimTaskRuns", taskKeys=["t"], waitSeconds=60))["deliveries"] for _ in ids]

        await wait_for_socket_count(server, 0)
        results = (await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids(first)))["leases"]
        socket.connection.transport.resume_reading()
        assert await receive_close(socket.connection) == (1013, "The client did not respond to a ping")
    assert run_ids([each for (each,) in again]) == run_ids(first) == ids
    assert [each["attempt"] for (each,) in again] == [2, 2]
    assert [result["status"] for result in results] == ["LOST", "LOST"]


@SQLITE_ONLY
async def test_a_client_that_responds_to_pings_stays_connected(database_url: str, tmp_path: Path) -> None:
    # The responding client is pinged before the silent one, so its timeout would also come first.
    async with (
        run_server(tmp_path, database_url=database_url, ping_seconds=1) as server,
        server.client.socket() as responding,
        server.client.socket() as silent,
    ):
        silent.connection.transport.pause_reading()
        await wait_for_socket_count(server, 1)

        await assert_alive(responding)
        silent.connection.transport.resume_reading()
        assert await receive_close(silent.connection) == (1013, "The client did not respond to a ping")


def test_the_default_ping_timeout_is_shorter_than_the_acknowledgement_deadline(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)

    assert (2 * settings.ping_seconds, settings.acknowledge_seconds) == (20, 30)

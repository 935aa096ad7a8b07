"""`scheduledTaskRuns` with `start`: credit for runs that have begun and not ended."""

from pathlib import Path
from typing import Any

from tests.builders.api_runs import set_task_run_state
from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_ids
from tests.client import Client, Socket
from tests.postgresql import database_connection
from tests.serving import POSTGRESQL_ONLY, RunningServer, run_server


async def subscribe(socket: Socket, prefetch: int = 1, **arguments: Any) -> str:
    return await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=prefetch, start=True, **arguments)


async def report(client: Client, delivery: dict[str, Any], type: str) -> None:
    id, lease_id = delivery["taskRun"]["id"], delivery["leaseId"]
    assert (await set_task_run_state(client, id, type, lease_id=lease_id))["status"] == "ACCEPT"


async def test_started_runs_are_received_running(client: Client) -> None:
    ids = await create_many(client, 2)
    async with client.socket() as socket:
        await subscribe(socket, 2)
        delivered = await socket.deliveries(2)

    assert run_ids(delivered) == ids
    assert [each["taskRun"]["stateType"] for each in delivered] == ["RUNNING", "RUNNING"]


async def test_acknowledging_a_started_run_returns_no_credit_and_ending_it_does(server: RunningServer) -> None:
    client = server.client
    first, second = await create_many(client, 2)
    async with client.socket() as socket:
        await subscribe(socket)
        (delivery,) = await socket.deliveries(1)
        await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids([delivery]))
        await client.execute("RenewTaskRunLeases", leaseIds=lease_ids([delivery]))
        server.clock.advance(15)
        assert await socket.event() == []
        assert (await client.execute("GetTaskRun", id=second))["stateType"] == "SCHEDULED"

        await report(client, delivery, "COMPLETED")

        assert run_ids(await socket.deliveries(1)) == [second]
    assert delivery["taskRun"]["id"] == first


async def test_one_slot_gives_a_worker_for_twenty_runs_one_delivery_for_each_start(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="scarce", limit=1)
    ids = [await create_scheduled(client, tags=["scarce"]) for _ in range(40)]
    delivered: list[dict[str, Any]] = []
    async with client.socket() as socket:
        await subscribe(socket, 20)
        for _ in ids:
            (delivery,) = await socket.deliveries(1)
            delivered.append(delivery)
            await report(client, delivery, "COMPLETED")

    assert run_ids(delivered) == ids
    assert [(each["attempt"], each["taskRun"]["runCount"]) for each in delivered] == [(1, 1)] * 40


async def test_a_report_that_ends_an_unacknowledged_run_returns_its_credit(client: Client) -> None:
    first, second = await create_many(client, 2)
    async with client.socket() as socket:
        await subscribe(socket)
        (delivery,) = await socket.deliveries(1)
        await report(client, delivery, "FAILED")

        assert [delivery["taskRun"]["id"], *run_ids(await socket.deliveries(1))] == [first, second]


async def test_every_end_of_a_confirmed_lease_returns_its_credit(server: RunningServer) -> None:
    client = server.client
    ends = ["release", "cancel", "delete", "reschedule", "expire"]
    async with client.socket() as socket:
        await subscribe(socket)
        for end in ends:
            id = await create_scheduled(client)
            (delivery,) = await socket.deliveries(1)
            assert delivery["taskRun"]["id"] == id, end
            await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids([delivery]))
            if end == "release":
                await client.execute("ReleaseTaskRuns", leaseIds=lease_ids([delivery]), delaySeconds=3600)
            elif end == "cancel":
                await set_task_run_state(client, id, "CANCELLED")
            elif end == "delete":
                await client.execute("DeleteTaskRun", id=id)
            elif end == "reschedule":
                later = {"scheduledTime": server.clock.in_seconds(3600)}
                await set_task_run_state(client, id, "SCHEDULED", details=later)
            else:
                server.clock.advance(60)
                await server.sweep()

        last = await create_scheduled(client)
        found: list[str] = []
        while last not in found:
            found += run_ids(await socket.event())
        assert found == [last]


async def test_an_expired_unconfirmed_run_blocks_its_credit_until_its_lease_is_named(server: RunningServer) -> None:
    client = server.client
    (first,) = await create_many(client, 1)
    async with client.socket() as silent, client.socket() as awake:
        await subscribe(silent)
        delivered = await silent.deliveries(1)
        server.clock.advance(30)
        await server.sweep()
        await subscribe(awake, 2)
        assert run_ids(await awake.deliveries(1)) == [first]
        second = await create_scheduled(client)
        assert run_ids(await awake.deliveries(1)) == [second]

        (lost,) = (await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids(delivered)))["leases"]
        third = await create_scheduled(client)

        assert lost["status"] == "LOST"
        found: list[str] = []
        while third not in found:
            found += run_ids(await silent.event())
        assert found == [third]


async def test_confirmed_runs_continue_when_the_connection_is_lost(client: Client) -> None:
    confirmed, other = await create_many(client, 2)
    async with client.socket() as socket:
        await subscribe(socket, 2)
        first, _ = await socket.deliveries(2)
        await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids([first]))
        socket.connection.transport.abort()

    async with client.socket() as socket:
        await subscribe(socket, 2)
        assert run_ids(await socket.deliveries(1)) == [other]
    await report(client, first, "COMPLETED")
    run = await client.execute("GetTaskRun", id=confirmed)
    assert (run["stateType"], run["runCount"]) == ("COMPLETED", 1)


async def test_start_cannot_be_combined_with_auto_acknowledge(client: Client) -> None:
    (id,) = await create_many(client, 1)
    async with client.socket() as socket:
        await subscribe(socket, autoAcknowledge=True)
        message = await socket.receive()

    (error,) = message["payload"] if message["type"] == "error" else message["payload"]["errors"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "start"}
    assert error["message"] == "start: cannot be combined with `autoAcknowledge`."
    assert (await client.execute("GetTaskRun", id=id))["stateType"] == "SCHEDULED"


@POSTGRESQL_ONLY
async def test_an_end_at_another_server_returns_the_credit(replicas: tuple[RunningServer, RunningServer]) -> None:
    here, there = replicas
    first, second = await create_many(here.client, 2)
    async with here.client.socket() as socket:
        await subscribe(socket)
        (delivery,) = await socket.deliveries(1)
        await report(there.client, delivery, "COMPLETED")

        assert [delivery["taskRun"]["id"], *run_ids(await socket.deliveries(1))] == [first, second]


@POSTGRESQL_ONLY
async def test_an_end_whose_notification_was_lost_returns_its_credit_with_the_next_poll(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        run_server(tmp_path, database_url=database_url, poll_seconds=7) as server,
        server.client.socket() as socket,
    ):
        first, second = await create_many(server.client, 2)
        await subscribe(socket)
        (delivery,) = await socket.deliveries(1)
        await server.client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids([delivery]))
        await server.clock.wait_for_waiter(7)
        server.clock.advance(7)
        await server.clock.wait_for_waiter(7)
        held = (await server.client.execute("GetTaskRun", id=second))["stateType"]
        # As another server does, but without its notification.
        async with database_connection(database_url) as connection:
            await connection.execute("DELETE FROM queue_entry WHERE task_run_id = $1", first)

        server.clock.advance(7)

        assert held == "SCHEDULED"
        assert run_ids(await socket.deliveries(1)) == [second]

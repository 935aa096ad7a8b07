"""Deliveries that are not acknowledged in time are redelivered."""

from tests.builders.queued_runs import create_many, lease_ids, run_ids
from tests.serving import RunningServer, run_server


async def test_an_unacknowledged_delivery_goes_to_another_worker_after_thirty_seconds(server: RunningServer) -> None:
    client = server.client
    (id,) = await create_many(client, 1)
    async with client.socket() as silent, client.socket() as awake:
        await silent.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        first = await silent.deliveries(1)
        await awake.subscribe("ScheduledTaskRuns", taskKeys=["t"])

        server.clock.advance(30)

        again = await awake.deliveries(1)
        assert run_ids(again) == [id]
        assert again[0]["attempt"] == 2
        (result,) = (await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids(first)))["leases"]
        assert result["status"] == "LOST"


async def test_an_acknowledged_run_that_never_starts_is_redelivered_when_its_lease_expires(
    server: RunningServer,
) -> None:
    client = server.client
    (id,) = await create_many(client, 1)
    async with client.socket() as dying:
        await dying.subscribe("ScheduledTaskRuns", taskKeys=["t"], leaseSeconds=120)
        first = await dying.deliveries(1)
        await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids(first))

    async with client.socket() as awake:
        await awake.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)

        server.clock.advance(119)
        (newer,) = await create_many(client, 1)
        assert run_ids(await awake.deliveries(1)) == [newer]
        server.clock.advance(1)

        assert run_ids(await awake.deliveries(1)) == [id]


async def test_an_expired_delivery_blocks_its_credit_until_it_is_acknowledged(server: RunningServer) -> None:
    client = server.client
    first, second = await create_many(client, 2)
    async with client.socket() as silent:
        await silent.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        delivered = await silent.deliveries(1)
        server.clock.advance(30)
        async with client.socket() as awake:
            await awake.subscribe("ScheduledTaskRuns", taskKeys=["t"], autoAcknowledge=True)
            assert sorted(run_ids(await awake.deliveries(2))) == [first, second]

        await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids(delivered))
        (third,) = await create_many(client, 1)

        assert run_ids(await silent.deliveries(1)) == [third]


async def test_a_starting_server_requeues_the_unacknowledged_deliveries_of_its_predecessor(tmp_path) -> None:
    async with run_server(tmp_path) as before:
        acknowledged, unacknowledged = await create_many(before.client, 2)
        async with before.client.socket() as socket:
            await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
            first, _ = await socket.deliveries(2)
            await before.client.execute("AcknowledgeTaskRuns", leaseIds=[first["leaseId"]])

    async with run_server(tmp_path) as after, after.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)

        assert run_ids(await socket.deliveries(1)) == [unacknowledged]
        assert (await after.client.execute("GetTaskRun", id=acknowledged))["queueEntry"]["leaseExpiresAt"] is not None

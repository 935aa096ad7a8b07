"""A delivery that nobody acknowledges in time goes to somebody else."""

from tests.builders.queued_runs import create_many, lease_ids, run_ids
from tests.serving import Serving, serving


async def test_after_thirty_seconds_another_worker_gets_it(server: Serving) -> None:
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
        (result,) = await client.ask("AcknowledgeTaskRuns", leaseIds=lease_ids(first))
        assert result["status"] == "LOST"


async def test_an_acknowledged_one_that_never_starts_comes_back_when_its_lease_ends(server: Serving) -> None:
    client = server.client
    (id,) = await create_many(client, 1)
    async with client.socket() as dying:
        await dying.subscribe("ScheduledTaskRuns", taskKeys=["t"], leaseSeconds=120)
        first = await dying.deliveries(1)
        await client.ask("AcknowledgeTaskRuns", leaseIds=lease_ids(first))

    async with client.socket() as awake:
        await awake.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)

        server.clock.advance(119)
        (newer,) = await create_many(client, 1)
        assert run_ids(await awake.deliveries(1)) == [newer]
        server.clock.advance(1)

        assert run_ids(await awake.deliveries(1)) == [id]


async def test_a_worker_that_lets_a_delivery_lapse_gets_no_other_until_it_answers_for_it(server: Serving) -> None:
    client = server.client
    first, second = await create_many(client, 2)
    async with client.socket() as silent:
        await silent.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        delivered = await silent.deliveries(1)
        server.clock.advance(30)
        async with client.socket() as awake:
            await awake.subscribe("ScheduledTaskRuns", taskKeys=["t"], autoAcknowledge=True)
            assert sorted(run_ids(await awake.deliveries(2))) == [first, second]

        await client.ask("AcknowledgeTaskRuns", leaseIds=lease_ids(delivered))
        (third,) = await create_many(client, 1)

        assert run_ids(await silent.deliveries(1)) == [third]


async def test_a_server_that_starts_puts_back_what_its_predecessor_left_unacknowledged(tmp_path) -> None:
    async with serving(tmp_path) as before:
        taken, left = await create_many(before.client, 2)
        async with before.client.socket() as socket:
            await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
            first, _ = await socket.deliveries(2)
            await before.client.ask("AcknowledgeTaskRuns", leaseIds=[first["leaseId"]])

    async with serving(tmp_path) as after, after.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)

        assert run_ids(await socket.deliveries(1)) == [left]
        assert (await after.client.ask("GetTaskRun", id=taken))["queueEntry"]["leaseExpiresAt"] is not None

"""Runs are delivered at their scheduled time, not before."""

from tests.builders.queued_runs import create_scheduled, run_ids
from tests.serving import RunningServer


async def test_a_run_is_delivered_at_its_scheduled_time(server: RunningServer) -> None:
    client, clock = server.client, server.clock
    later = await create_scheduled(client, at=clock.in_seconds(60))
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)

        clock.advance(59.999999)
        now = await create_scheduled(client)
        assert run_ids(await socket.deliveries(1)) == [now]

        clock.advance(0.000001)
        assert run_ids(await socket.deliveries(1)) == [later]


async def test_an_earlier_run_created_later_is_delivered_at_its_own_time(server: RunningServer) -> None:
    client, clock = server.client, server.clock
    late = await create_scheduled(client, at=clock.in_seconds(35))
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)
        await clock.wait_for_waiter(35)
        soon = await create_scheduled(client, at=clock.in_seconds(10))

        clock.advance(10)
        assert run_ids(await socket.deliveries(1)) == [soon]
        clock.advance(25)
        # Keepalive events may arrive first.
        assert run_ids(await socket.deliveries(1)) == [late]


async def test_due_runs_are_delivered_in_the_order_of_their_due_times(server: RunningServer) -> None:
    client, clock = server.client, server.clock
    third = await create_scheduled(client, at=clock.in_seconds(-1))
    first = await create_scheduled(client, at=clock.in_seconds(-3))
    second = await create_scheduled(client, at=clock.in_seconds(-2))

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)

        assert run_ids(await socket.deliveries(3)) == [first, second, third]

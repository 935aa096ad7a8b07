"""A run is delivered when it is due, and not before."""

from tests.builders.queued_runs import create_scheduled, run_ids
from tests.serving import Serving


async def test_a_run_is_delivered_at_its_scheduled_time(server: Serving) -> None:
    client, clock = server.client, server.clock
    later = await create_scheduled(client, at=clock.in_seconds(60))
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)

        clock.advance(59.999999)
        now = await create_scheduled(client)
        assert run_ids(await socket.deliveries(1)) == [now]

        clock.advance(0.000001)
        assert run_ids(await socket.deliveries(1)) == [later]


async def test_a_run_that_is_due_before_the_one_waited_for_is_not_held_up_by_it(server: Serving) -> None:
    client, clock = server.client, server.clock
    late = await create_scheduled(client, at=clock.in_seconds(35))
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)
        await clock.somebody_waits(35)
        soon = await create_scheduled(client, at=clock.in_seconds(10))

        clock.advance(10)
        assert run_ids(await socket.deliveries(1)) == [soon]
        clock.advance(25)
        # Signs of life may come first.
        assert run_ids(await socket.deliveries(1)) == [late]


async def test_runs_go_out_in_the_order_of_their_due_times(server: Serving) -> None:
    client, clock = server.client, server.clock
    third = await create_scheduled(client, at=clock.in_seconds(-1))
    first = await create_scheduled(client, at=clock.in_seconds(-3))
    second = await create_scheduled(client, at=clock.in_seconds(-2))

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)

        assert run_ids(await socket.deliveries(3)) == [first, second, third]

"""Priority: the order of the runs of one task key, before the side and the due time."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.records import QueueEntryRecord
from resolvers.queue.task_queue import TaskQueue
from tests.builders.api_runs import create_task_runs
from tests.builders.queued_runs import create_many, create_scheduled, run_ids
from tests.client import Client
from tests.serving import RunningServer


async def claim(client: Client, *task_keys: str, **arguments: Any) -> list[dict[str, Any]]:
    return (await client.execute("ClaimTaskRuns", taskKeys=list(task_keys) or ["t"], **arguments))["deliveries"]


async def test_runs_of_a_key_are_delivered_by_priority_and_then_by_due_time(server: RunningServer) -> None:
    client = server.client
    low = await create_scheduled(client, priority=-10, at=server.clock.in_seconds(-60))
    normal = [await create_scheduled(client) for _ in range(2)]
    high = [await create_scheduled(client, priority=10) for _ in range(2)]

    assert run_ids(await claim(client, limit=5)) == [*high, *normal, low]


async def test_a_run_of_high_priority_that_is_not_due_delays_no_other(server: RunningServer) -> None:
    client = server.client
    later = await create_scheduled(client, priority=10, at=server.clock.in_seconds(60))
    now = await create_scheduled(client, priority=-10)

    early = run_ids(await claim(client, limit=5))
    server.clock.advance(60)

    assert early == [now]
    assert run_ids(await claim(client, limit=5)) == [later]


async def test_a_subscriber_waits_for_the_earliest_due_time_of_all_priorities(server: RunningServer) -> None:
    client, clock = server.client, server.clock
    late = await create_scheduled(client, priority=10, at=clock.in_seconds(12))
    soon = await create_scheduled(client, priority=-10, at=clock.in_seconds(6))
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=10)
        await clock.wait_for_waiter(6)

        clock.advance(6)
        assert run_ids(await socket.deliveries(1)) == [soon]
        await clock.wait_for_waiter(6)
        clock.advance(6)
        assert run_ids(await socket.deliveries(1)) == [late]


async def test_a_retry_of_low_priority_comes_after_a_scheduled_run_of_high_priority(client: Client) -> None:
    retry = {"taskKey": "t", "state": {"type": "SCHEDULED", "name": "AwaitingRetry"}}
    results = (await client.execute("CreateTaskRuns", inputs=[{**retry, "priority": -1}, {**retry, "priority": 1}]))[
        "results"
    ]
    low, high = (each["taskRun"]["id"] for each in results)
    scheduled = [await create_scheduled(client, priority=priority) for priority in (-1, 1)]

    assert run_ids(await claim(client, limit=5)) == [high, scheduled[1], low, scheduled[0]]


@pytest.mark.parametrize("start", [False, True])
async def test_more_runs_than_a_claim_reads_at_first_are_delivered_by_priority(client: Client, start: bool) -> None:
    others = {key: await create_many(client, 5, key) for key in ("a", "b", "c")}
    low = await create_task_runs(client, 30, "SCHEDULED", priority=-5)
    high = await create_task_runs(client, 30, "SCHEDULED", priority=5)

    delivered = run_ids(await claim(client, "t", *others, limit=50, start=start))

    of_key = [id for id in delivered if id in {*low, *high}]
    assert len(delivered) == 50
    assert of_key == [*high, *low[:5]]


async def test_runs_held_back_by_a_full_limit_let_no_lower_priority_overtake_the_rest(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="x", limit=0)
    held_back = await create_task_runs(client, 350, "SCHEDULED", priority=5, tags=["x"])
    high = await create_scheduled(client, priority=5)
    low = await create_scheduled(client, priority=-5)

    delivered = [id for _ in range(4) for id in run_ids(await claim(client, limit=1))]

    assert delivered == [high, low]
    assert (await client.execute("GetConcurrencyLimit", tag="x"))["waitingCount"] == len(held_back)


async def test_a_new_priority_moves_a_waiting_run(client: Client) -> None:
    first, second, third = await create_many(client, 3)

    await client.execute("UpdateTaskRun", id=third, input={"priority": 1})
    await client.execute("UpdateTaskRun", id=first, input={"priority": -1})

    assert run_ids(await claim(client, limit=3)) == [third, second, first]


async def test_priorities_of_other_keys_do_not_change_the_round_robin(client: Client) -> None:
    low = [await create_scheduled(client, "a", priority=-10) for _ in range(2)]
    high = [await create_scheduled(client, "b", priority=10) for _ in range(2)]

    assert run_ids(await claim(client, "a", "b", limit=4)) == [low[0], high[0], low[1], high[1]]


async def test_a_free_slot_wakes_the_waiting_run_of_the_highest_priority(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="x", limit=0)
    low, high = [await create_scheduled(client, tags=["x"], priority=priority) for priority in (0, 3)]
    assert await claim(client, limit=2) == []

    await client.execute("SetConcurrencyLimit", tag="x", limit=1)

    assert run_ids(await claim(client, limit=2, start=True)) == [high]
    assert (await client.execute("GetTaskRun", id=low))["stateType"] == "SCHEDULED"


@given(st.lists(st.tuples(st.integers(-2, 2), st.booleans()), max_size=40), st.integers(0, 9))
def test_runs_leave_a_queue_in_strict_order_of_priority(runs: list[tuple[int, bool]], consecutive: int) -> None:
    entries = [
        QueueEntryRecord(str(number), "t", is_retry, "", 0, None, None, None, False, None, priority=priority)
        for number, (priority, is_retry) in enumerate(runs)
    ]
    queue = TaskQueue("t", entries, consecutive)

    taken = [entry for _ in entries if (entry := queue.take()) is not None]

    assert [each.priority for each in taken] == sorted((each.priority for each in entries), reverse=True)
    assert {each.task_run_id for each in taken} == {each.task_run_id for each in entries}
    assert queue.take() is None

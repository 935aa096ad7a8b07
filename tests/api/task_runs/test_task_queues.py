"""The queues of task keys at a glance."""

from tests.builders.queued_runs import create_many, create_scheduled
from tests.serving import Serving

EMPTY = {
    "scheduled": 0,
    "retry": 0,
    "delayed": 0,
    "leased": 0,
    "oldestWaitSeconds": None,
    "subscribers": 0,
    "maxScheduled": 100_000,
    "maxRetry": 10_000,
}


async def test_there_are_no_queues_at_first(server: Serving) -> None:
    assert await server.client.ask("ListTaskQueues") == []


async def test_a_key_that_has_work_waiting_or_leased_or_is_listened_to_is_told_of(server: Serving) -> None:
    client = server.client
    await create_many(client, 3, "waiting")
    await create_many(client, 2, "leased")
    await client.ask("ClaimTaskRuns", taskKeys=["leased"], limit=2)
    await create_scheduled(client, "later", at=server.clock.in_seconds(60))
    server.clock.advance(7.5)

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["listened"])
        await server.clock.somebody_waits(15)
        queues = await client.ask("ListTaskQueues")

    assert queues == [
        {**EMPTY, "taskKey": "later", "delayed": 1},
        {**EMPTY, "taskKey": "leased", "leased": 2},
        {**EMPTY, "taskKey": "listened", "subscribers": 1},
        {**EMPTY, "taskKey": "waiting", "scheduled": 3, "oldestWaitSeconds": 7.5},
    ]


async def test_both_sides_are_counted_and_the_oldest_of_what_is_due(server: Serving) -> None:
    client = server.client
    await create_scheduled(client, at=server.clock.in_seconds(-90))
    await create_many(client, 2)
    (delivery,) = await client.ask("ClaimTaskRuns", taskKeys=["t"])
    await client.ask("ReleaseTaskRuns", leaseIds=[delivery["leaseId"]])
    (delivery,) = await client.ask("ClaimTaskRuns", taskKeys=["t"])
    await client.ask("ReleaseTaskRuns", leaseIds=[delivery["leaseId"]], delaySeconds=5)
    server.clock.advance(2)

    (queue,) = await client.ask("ListTaskQueues")

    assert queue == {**EMPTY, "taskKey": "t", "scheduled": 2, "delayed": 1, "oldestWaitSeconds": 2}
    server.clock.advance(3)
    (queue,) = await client.ask("ListTaskQueues")
    assert queue == {**EMPTY, "taskKey": "t", "scheduled": 2, "retry": 1, "oldestWaitSeconds": 5}


async def test_keys_that_are_named_are_told_of_in_that_order_whatever_is_known_of_them(server: Serving) -> None:
    client = server.client
    await create_many(client, 1, "a")
    await create_many(client, 1, "b")

    queues = await client.ask("ListTaskQueues", taskKeys=["b", "nowhere", "a"])

    assert [(each["taskKey"], each["scheduled"]) for each in queues] == [("b", 1), ("nowhere", 0), ("a", 1)]
    assert queues[1] == {**EMPTY, "taskKey": "nowhere"}
    assert await client.ask("ListTaskQueues", taskKeys=[]) == []


async def test_a_claim_that_is_answered_listens_no_more(server: Serving) -> None:
    await server.client.ask("ClaimTaskRuns", taskKeys=["t"])

    assert await server.client.ask("ListTaskQueues") == []


async def test_more_keys_than_a_list_may_have_are_refused(server: Serving) -> None:
    error = await server.client.refused("ListTaskQueues", taskKeys=["t"] * 1001)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "taskKeys")

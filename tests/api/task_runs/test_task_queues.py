"""taskQueues: statistics of the queues of task keys."""

from tests.builders.queued_runs import create_many, create_scheduled
from tests.serving import RunningServer

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


async def test_a_new_server_has_no_queues(server: RunningServer) -> None:
    assert await server.client.execute("ListTaskQueues") == []


async def test_keys_with_waiting_or_leased_runs_or_subscribers_are_listed(server: RunningServer) -> None:
    client = server.client
    await create_many(client, 3, "waiting")
    await create_many(client, 2, "leased")
    await client.execute("ClaimTaskRuns", taskKeys=["leased"], limit=2)
    await create_scheduled(client, "later", at=server.clock.in_seconds(60))
    server.clock.advance(7.5)

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["listened"])
        await server.clock.wait_for_waiter(15)
        queues = await client.execute("ListTaskQueues")

    assert queues == [
        {**EMPTY, "taskKey": "later", "delayed": 1},
        {**EMPTY, "taskKey": "leased", "leased": 2},
        {**EMPTY, "taskKey": "listened", "subscribers": 1},
        {**EMPTY, "taskKey": "waiting", "scheduled": 3, "oldestWaitSeconds": 7.5},
    ]


async def test_scheduled_and_retry_runs_are_counted_with_the_oldest_wait(server: RunningServer) -> None:
    client = server.client
    await create_scheduled(client, at=server.clock.in_seconds(-90))
    await create_many(client, 2)
    (delivery,) = await client.execute("ClaimTaskRuns", taskKeys=["t"])
    await client.execute("ReleaseTaskRuns", leaseIds=[delivery["leaseId"]])
    (delivery,) = await client.execute("ClaimTaskRuns", taskKeys=["t"])
    await client.execute("ReleaseTaskRuns", leaseIds=[delivery["leaseId"]], delaySeconds=5)
    server.clock.advance(2)

    (queue,) = await client.execute("ListTaskQueues")

    assert queue == {**EMPTY, "taskKey": "t", "scheduled": 2, "delayed": 1, "oldestWaitSeconds": 2}
    server.clock.advance(3)
    (queue,) = await client.execute("ListTaskQueues")
    assert queue == {**EMPTY, "taskKey": "t", "scheduled": 2, "retry": 1, "oldestWaitSeconds": 5}


async def test_requested_keys_are_returned_in_order_even_when_unknown(server: RunningServer) -> None:
    client = server.client
    await create_many(client, 1, "a")
    await create_many(client, 1, "b")

    queues = await client.execute("ListTaskQueues", taskKeys=["b", "nowhere", "a"])

    assert [(each["taskKey"], each["scheduled"]) for each in queues] == [("b", 1), ("nowhere", 0), ("a", 1)]
    assert queues[1] == {**EMPTY, "taskKey": "nowhere"}
    assert await client.execute("ListTaskQueues", taskKeys=[]) == []


async def test_a_finished_claim_is_no_longer_a_subscriber(server: RunningServer) -> None:
    await server.client.execute("ClaimTaskRuns", taskKeys=["t"])

    assert await server.client.execute("ListTaskQueues") == []


async def test_more_than_a_thousand_keys_are_refused(server: RunningServer) -> None:
    error = await server.client.execute_refused("ListTaskQueues", taskKeys=["t"] * 1001)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "taskKeys")

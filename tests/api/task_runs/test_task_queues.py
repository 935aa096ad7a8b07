"""taskQueues: statistics of the queues of task keys."""

from typing import Any

import pytest

from resolvers.queue.queue_ids import decode_queue_id, encode_queue_id
from tests.builders.queued_runs import create_many, create_scheduled
from tests.serving import RunningServer


def empty_queue(task_key: str) -> dict[str, Any]:
    return {
        "id": encode_queue_id(task_key),
        "taskKey": task_key,
        "scheduled": 0,
        "retry": 0,
        "delayed": 0,
        "leased": 0,
        "oldestWaitSeconds": None,
        "subscribers": 0,
        "maxScheduled": 100_000,
        "maxRetry": 10_000,
        "isPaused": False,
        "pausedAt": None,
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
        {**empty_queue("later"), "delayed": 1},
        {**empty_queue("leased"), "leased": 2},
        {**empty_queue("listened"), "subscribers": 1},
        {**empty_queue("waiting"), "scheduled": 3, "oldestWaitSeconds": 7.5},
    ]


async def test_scheduled_and_retry_runs_are_counted_with_the_oldest_wait(server: RunningServer) -> None:
    client = server.client
    await create_scheduled(client, at=server.clock.in_seconds(-90))
    await create_many(client, 2)
    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]
    await client.execute("ReleaseTaskRuns", leaseIds=[delivery["leaseId"]])
    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]
    await client.execute("ReleaseTaskRuns", leaseIds=[delivery["leaseId"]], delaySeconds=5)
    server.clock.advance(2)

    (queue,) = await client.execute("ListTaskQueues")

    assert queue == {**empty_queue("t"), "scheduled": 2, "delayed": 1, "oldestWaitSeconds": 2}
    server.clock.advance(3)
    (queue,) = await client.execute("ListTaskQueues")
    assert queue == {**empty_queue("t"), "scheduled": 2, "retry": 1, "oldestWaitSeconds": 5}


async def test_requested_keys_are_returned_in_order_even_when_unknown(server: RunningServer) -> None:
    client = server.client
    await create_many(client, 1, "a")
    await create_many(client, 1, "b")

    queues = await client.execute("ListTaskQueues", taskKeys=["b", "nowhere", "a"])

    assert [(each["taskKey"], each["scheduled"]) for each in queues] == [("b", 1), ("nowhere", 0), ("a", 1)]
    assert queues[1] == empty_queue("nowhere")
    assert await client.execute("ListTaskQueues", taskKeys=[]) == []


async def test_a_finished_claim_is_no_longer_a_subscriber(server: RunningServer) -> None:
    await server.client.execute("ClaimTaskRuns", taskKeys=["t"])

    assert await server.client.execute("ListTaskQueues") == []


async def test_more_than_a_thousand_keys_are_refused(server: RunningServer) -> None:
    error = await server.client.execute_refused("ListTaskQueues", taskKeys=["t"] * 1001)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "taskKeys")


async def test_a_queue_has_its_own_id_that_does_not_change(server: RunningServer) -> None:
    keys = ["t", "T", "é/日 ", ""]
    before = await server.client.execute("ListTaskQueues", taskKeys=keys)
    await create_many(server.client, 1, "t")

    after = await server.client.execute("ListTaskQueues", taskKeys=keys)

    assert [queue["id"] for queue in after] == [queue["id"] for queue in before]
    assert len({queue["id"] for queue in after}) == 4


@pytest.mark.parametrize("task_key", ["t", "", "é/日 ", "a" * 1000, "TaskQueue:t"])
def test_the_key_of_a_queue_is_decoded_from_its_id(task_key: str) -> None:
    assert decode_queue_id(encode_queue_id(task_key)) == task_key


@pytest.mark.parametrize(
    "id",
    [
        "",
        "t",
        "é",
        "VGFza1F1ZXVlOnQ=",
        "VGFza1F1ZXVlOnR",
        "VGFza1F1ZXVlO",
        encode_queue_id("t") + "\n",
        encode_queue_id("\0"),
        "VGFza1F1ZXVlOv8",
        "dGFza3F1ZXVlOnQ",
    ],
)
def test_another_text_is_no_id_of_a_queue(id: str) -> None:
    assert decode_queue_id(id) is None

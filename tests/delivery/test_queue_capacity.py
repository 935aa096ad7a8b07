"""Queue limits: clients cannot exceed a key's limit, while runs that return to their queue are always accepted."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.builders.api_runs import create_task_run
from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_ids
from tests.client import Client
from tests.serving import SQLITE_ONLY, RunningServer, run_server
from tests.tables import count_rows

SCHEDULED = {"type": "SCHEDULED"}
RETRY = {"type": "SCHEDULED", "name": "AwaitingRetry"}
WRITTEN_TABLES = ["task_run", "task_run_state", "queue_entry"]


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server with a limit of three scheduled runs and two retries per task key."""
    limits = {"max_scheduled_per_key": 3, "max_retry_per_key": 2}
    async with run_server(tmp_path, database_url=database_url, **limits) as running:
        yield running


async def count_due(client: Client, task_key: str = "t") -> tuple[int, int]:
    """Return the number of due scheduled runs and of due retries of the key."""
    (queue,) = await client.execute("ListTaskQueues", taskKeys=[task_key])
    return queue["scheduled"], queue["retry"]


async def test_a_run_beyond_the_limit_is_refused_and_nothing_is_written(client: Client, database_url: str) -> None:
    await create_many(client, 3)
    before = await count_rows(database_url, WRITTEN_TABLES)

    error = await client.execute_refused("CreateTaskRun", input={"taskKey": "t", "state": SCHEDULED})

    assert error == {
        "message": "input.taskKey: The queue of task key 't' has reached the limit of 3 waiting runs on its scheduled side. "
        "Retry later.",
        "code": "QUEUE_FULL",
        "argument": "input.taskKey",
        "retryable": True,
    }
    assert await count_rows(database_url, WRITTEN_TABLES) == before


async def test_a_full_queue_does_not_block_unqueued_runs_or_other_keys(client: Client) -> None:
    await create_many(client, 3)

    await create_task_run(client)
    await create_scheduled(client, "other")

    assert await count_due(client) == (3, 0)
    assert await count_due(client, "other") == (1, 0)


async def test_creating_an_existing_run_again_takes_no_capacity(client: Client) -> None:
    input = {"taskKey": "t", "dynamicKey": "first", "state": SCHEDULED}
    first = await client.execute("CreateTaskRun", input=input)
    await create_many(client, 2)

    again = await client.execute("CreateTaskRun", input=input)

    assert (again["created"], again["taskRun"]["id"]) == (False, first["taskRun"]["id"])


async def test_a_batch_beyond_the_limit_creates_no_run(client: Client, database_url: str) -> None:
    await create_many(client, 1)
    before = await count_rows(database_url, WRITTEN_TABLES)

    error = await client.execute_refused("CreateTaskRuns", inputs=[{"taskKey": "t", "state": SCHEDULED}] * 3)

    assert (error["code"], error["argument"]) == ("QUEUE_FULL", "inputs.2.taskKey")
    assert await count_rows(database_url, WRITTEN_TABLES) == before
    await create_many(client, 2)
    assert await count_due(client) == (3, 0)


async def test_runs_due_later_count_towards_the_limit(server: RunningServer) -> None:
    for _ in range(3):
        await create_scheduled(server.client, at=server.clock.in_seconds(3600))

    error = await server.client.execute_refused("CreateTaskRun", input={"taskKey": "t", "state": SCHEDULED})

    assert error["code"] == "QUEUE_FULL"


@pytest.mark.parametrize("how", ["claimed", "cancelled", "deleted"])
async def test_a_run_that_leaves_the_queue_frees_its_capacity(client: Client, how: str) -> None:
    ids = await create_many(client, 3)
    await client.execute_refused("CreateTaskRun", input={"taskKey": "t", "state": SCHEDULED})

    if how == "claimed":
        await client.execute("ClaimTaskRuns", taskKeys=["t"])
    elif how == "cancelled":
        await client.execute("SetTaskRunState", id=ids[0], state={"type": "CANCELLED"})
    else:
        await client.execute("DeleteTaskRun", id=ids[0])

    await create_scheduled(client)
    error = await client.execute_refused("CreateTaskRun", input={"taskKey": "t", "state": SCHEDULED})
    assert error["code"] == "QUEUE_FULL"
    assert await count_due(client) == (3, 0)


async def test_setting_a_state_that_exceeds_the_queue_limit_is_refused(client: Client) -> None:
    id = await create_task_run(client)
    await create_many(client, 3)

    error = await client.execute_refused("SetTaskRunState", id=id, state=SCHEDULED)
    forced = await client.execute_refused("SetTaskRunState", id=id, state=SCHEDULED, force=True)

    assert (error["code"], error["argument"], error["retryable"]) == ("QUEUE_FULL", "state", True)
    assert forced == error
    run = await client.execute("GetTaskRun", id=id)
    assert ([each["type"] for each in run["states"]], run["queueEntry"]) == (["PENDING"], None)


async def test_orchestration_rejects_before_the_queue_limit_is_checked(client: Client) -> None:
    id = await create_task_run(client, {"type": "COMPLETED", "data": {"kept": True}})
    await create_many(client, 3)

    outcome = await client.execute("SetTaskRunState", id=id, state=SCHEDULED)

    assert outcome["status"] == "REJECT"


async def test_a_queued_run_can_be_rescheduled_at_the_limit(server: RunningServer) -> None:
    ids = await create_many(server.client, 3)
    state = {"type": "SCHEDULED", "details": {"scheduledTime": server.clock.in_seconds(60)}}

    outcome = await server.client.execute("SetTaskRunState", id=ids[0], state=state)

    assert outcome["status"] == "ACCEPT"
    assert await count_due(server.client) == (2, 0)


async def test_a_refused_item_does_not_affect_the_other_items(client: Client) -> None:
    ids = [await create_task_run(client) for _ in range(3)]
    await create_many(client, 2)

    rows = (await client.execute("SetTaskRunStates", inputs=[{"taskRunId": id, "state": SCHEDULED} for id in ids]))[
        "results"
    ]

    assert [row["error"] and row["error"]["code"] for row in rows] == [None, "QUEUE_FULL", "QUEUE_FULL"]
    assert [row["result"] and row["result"]["status"] for row in rows] == ["ACCEPT", None, None]
    assert await count_due(client) == (3, 0)


async def test_retries_have_a_separate_limit(client: Client) -> None:
    await create_many(client, 3)
    await create_task_run(client, RETRY)
    await create_task_run(client, RETRY)

    error = await client.execute_refused("CreateTaskRun", input={"taskKey": "t", "state": RETRY})

    assert error["code"] == "QUEUE_FULL"
    assert error["message"].endswith(
        "The queue of task key 't' has reached the limit of 2 waiting runs on its retry side. Retry later."
    )
    assert await count_due(client) == (3, 2)


async def test_a_failure_with_retries_left_is_never_refused(client: Client) -> None:
    policy = {"retries": 1}
    payload = await client.execute("CreateTaskRun", input={"taskKey": "t", "state": SCHEDULED, "retryPolicy": policy})
    id = payload["taskRun"]["id"]
    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]
    await client.execute("SetTaskRunState", id=id, state={"type": "RUNNING"}, leaseId=delivery["leaseId"])
    await create_task_run(client, RETRY)
    await create_task_run(client, RETRY)

    outcome = await client.execute("SetTaskRunState", id=id, state={"type": "FAILED"}, leaseId=delivery["leaseId"])

    assert (outcome["status"], outcome["state"]["name"]) == ("REJECT", "AwaitingRetry")
    assert await count_due(client) == (0, 3)


@pytest.mark.parametrize("how", ["released", "lapsed"])
async def test_released_and_expired_runs_are_always_requeued(server: RunningServer, how: str) -> None:
    client = server.client
    ids = await create_many(client, 3)
    deliveries = (await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=3))["deliveries"]

    if how == "released":
        await client.execute("ReleaseTaskRuns", leaseIds=lease_ids(deliveries))
    else:
        server.clock.advance(30)
        await server.sweep()

    assert await count_due(client) == (0, 3)
    assert (await client.execute_refused("CreateTaskRun", input={"taskKey": "t", "state": RETRY}))[
        "code"
    ] == "QUEUE_FULL"
    assert run_ids((await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=3))["deliveries"]) == ids


@SQLITE_ONLY
async def test_a_single_server_enforces_the_limit_exactly_under_concurrency(client: Client) -> None:
    async def create() -> str:
        response = await client.send("CreateTaskRun", input={"taskKey": "t", "state": SCHEDULED})
        return response["errors"][0]["extensions"]["code"] if "errors" in response else "created"

    outcomes = await asyncio.gather(*(create() for _ in range(20)))

    assert Counter(outcomes) == {"created": 3, "QUEUE_FULL": 17}
    assert await count_due(client) == (3, 0)

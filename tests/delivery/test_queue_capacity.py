"""A key's queue takes so many runs from clients and no more; what comes back to it always fits."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_ids
from tests.client import Client
from tests.serving import ON_SQLITE, Serving, serving
from tests.tables import count_rows

SCHEDULED = {"type": "SCHEDULED"}
RETRY = {"type": "SCHEDULED", "name": "AwaitingRetry"}
WRITTEN = ["task_run", "task_run_state", "queue_entry"]


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[Serving]:
    """A server whose keys take three scheduled runs, and two on the retry side."""
    bounds = {"max_scheduled_per_key": 3, "max_retry_per_key": 2}
    async with serving(tmp_path, database_url=database_url, **bounds) as served:
        yield served


async def new_run(client: Client, state: dict[str, Any] | None = None, task_key: str = "t") -> str:
    payload = await client.ask("CreateTaskRun", input={"taskKey": task_key, "state": state})
    return payload["taskRun"]["id"]


async def waiting(client: Client, task_key: str = "t") -> tuple[int, int]:
    """How many runs are due on the scheduled side of the key, and how many on its retry side."""
    (queue,) = await client.ask("ListTaskQueues", taskKeys=[task_key])
    return queue["scheduled"], queue["retry"]


async def test_a_run_beyond_the_bound_is_refused_and_nothing_is_written(client: Client, database_url: str) -> None:
    await create_many(client, 3)
    before = await count_rows(database_url, WRITTEN)

    error = await client.refused("CreateTaskRun", input={"taskKey": "t", "state": SCHEDULED})

    assert error == {
        "message": "input.taskKey: The queue of 't' is full: 3 runs wait on its scheduled side, and no more may.",
        "code": "QUEUE_FULL",
        "argument": "input.taskKey",
        "retryable": True,
    }
    assert await count_rows(database_url, WRITTEN) == before


async def test_runs_that_are_not_queued_and_runs_of_other_keys_are_created_all_the_same(client: Client) -> None:
    await create_many(client, 3)

    await new_run(client)
    await create_scheduled(client, "other")

    assert await waiting(client) == (3, 0)
    assert await waiting(client, "other") == (1, 0)


async def test_creating_a_run_again_that_is_there_is_no_new_place(client: Client) -> None:
    input = {"taskKey": "t", "dynamicKey": "first", "state": SCHEDULED}
    first = await client.ask("CreateTaskRun", input=input)
    await create_many(client, 2)

    again = await client.ask("CreateTaskRun", input=input)

    assert (again["created"], again["taskRun"]["id"]) == (False, first["taskRun"]["id"])


async def test_many_runs_are_created_all_or_none(client: Client, database_url: str) -> None:
    await create_many(client, 1)
    before = await count_rows(database_url, WRITTEN)

    error = await client.refused("CreateTaskRuns", inputs=[{"taskKey": "t", "state": SCHEDULED}] * 3)

    assert (error["code"], error["argument"]) == ("QUEUE_FULL", "inputs.2.taskKey")
    assert await count_rows(database_url, WRITTEN) == before
    await create_many(client, 2)
    assert await waiting(client) == (3, 0)


async def test_runs_that_are_due_later_take_places_too(server: Serving) -> None:
    for _ in range(3):
        await create_scheduled(server.client, at=server.clock.in_seconds(3600))

    error = await server.client.refused("CreateTaskRun", input={"taskKey": "t", "state": SCHEDULED})

    assert error["code"] == "QUEUE_FULL"


@pytest.mark.parametrize("how", ["claimed", "cancelled", "deleted"])
async def test_a_place_is_free_again_once_its_run_waits_no_more(client: Client, how: str) -> None:
    ids = await create_many(client, 3)
    await client.refused("CreateTaskRun", input={"taskKey": "t", "state": SCHEDULED})

    if how == "claimed":
        await client.ask("ClaimTaskRuns", taskKeys=["t"])
    elif how == "cancelled":
        await client.ask("SetTaskRunState", id=ids[0], state={"type": "CANCELLED"})
    else:
        await client.ask("DeleteTaskRun", id=ids[0])

    await create_scheduled(client)
    error = await client.refused("CreateTaskRun", input={"taskKey": "t", "state": SCHEDULED})
    assert error["code"] == "QUEUE_FULL"
    assert await waiting(client) == (3, 0)


async def test_a_state_that_would_queue_a_run_beyond_the_bound_is_refused(client: Client) -> None:
    id = await new_run(client)
    await create_many(client, 3)

    error = await client.refused("SetTaskRunState", id=id, state=SCHEDULED)
    forced = await client.refused("SetTaskRunState", id=id, state=SCHEDULED, force=True)

    assert (error["code"], error["argument"], error["retryable"]) == ("QUEUE_FULL", "state", True)
    assert forced == error
    run = await client.ask("GetTaskRun", id=id)
    assert ([each["type"] for each in run["states"]], run["queueEntry"]) == (["PENDING"], None)


async def test_what_the_rules_refuse_is_answered_by_them_however_full_the_queue_is(client: Client) -> None:
    id = await new_run(client, {"type": "COMPLETED", "data": {"kept": True}})
    await create_many(client, 3)

    outcome = await client.ask("SetTaskRunState", id=id, state=SCHEDULED)

    assert outcome["status"] == "REJECT"


async def test_a_run_that_waits_may_be_scheduled_anew(server: Serving) -> None:
    ids = await create_many(server.client, 3)
    state = {"type": "SCHEDULED", "details": {"scheduledTime": server.clock.in_seconds(60)}}

    outcome = await server.client.ask("SetTaskRunState", id=ids[0], state=state)

    assert outcome["status"] == "ACCEPT"
    assert await waiting(server.client) == (2, 0)


async def test_a_refused_row_takes_no_other_with_it(client: Client) -> None:
    ids = [await new_run(client) for _ in range(3)]
    await create_many(client, 2)

    rows = await client.ask("SetTaskRunStates", inputs=[{"id": id, "state": SCHEDULED} for id in ids])

    assert [row["error"] and row["error"]["code"] for row in rows] == [None, "QUEUE_FULL", "QUEUE_FULL"]
    assert [row["result"] and row["result"]["status"] for row in rows] == ["ACCEPT", None, None]
    assert await waiting(client) == (3, 0)


async def test_the_retry_side_has_a_bound_of_its_own(client: Client) -> None:
    await create_many(client, 3)
    await new_run(client, RETRY)
    await new_run(client, RETRY)

    error = await client.refused("CreateTaskRun", input={"taskKey": "t", "state": RETRY})

    assert error["code"] == "QUEUE_FULL"
    assert error["message"].endswith("2 runs wait on its retry side, and no more may.")
    assert await waiting(client) == (3, 2)


async def test_a_failure_that_is_to_be_retried_is_never_refused(client: Client) -> None:
    policy = {"retries": 1}
    payload = await client.ask("CreateTaskRun", input={"taskKey": "t", "state": SCHEDULED, "empiricalPolicy": policy})
    id = payload["taskRun"]["id"]
    (delivery,) = await client.ask("ClaimTaskRuns", taskKeys=["t"])
    await client.ask("SetTaskRunState", id=id, state={"type": "RUNNING"}, leaseId=delivery["leaseId"])
    await new_run(client, RETRY)
    await new_run(client, RETRY)

    outcome = await client.ask("SetTaskRunState", id=id, state={"type": "FAILED"}, leaseId=delivery["leaseId"])

    assert (outcome["status"], outcome["state"]["name"]) == ("REJECT", "AwaitingRetry")
    assert await waiting(client) == (0, 3)


@pytest.mark.parametrize("how", ["released", "lapsed"])
async def test_what_workers_hand_back_or_lose_is_never_refused(server: Serving, how: str) -> None:
    client = server.client
    ids = await create_many(client, 3)
    deliveries = await client.ask("ClaimTaskRuns", taskKeys=["t"], limit=3)

    if how == "released":
        await client.ask("ReleaseTaskRuns", leaseIds=lease_ids(deliveries))
    else:
        server.clock.advance(30)
        await server.sweep()

    assert await waiting(client) == (0, 3)
    assert (await client.refused("CreateTaskRun", input={"taskKey": "t", "state": RETRY}))["code"] == "QUEUE_FULL"
    assert run_ids(await client.ask("ClaimTaskRuns", taskKeys=["t"], limit=3)) == ids


@ON_SQLITE
async def test_a_single_server_is_exact_however_many_create_at_once(client: Client) -> None:
    async def create() -> str:
        answer = await client.send("CreateTaskRun", input={"taskKey": "t", "state": SCHEDULED})
        return answer["errors"][0]["extensions"]["code"] if "errors" in answer else "created"

    outcomes = await asyncio.gather(*(create() for _ in range(20)))

    assert Counter(outcomes) == {"created": 3, "QUEUE_FULL": 17}
    assert await waiting(client) == (3, 0)

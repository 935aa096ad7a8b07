"""Unique keys: at most one run that has not ended has a task key and unique key."""

import asyncio
from typing import Any

import pytest

from tests.builders.api_runs import create_flow_run, create_task_run, set_task_run_state
from tests.client import Client
from tests.serving import SQLITE_ONLY

TERMINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


async def create(client: Client, **fields: Any) -> tuple[str, bool]:
    """Create a run with the unique key `k`, and return its id and whether it is new."""
    payload = await client.execute("CreateTaskRun", input={"taskKey": "t", "uniqueKey": "k", **fields})
    return payload["taskRun"]["id"], payload["created"]


async def count_runs(client: Client) -> int:
    return await client.execute("CountTaskRuns")


async def test_creating_a_run_with_a_held_key_returns_the_holder_unchanged(client: Client) -> None:
    id, created = await create(client, name="first", tags=["x"])

    payload = await client.execute(
        "CreateTaskRun",
        input={"taskKey": "t", "uniqueKey": "k", "name": "second", "state": {"type": "SCHEDULED"}},
    )

    assert created is True
    assert payload["created"] is False
    run = payload["taskRun"]
    assert (run["id"], run["name"], run["tags"], run["stateType"]) == (id, "first", ["x"], "PENDING")
    assert (run["uniqueKey"], run["queueEntry"]) == ("k", None)
    assert await count_runs(client) == 1


async def test_other_task_keys_and_other_unique_keys_are_not_affected(client: Client) -> None:
    results = [
        await create(client),
        await create(client, taskKey="T"),
        await create(client, uniqueKey="K"),
        await create(client, uniqueKey=""),
        await create(client, uniqueKey=None),
        await create(client, uniqueKey=None),
    ]

    assert [created for _, created in results] == [True] * 6
    assert await count_runs(client) == 6


@pytest.mark.parametrize("type", TERMINAL)
async def test_a_run_that_ends_frees_its_key(client: Client, type: str) -> None:
    first, _ = await create(client)
    await set_task_run_state(client, first, type, force=True)

    second, created = await create(client)

    assert created is True
    assert second != first
    assert (await client.execute("GetTaskRun", id=first))["uniqueKey"] == "k"


async def test_a_run_that_is_created_in_a_terminal_state_holds_no_key(client: Client) -> None:
    _, first = await create(client, state={"type": "COMPLETED"})
    _, second = await create(client)

    assert (first, second) == (True, True)


async def test_a_run_that_awaits_a_retry_keeps_its_key(client: Client) -> None:
    id, _ = await create(client, retryPolicy={"retries": 1})
    await set_task_run_state(client, id, "RUNNING")
    await set_task_run_state(client, id, "FAILED")

    assert (await client.execute("GetTaskRun", id=id))["stateName"] == "AwaitingRetry"
    assert await create(client) == (id, False)


async def test_deleting_a_run_frees_its_key(client: Client) -> None:
    first, _ = await create(client)
    await client.execute("DeleteTaskRun", id=first)

    second, created = await create(client)

    assert (created, second != first) == (True, True)


async def test_background_runs_and_runs_of_flow_runs_share_unique_keys(client: Client) -> None:
    flow_runs = [await create_flow_run(client, "RUNNING") for _ in range(2)]
    in_flow_run, _ = await create(client, flowRunId=flow_runs[0])

    assert await create(client, flowRunId=flow_runs[1]) == (in_flow_run, False)
    assert await create(client) == (in_flow_run, False)


async def test_a_dynamic_key_returns_its_run_even_while_another_run_holds_the_unique_key(client: Client) -> None:
    first, _ = await create(client, dynamicKey="1")
    await set_task_run_state(client, first, "COMPLETED", force=True)
    second, _ = await create(client, dynamicKey="2")

    assert await create(client, dynamicKey="1") == (first, False)
    assert await create(client, dynamicKey="3") == (second, False)
    assert await count_runs(client) == 2


async def test_the_second_run_of_a_batch_with_the_same_key_returns_the_first(client: Client) -> None:
    input = {"taskKey": "t", "uniqueKey": "k"}

    results = (await client.execute("CreateTaskRuns", inputs=[input, {**input, "uniqueKey": "other"}, input]))[
        "results"
    ]

    assert [each["created"] for each in results] == [True, True, False]
    assert results[2]["taskRun"]["id"] == results[0]["taskRun"]["id"]
    assert await count_runs(client) == 2


async def test_concurrent_requests_create_one_run(client: Client) -> None:
    results = await asyncio.gather(*(create(client) for _ in range(20)))

    assert sorted(created for _, created in results) == [False] * 19 + [True]
    assert len({id for id, _ in results}) == 1


@pytest.mark.parametrize("force", [True, False])
async def test_a_run_cannot_start_again_while_another_run_holds_its_key(client: Client, force: bool) -> None:
    first, _ = await create(client)
    await set_task_run_state(client, first, "FAILED", force=True)
    second, _ = await create(client)
    before = await client.execute("GetTaskRun", id=first)

    result = await set_task_run_state(client, first, "SCHEDULED", force=force)

    assert (result["status"], result["stateCreated"]) == ("REJECT", False)
    assert result["reason"] == (
        f"The task run {second} has the same unique key and has not ended. This run cannot start again before it ends."
    )
    assert await client.execute("GetTaskRun", id=first) == before


async def test_a_run_may_start_again_when_the_other_run_has_ended(client: Client) -> None:
    first, _ = await create(client)
    await set_task_run_state(client, first, "FAILED", force=True)
    second, _ = await create(client)
    await set_task_run_state(client, second, "FAILED", force=True)

    result = await set_task_run_state(client, first, "SCHEDULED")

    assert result["status"] == "ACCEPT"
    assert await create(client) == (first, False)


async def test_each_change_of_a_batch_sees_the_keys_after_the_changes_before_it(client: Client) -> None:
    ids = [(await create(client, state={"type": "FAILED"}))[0] for _ in range(3)]
    holder, _ = await create(client)
    changes = [(ids[0], "SCHEDULED"), (holder, "COMPLETED"), (ids[1], "SCHEDULED"), (ids[2], "SCHEDULED")]

    results = await client.execute(
        "SetTaskRunStates", inputs=[{"taskRunId": id, "state": {"type": type}} for id, type in changes]
    )

    assert [each["result"]["status"] for each in results["results"]] == ["REJECT", "ACCEPT", "ACCEPT", "REJECT"]
    assert await create(client) == (ids[1], False)


@SQLITE_ONLY
async def test_a_key_is_at_most_1000_bytes(client: Client) -> None:
    error = await client.execute_refused("CreateTaskRun", input={"taskKey": "t", "uniqueKey": "é" * 501})

    argument = "input.uniqueKey"
    message = f"{argument}: must have at most 1,000 bytes; got 1,002."
    assert error == {"message": message, "code": "BAD_USER_INPUT", "argument": argument}
    assert (await create(client, uniqueKey="é" * 500))[1] is True


async def test_an_unknown_flow_run_is_not_found_while_a_run_holds_the_key(client: Client) -> None:
    await create_task_run(client, uniqueKey="k")

    error = await client.execute_refused(
        "CreateTaskRun",
        input={"taskKey": "t", "uniqueKey": "k", "flowRunId": "01a206b2-304f-7000-b2ee-99ddb7de4877"},
    )

    assert (error["code"], error["argument"]) == ("NOT_FOUND", "input.flowRunId")

"""Concurrency limits by tag: create, read, list, reset, delete. The rule take_concurrency_slots applies them to runs."""

from typing import Any

import pytest

from tests.builders.api_runs import create_task_run, read_slot_holders
from tests.builders.ids import UNKNOWN_ID
from tests.client import Client
from tests.serving import RunningServer

NOW = "2030-01-01T12:00:00.000000Z"


async def create_limit(client: Client, tag: str, allowed: int) -> dict[str, Any]:
    return await client.execute("CreateConcurrencyLimit", tag=tag, limit=allowed)


@pytest.mark.parametrize("allowed", [5, 0, -1])
async def test_a_limit_is_created_with_free_slots(client: Client, allowed: int) -> None:
    created = await create_limit(client, "x", allowed)

    assert created == {
        "id": created["id"],
        "created": NOW,
        "updated": NOW,
        "tag": "x",
        "limit": allowed,
        "activeSlots": [],
    }
    assert await client.execute("GetConcurrencyLimit", tag="x") == created


async def test_creating_a_limit_again_updates_it_and_keeps_its_slots(server: RunningServer) -> None:
    client = server.client
    first = await create_limit(client, "x", 2)
    ids = sorted(
        [await create_task_run(client, "RUNNING", tags=["x"]), await create_task_run(client, "RUNNING", tags=["x"])]
    )
    server.clock.advance(5)

    second = await create_limit(client, "x", 1)

    assert second == {**first, "updated": "2030-01-01T12:00:05.000000Z", "limit": 1, "activeSlots": ids}
    assert await client.execute("ListConcurrencyLimits") == [second]


async def test_a_lowered_limit_keeps_its_holders_and_admits_no_further_runs(client: Client) -> None:
    await create_limit(client, "x", 1)
    await create_task_run(client, "RUNNING", tags=["x"])
    waiting = await create_task_run(client, "PENDING", tags=["x"])

    await create_limit(client, "x", 0)

    result = await client.execute("SetTaskRunState", id=waiting, state={"type": "RUNNING"})
    assert (result["status"], result["created"], len(await read_slot_holders(client, "x"))) == ("ABORT", False, 1)


async def test_a_raised_limit_admits_further_runs(client: Client) -> None:
    await create_limit(client, "x", 1)
    first, second = (
        await create_task_run(client, "RUNNING", tags=["x"]),
        await create_task_run(client, "PENDING", tags=["x"]),
    )

    await create_limit(client, "x", 2)

    result = await client.execute("SetTaskRunState", id=second, state={"type": "RUNNING"})
    assert result["status"] == "ACCEPT"
    assert await read_slot_holders(client, "x") == sorted([first, second])


@pytest.mark.parametrize("tag", ["", " ", "a/b", "ünïcödé ✓", "x" * 1000])
async def test_a_limit_may_be_on_any_tag(client: Client, tag: str) -> None:
    created = await create_limit(client, tag, 1)

    assert (created["tag"], await client.execute("GetConcurrencyLimit", tag=tag)) == (tag, created)


async def test_a_tag_with_a_nul_is_refused_and_nothing_is_created(client: Client) -> None:
    error = await client.execute_refused("CreateConcurrencyLimit", tag="a\0b", limit=1)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "tag")
    assert await client.execute("ListConcurrencyLimits") == []


async def test_the_limit_of_an_unlimited_tag_is_null(client: Client) -> None:
    await create_limit(client, "Red", 1)

    assert await client.execute("GetConcurrencyLimit", tag="red") is None


async def test_limits_are_listed_in_tag_order_with_their_own_slots(client: Client) -> None:
    for tag in ("b", "B", "a", "c"):
        await create_limit(client, tag, 1)
    id = await create_task_run(client, "RUNNING", tags=["a", "c"])

    listed = await client.execute("ListConcurrencyLimits")

    assert [(each["tag"], each["activeSlots"]) for each in listed] == [("B", []), ("a", [id]), ("b", []), ("c", [id])]


async def test_without_limits_the_list_is_empty(client: Client) -> None:
    assert await client.execute("ListConcurrencyLimits") == []


async def test_a_reset_frees_every_slot_of_its_tag_only(client: Client) -> None:
    first, other = await create_limit(client, "x", 2), await create_limit(client, "y", 1)
    id = await create_task_run(client, "RUNNING", tags=["x", "y"])

    reset = await client.execute("ResetConcurrencyLimit", tag="x")

    assert reset == {**first, "activeSlots": []}
    assert await client.execute("GetConcurrencyLimit", tag="y") == {**other, "activeSlots": [id]}
    assert (await client.execute("GetTaskRunState", id=id))["stateType"] == "RUNNING"


async def test_a_reset_assigns_the_slots_to_the_named_runs_only(client: Client) -> None:
    await create_limit(client, "x", 1)
    await create_task_run(client, "RUNNING", tags=["x"])
    named = [await create_task_run(client, "PENDING") for _ in range(2)]

    reset = await client.execute("ResetConcurrencyLimit", tag="x", activeSlots=[*reversed(named), named[0]])

    assert reset["activeSlots"] == sorted(named)
    assert await read_slot_holders(client, "x") == sorted(named)
    refused = await client.execute(
        "SetTaskRunState", id=await create_task_run(client, "PENDING", tags=["x"]), state={"type": "RUNNING"}
    )
    assert refused["status"] == "WAIT"


async def test_a_run_that_lost_its_slot_to_a_reset_may_complete(client: Client) -> None:
    await create_limit(client, "x", 1)
    id = await create_task_run(client, "RUNNING", tags=["x"])
    await client.execute("ResetConcurrencyLimit", tag="x")

    result = await client.execute("SetTaskRunState", id=id, state={"type": "COMPLETED"})

    assert (result["status"], await read_slot_holders(client, "x")) == ("ACCEPT", [])


async def test_resetting_a_tag_without_a_limit_is_not_found_and_creates_none(client: Client) -> None:
    error = await client.execute_refused(
        "ResetConcurrencyLimit", tag="x", activeSlots=[await create_task_run(client, "RUNNING")]
    )

    assert error == {"message": "No concurrency limit has the tag x.", "code": "NOT_FOUND"}
    assert await client.execute("ListConcurrencyLimits") == []


@pytest.mark.parametrize(
    ("wrong", "code", "argument"),
    [(UNKNOWN_ID, "CONFLICT", "activeSlots"), ("nonsense", "BAD_USER_INPUT", "activeSlots.1")],
)
async def test_a_reset_to_an_unknown_run_is_refused_and_frees_nothing(
    client: Client, wrong: str, code: str, argument: str
) -> None:
    await create_limit(client, "x", 2)
    holder, named = await create_task_run(client, "RUNNING", tags=["x"]), await create_task_run(client, "RUNNING")

    error = await client.execute_refused("ResetConcurrencyLimit", tag="x", activeSlots=[named, wrong])

    assert (error["code"], error["argument"]) == (code, argument)
    assert await read_slot_holders(client, "x") == [holder]


async def test_a_deleted_limit_no_longer_exists_or_limits_its_tag(client: Client) -> None:
    first, other = await create_limit(client, "x", 1), await create_limit(client, "y", 1)
    await create_task_run(client, "RUNNING", tags=["x"])

    deleted = await client.execute("DeleteConcurrencyLimit", tag="x")

    assert deleted == first["id"]
    assert await client.execute("GetConcurrencyLimit", tag="x") is None
    assert await client.execute("ListConcurrencyLimits") == [other]
    await create_task_run(client, "RUNNING", tags=["x"])


async def test_a_recreated_limit_has_no_slots_of_the_old_one(client: Client) -> None:
    first = await create_limit(client, "x", 1)
    await create_task_run(client, "RUNNING", tags=["x"])
    await client.execute("DeleteConcurrencyLimit", tag="x")

    second = await create_limit(client, "x", 1)

    assert second["id"] != first["id"]
    assert second["activeSlots"] == []


async def test_deleting_it_again_is_not_found(client: Client) -> None:
    await create_limit(client, "x", 1)
    other = await create_limit(client, "y", 1)
    await client.execute("DeleteConcurrencyLimit", tag="x")

    error = await client.execute_refused("DeleteConcurrencyLimit", tag="x")

    assert error == {"message": "No concurrency limit has the tag x.", "code": "NOT_FOUND"}
    assert await client.execute("ListConcurrencyLimits") == [other]


async def test_one_of_ten_concurrent_deletes_succeeds(client: Client) -> None:
    created = await create_limit(client, "x", 1)

    async with client.socket() as socket:
        # While the first write is in progress, the deletes are batched into one transaction.
        await socket.subscribe("CreateTaskRun", input={"taskKey": "t"})
        deletes = [await socket.subscribe("DeleteConcurrencyLimit", tag="x") for _ in range(10)]
        messages = [await socket.receive() for _ in range(22)]

    results = [each["payload"] for each in messages if each["id"] in deletes and each["type"] == "next"]
    assert [result["data"] for result in results].count({"deleteConcurrencyLimit": created["id"]}) == 1
    assert [each["errors"][0]["extensions"]["code"] for each in results if "errors" in each] == ["NOT_FOUND"] * 9

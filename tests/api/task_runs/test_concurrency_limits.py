"""Concurrency limits by tag: create, read, list, reset, delete. What they do to runs: take_concurrency_slots."""

from typing import Any

import pytest

from tests.client import Client
from tests.serving import Serving

NOW = "2030-01-01T12:00:00.000000Z"
NOWHERE = "01a206b2-304f-7000-b2ee-99ddb7de4877"


async def limit(client: Client, tag: str, allowed: int) -> dict[str, Any]:
    return await client.ask("CreateConcurrencyLimit", tag=tag, limit=allowed)


async def run(client: Client, *tags: str, state: str = "RUNNING") -> str:
    payload = await client.ask("CreateTaskRun", input={"taskKey": "t", "tags": list(tags), "state": {"type": state}})
    return payload["taskRun"]["id"]


async def holders(client: Client, tag: str) -> list[str]:
    return (await client.ask("GetConcurrencyLimit", tag=tag))["activeSlots"]


# --- create ---


@pytest.mark.parametrize("allowed", [5, 0, -1])
async def test_a_limit_is_created_with_free_slots(client: Client, allowed: int) -> None:
    created = await limit(client, "x", allowed)

    assert created == {
        "id": created["id"],
        "created": NOW,
        "updated": NOW,
        "tag": "x",
        "limit": allowed,
        "activeSlots": [],
    }
    assert await client.ask("GetConcurrencyLimit", tag="x") == created


async def test_creating_the_limit_of_a_tag_again_changes_it_and_keeps_its_slots(server: Serving) -> None:
    client = server.client
    first = await limit(client, "x", 2)
    ids = sorted([await run(client, "x"), await run(client, "x")])
    server.clock.advance(5)

    second = await limit(client, "x", 1)

    assert second == {**first, "updated": "2030-01-01T12:00:05.000000Z", "limit": 1, "activeSlots": ids}
    assert await client.ask("ListConcurrencyLimits") == [second]


async def test_a_lower_limit_lets_the_holders_go_on_and_nobody_else_begin(client: Client) -> None:
    await limit(client, "x", 1)
    await run(client, "x")
    waiting = await run(client, "x", state="PENDING")

    await limit(client, "x", 0)

    answer = await client.ask("SetTaskRunState", id=waiting, state={"type": "RUNNING"})
    assert (answer["status"], answer["created"], len(await holders(client, "x"))) == ("ABORT", False, 1)


async def test_a_higher_limit_lets_others_begin(client: Client) -> None:
    await limit(client, "x", 1)
    first, second = await run(client, "x"), await run(client, "x", state="PENDING")

    await limit(client, "x", 2)

    answer = await client.ask("SetTaskRunState", id=second, state={"type": "RUNNING"})
    assert answer["status"] == "ACCEPT"
    assert await holders(client, "x") == sorted([first, second])


@pytest.mark.parametrize("tag", ["", " ", "a/b", "ünïcödé ✓", "x" * 1000])
async def test_a_limit_may_be_on_any_tag(client: Client, tag: str) -> None:
    created = await limit(client, tag, 1)

    assert (created["tag"], await client.ask("GetConcurrencyLimit", tag=tag)) == (tag, created)


async def test_a_tag_with_a_zero_character_is_refused_and_nothing_is_made(client: Client) -> None:
    error = await client.refused("CreateConcurrencyLimit", tag="a\0b", limit=1)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "tag")
    assert await client.ask("ListConcurrencyLimits") == []


# --- read and list ---


async def test_the_limit_of_a_tag_that_has_none_is_null(client: Client) -> None:
    await limit(client, "Red", 1)

    assert await client.ask("GetConcurrencyLimit", tag="red") is None


async def test_limits_are_listed_in_the_order_of_their_tags_each_with_its_own_slots(client: Client) -> None:
    for tag in ("b", "B", "a", "c"):
        await limit(client, tag, 1)
    id = await run(client, "a", "c")

    listed = await client.ask("ListConcurrencyLimits")

    assert [(each["tag"], each["activeSlots"]) for each in listed] == [("B", []), ("a", [id]), ("b", []), ("c", [id])]


async def test_without_limits_the_list_is_empty(client: Client) -> None:
    assert await client.ask("ListConcurrencyLimits") == []


# --- reset ---


async def test_a_reset_frees_every_slot_of_its_tag_and_of_no_other(client: Client) -> None:
    first, other = await limit(client, "x", 2), await limit(client, "y", 1)
    id = await run(client, "x", "y")

    reset = await client.ask("ResetConcurrencyLimit", tag="x")

    assert reset == {**first, "activeSlots": []}
    assert await client.ask("GetConcurrencyLimit", tag="y") == {**other, "activeSlots": [id]}
    assert (await client.ask("GetTaskRunState", id=id))["stateType"] == "RUNNING"


async def test_a_reset_gives_the_slots_to_the_named_runs_alone(client: Client) -> None:
    await limit(client, "x", 1)
    await run(client, "x")
    named = [await run(client, state="PENDING") for _ in range(2)]

    reset = await client.ask("ResetConcurrencyLimit", tag="x", activeSlots=[*reversed(named), named[0]])

    assert reset["activeSlots"] == sorted(named)
    assert await holders(client, "x") == sorted(named)
    refused = await client.ask("SetTaskRunState", id=await run(client, "x", state="PENDING"), state={"type": "RUNNING"})
    assert refused["status"] == "WAIT"


async def test_a_run_that_lost_its_slot_to_a_reset_may_end_as_ever(client: Client) -> None:
    await limit(client, "x", 1)
    id = await run(client, "x")
    await client.ask("ResetConcurrencyLimit", tag="x")

    answer = await client.ask("SetTaskRunState", id=id, state={"type": "COMPLETED"})

    assert (answer["status"], await holders(client, "x")) == ("ACCEPT", [])


async def test_a_reset_of_a_tag_without_a_limit_is_not_found_and_makes_none(client: Client) -> None:
    error = await client.refused("ResetConcurrencyLimit", tag="x", activeSlots=[await run(client)])

    assert error == {"message": "No concurrency limit has the tag x.", "code": "NOT_FOUND"}
    assert await client.ask("ListConcurrencyLimits") == []


@pytest.mark.parametrize(
    ("wrong", "code", "argument"),
    [(NOWHERE, "CONFLICT", "activeSlots"), ("nonsense", "BAD_USER_INPUT", "activeSlots.1")],
)
async def test_a_reset_to_what_is_no_run_is_refused_and_frees_nothing(
    client: Client, wrong: str, code: str, argument: str
) -> None:
    await limit(client, "x", 2)
    holder, named = await run(client, "x"), await run(client)

    error = await client.refused("ResetConcurrencyLimit", tag="x", activeSlots=[named, wrong])

    assert (error["code"], error["argument"]) == (code, argument)
    assert await holders(client, "x") == [holder]


# --- delete ---


async def test_a_deleted_limit_is_gone_with_its_slots_and_its_tag_is_not_limited(client: Client) -> None:
    first, other = await limit(client, "x", 1), await limit(client, "y", 1)
    await run(client, "x")

    deleted = await client.ask("DeleteConcurrencyLimit", tag="x")

    assert deleted == first["id"]
    assert await client.ask("GetConcurrencyLimit", tag="x") is None
    assert await client.ask("ListConcurrencyLimits") == [other]
    await run(client, "x")


async def test_a_limit_that_is_made_anew_has_no_slots_of_the_old_one(client: Client) -> None:
    first = await limit(client, "x", 1)
    await run(client, "x")
    await client.ask("DeleteConcurrencyLimit", tag="x")

    second = await limit(client, "x", 1)

    assert second["id"] != first["id"]
    assert second["activeSlots"] == []


async def test_the_second_time_it_is_not_found(client: Client) -> None:
    await limit(client, "x", 1)
    other = await limit(client, "y", 1)
    await client.ask("DeleteConcurrencyLimit", tag="x")

    error = await client.refused("DeleteConcurrencyLimit", tag="x")

    assert error == {"message": "No concurrency limit has the tag x.", "code": "NOT_FOUND"}
    assert await client.ask("ListConcurrencyLimits") == [other]


async def test_of_ten_concurrent_deletes_one_finds_it(client: Client) -> None:
    created = await limit(client, "x", 1)

    async with client.socket() as socket:
        # While the first write is under way, the deletes gather for one transaction.
        await socket.subscribe("CreateTaskRun", input={"taskKey": "t"})
        deletes = [await socket.subscribe("DeleteConcurrencyLimit", tag="x") for _ in range(10)]
        messages = [await socket.receive() for _ in range(22)]

    answers = [each["payload"] for each in messages if each["id"] in deletes and each["type"] == "next"]
    assert [answer["data"] for answer in answers].count({"deleteConcurrencyLimit": created["id"]}) == 1
    assert [each["errors"][0]["extensions"]["code"] for each in answers if "errors" in each] == ["NOT_FOUND"] * 9

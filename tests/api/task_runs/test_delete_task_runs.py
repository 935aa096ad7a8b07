"""deleteTaskRuns: the task runs that a filter lets through, a thousand at a time."""

from typing import Any

import pytest

from tests.client import Client

ALL = {"id": {"isNull": False}}


async def create_runs(client: Client) -> None:
    """Runs a to e, created in this order; a, c and e are tagged."""
    for name in "abcde":
        tags = ["old"] if name in "ace" else []
        await client.ask("CreateTaskRun", input={"name": name, "taskKey": "t", "tags": tags})


async def left(client: Client) -> str:
    page = await client.ask("ListTaskRuns", sort="NAME_ASC")
    return "".join(run["name"] for run in page["nodes"])


async def test_what_the_filter_lets_through_is_deleted(client: Client) -> None:
    await create_runs(client)

    payload = await client.ask("DeleteTaskRuns", filter={"tags": {"all": ["old"]}})

    assert payload == {"count": 3, "hasMore": False}
    assert await left(client) == "bd"


async def test_a_limit_deletes_the_oldest_and_tells_of_the_rest(client: Client) -> None:
    await create_runs(client)
    filter = {"tags": {"all": ["old"]}}

    assert await client.ask("DeleteTaskRuns", filter=filter, limit=2) == {"count": 2, "hasMore": True}
    assert await left(client) == "bde"
    assert await client.ask("DeleteTaskRuns", filter=filter, limit=2) == {"count": 1, "hasMore": False}
    assert await client.ask("DeleteTaskRuns", filter=filter, limit=2) == {"count": 0, "hasMore": False}
    assert await left(client) == "bd"


async def test_a_dry_run_deletes_nothing(client: Client) -> None:
    await create_runs(client)

    payload = await client.ask("DeleteTaskRuns", filter={"tags": {"all": ["old"]}}, limit=2, dryRun=True)

    assert payload == {"count": 2, "hasMore": True}
    assert await left(client) == "abcde"


@pytest.mark.parametrize(
    "filter",
    [
        {},
        {"id": None},
        {"id": {}, "tags": {}, "state": {"name": {}}},
        {"id": {"notAny": []}, "tags": {"all": []}},
        {"and": [{}], "or": []},
        {"or": [{"name": {"any": ["a"]}}, {}]},
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_filter_without_a_condition_is_refused(client: Client, filter: dict[str, Any], dry_run: bool) -> None:
    await create_runs(client)

    error = await client.refused("DeleteTaskRuns", filter=filter, dryRun=dry_run)

    assert error == {
        "message": "filter: has no condition. To delete all task runs, say so: {id: {isNull: false}}.",
        "code": "BAD_USER_INPUT",
        "argument": "filter",
    }
    assert await left(client) == "abcde"


async def test_all_runs_are_deleted_where_that_is_said(client: Client) -> None:
    await create_runs(client)

    assert await client.ask("DeleteTaskRuns", filter=ALL) == {"count": 5, "hasMore": False}
    assert await left(client) == ""


@pytest.mark.parametrize("limit", [0, 1001, -1])
async def test_a_limit_out_of_bounds_is_refused(client: Client, limit: int) -> None:
    await create_runs(client)

    error = await client.refused("DeleteTaskRuns", filter=ALL, limit=limit)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "limit")
    assert await left(client) == "abcde"


async def test_slots_and_leases_go_with_the_runs(client: Client) -> None:
    await client.ask("CreateConcurrencyLimit", tag="one", limit=1)
    run = {"taskKey": "t", "tags": ["one"], "state": {"type": "SCHEDULED"}}
    await client.ask("CreateTaskRun", input=run)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1)
        (delivery,) = await socket.deliveries(1)
        id, lease = delivery["taskRun"]["id"], delivery["leaseId"]
        await client.ask("SetTaskRunState", id=id, state={"type": "RUNNING"}, leaseId=lease)
        assert (await client.ask("GetConcurrencyLimit", tag="one"))["activeSlots"] == [id]

        await client.ask("DeleteTaskRuns", filter={"state": {"type": {"any": ["RUNNING"]}}})

        assert (await client.ask("GetConcurrencyLimit", tag="one"))["activeSlots"] == []
        (result,) = await client.ask("RenewTaskRunLeases", leaseIds=[lease])
        assert result["status"] == "LOST"
        await client.ask("CreateTaskRun", input={**run, "name": "next"})
        assert [each["taskRun"]["name"] for each in await socket.deliveries(1)] == ["next"]

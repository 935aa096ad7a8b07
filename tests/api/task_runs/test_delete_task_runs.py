"""deleteTaskRuns: deletes the task runs that match a filter, up to 1,000 at a time."""

from typing import Any

import pytest

from tests.builders.api_runs import read_slot_holders
from tests.client import Client

ALL = {"id": {"isNull": False}}


async def create_runs(client: Client) -> None:
    """Create the runs a to e, in this order; a, c and e are tagged."""
    for name in "abcde":
        tags = ["old"] if name in "ace" else []
        await client.execute("CreateTaskRun", input={"name": name, "taskKey": "t", "tags": tags})


async def remaining_names(client: Client) -> str:
    page = await client.execute("ListTaskRuns", sort="NAME_ASC")
    return "".join(run["name"] for run in page["nodes"])


async def test_matching_runs_are_deleted(client: Client) -> None:
    await create_runs(client)

    payload = await client.execute("DeleteTaskRuns", filter={"tags": {"all": ["old"]}})

    assert payload == {"matched": 3, "deleted": 3, "hasMore": False}
    assert await remaining_names(client) == "bd"


async def test_a_limit_deletes_the_oldest_and_reports_whether_more_match(client: Client) -> None:
    await create_runs(client)
    filter = {"tags": {"all": ["old"]}}

    assert await client.execute("DeleteTaskRuns", filter=filter, limit=2) == {
        "matched": 2,
        "deleted": 2,
        "hasMore": True,
    }
    assert await remaining_names(client) == "bde"
    assert await client.execute("DeleteTaskRuns", filter=filter, limit=2) == {
        "matched": 1,
        "deleted": 1,
        "hasMore": False,
    }
    assert await client.execute("DeleteTaskRuns", filter=filter, limit=2) == {
        "matched": 0,
        "deleted": 0,
        "hasMore": False,
    }
    assert await remaining_names(client) == "bd"


async def test_a_dry_run_deletes_nothing(client: Client) -> None:
    await create_runs(client)

    payload = await client.execute("DeleteTaskRuns", filter={"tags": {"all": ["old"]}}, limit=2, dryRun=True)

    assert payload == {"matched": 2, "deleted": 0, "hasMore": True}
    assert await remaining_names(client) == "abcde"


@pytest.mark.parametrize(
    "filter",
    [
        {},
        {"id": None},
        {"id": {}, "tags": {}, "state": {"name": {}}},
        {"id": {"notIn": []}, "tags": {"all": []}},
        {"and": [{}], "or": []},
        {"or": [{"name": {"in": ["a"]}}, {}]},
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_filter_without_a_condition_is_refused(client: Client, filter: dict[str, Any], dry_run: bool) -> None:
    await create_runs(client)

    error = await client.execute_refused("DeleteTaskRuns", filter=filter, dryRun=dry_run)

    assert error == {
        "message": "filter: must have at least one condition. To delete all task runs, use {id: {isNull: false}}.",
        "code": "BAD_USER_INPUT",
        "argument": "filter",
    }
    assert await remaining_names(client) == "abcde"


async def test_a_filter_that_matches_every_run_deletes_all_runs(client: Client) -> None:
    await create_runs(client)

    assert await client.execute("DeleteTaskRuns", filter=ALL) == {"matched": 5, "deleted": 5, "hasMore": False}
    assert await remaining_names(client) == ""


@pytest.mark.parametrize("limit", [0, 1001, -1])
async def test_a_limit_out_of_range_is_refused(client: Client, limit: int) -> None:
    await create_runs(client)

    error = await client.execute_refused("DeleteTaskRuns", filter=ALL, limit=limit)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "limit")
    assert await remaining_names(client) == "abcde"


async def test_slots_and_leases_are_deleted_with_the_runs(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="one", limit=1)
    run = {"taskKey": "t", "tags": ["one"], "state": {"type": "SCHEDULED"}}
    await client.execute("CreateTaskRun", input=run)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1)
        (delivery,) = await socket.deliveries(1)
        id, lease = delivery["taskRun"]["id"], delivery["leaseId"]
        await client.execute("SetTaskRunState", id=id, state={"type": "RUNNING"}, leaseId=lease)
        assert await read_slot_holders(client, "one") == [id]

        await client.execute("DeleteTaskRuns", filter={"state": {"type": {"in": ["RUNNING"]}}})

        assert await read_slot_holders(client, "one") == []
        (result,) = (await client.execute("RenewTaskRunLeases", leaseIds=[lease]))["leases"]
        assert result["status"] == "LOST"
        await client.execute("CreateTaskRun", input={**run, "name": "next"})
        assert [each["taskRun"]["name"] for each in await socket.deliveries(1)] == ["next"]

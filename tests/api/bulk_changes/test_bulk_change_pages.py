"""Bulk changes examine the matching runs a page at a time, oldest first, and validate their arguments."""

import asyncio
from typing import Any

import pytest

from tests.builders.api_runs import create_task_run, create_task_runs, set_task_run_state
from tests.builders.bulk_changes import ALL, change_all_pages, change_runs, changed, read_states
from tests.builders.queued_runs import create_many, create_scheduled, run_under_lease
from tests.client import TIMEOUT_SECONDS, Client
from tests.postgresql import database_connection
from tests.serving import POSTGRESQL_ONLY

OPERATIONS: dict[str, dict[str, Any]] = {
    "CancelTaskRuns": {},
    "RetryTaskRuns": {},
    "RescheduleTaskRuns": {"scheduledTime": "2030-01-01T13:00:00Z"},
    "CancelFlowRuns": {},
}


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def sizes(payloads: list[dict[str, Any]]) -> list[tuple[int, int, bool]]:
    return [(each["matched"], each["changed"], each["hasMore"]) for each in payloads]


async def test_each_of_2_500_runs_is_examined_once(client: Client) -> None:
    for size in (1000, 1000, 500):
        await create_task_runs(client, size, "SCHEDULED")

    assert sizes(await change_all_pages(client, "CancelTaskRuns", filter=ALL)) == [
        (1000, 1000, True),
        (1000, 1000, True),
        (500, 500, False),
    ]
    assert await client.execute("CountTaskRuns", filter={"state": {"type": {"in": ["CANCELLED"]}}}) == 2500
    assert sizes(await change_all_pages(client, "RetryTaskRuns", filter=ALL, limit=700)) == [
        (700, 700, True),
        (700, 700, True),
        (700, 700, True),
        (400, 400, False),
    ]
    assert await client.execute("CountTaskRuns", filter={"state": {"type": {"in": ["SCHEDULED"]}}}) == 2500


async def test_the_oldest_runs_are_changed_first(client: Client) -> None:
    ids = await create_many(client, 3)

    payload = await client.execute("CancelTaskRuns", filter=ALL, limit=2)

    assert (payload["matched"], payload["hasMore"]) == (2, True)
    assert await read_states(client, ids) == ["CANCELLED", "CANCELLED", "SCHEDULED"]


async def test_rejected_runs_are_not_examined_again(client: Client) -> None:
    await create_scheduled(client)
    held, _ = await run_under_lease(client, "RUNNING")
    await set_task_run_state(client, held, "CANCELLING")
    other = await create_scheduled(client)

    first, second = await change_all_pages(client, "CancelTaskRuns", filter=ALL, limit=1)

    assert [each["taskRunId"] for each in first["rejections"]] == [held]
    assert (second["matched"], second["changed"]) == (1, 1)
    assert await read_states(client, [held, other]) == ["CANCELLING", "CANCELLED"]


async def test_there_is_no_more_when_only_ended_runs_follow(client: Client) -> None:
    ids = await create_many(client, 2)
    await set_task_run_state(client, ids[1], "COMPLETED")

    assert await change_runs(client, "CancelTaskRuns", limit=1) == changed(1, has_more=False)


async def test_runs_before_the_cursor_are_not_examined(client: Client) -> None:
    first = await create_scheduled(client)
    cursor = (await client.execute("CancelTaskRuns", filter=ALL))["endCursor"]
    await set_task_run_state(client, first, "SCHEDULED")
    second = await create_scheduled(client)

    payload = await client.execute("CancelTaskRuns", filter=ALL, after=cursor)

    assert payload["matched"] == 1
    assert await read_states(client, [first, second]) == ["SCHEDULED", "CANCELLED"]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("filter", [{}, {"id": None}, {"or": [{"name": {"in": ["a"]}}, {}]}])
async def test_a_filter_without_a_condition_is_refused(
    client: Client, operation: str, dry_run: bool, filter: dict[str, Any]
) -> None:
    id = await create_scheduled(client)

    error = await client.execute_refused(operation, filter=filter, dryRun=dry_run, **OPERATIONS[operation])

    assert error == {
        "message": "filter: must have at least one condition. {id: {isNull: false}} matches every run.",
        "code": "BAD_USER_INPUT",
        "argument": "filter",
    }
    assert await read_states(client, [id]) == ["SCHEDULED"]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("limit", [0, 1001, -1])
async def test_a_limit_out_of_range_is_refused(client: Client, operation: str, limit: int) -> None:
    error = await client.execute_refused(operation, filter=ALL, limit=limit, **OPERATIONS[operation])

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "limit")


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_only_a_cursor_of_the_same_mutation_is_accepted(client: Client, operation: str) -> None:
    await create_task_run(client, "SCHEDULED")
    cancelled = await client.execute("CancelTaskRuns", filter=ALL, dryRun=True)
    retried = await client.execute("RetryTaskRuns", filter=ALL)
    page = await client.execute("ListTaskRuns")
    assert retried["endCursor"] is None
    name = operation[0].lower() + operation[1:]
    wrong = ["", "x", page["pageInfo"]["endCursor"]]
    wrong += [] if operation == "CancelTaskRuns" else [cancelled["endCursor"]]

    for cursor in wrong:
        error = await client.execute_refused(operation, filter=ALL, after=cursor, **OPERATIONS[operation])
        assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "after"), cursor
        if cursor in ("", "x", cancelled["endCursor"]):
            assert error["message"] == (f"after: is not a cursor of {name}. Use the `endCursor` of its last result.")


@POSTGRESQL_ONLY
async def test_a_bulk_change_waits_for_a_locked_run(client: Client, database_url: str) -> None:
    ids = await create_many(client, 3)
    async with database_connection(database_url) as connection, connection.transaction():
        await connection.execute("SELECT FROM task_run WHERE id = $1 FOR UPDATE", ids[1])
        error = await client.execute_refused("CancelTaskRuns", filter=ALL)
        assert (error["code"], error["retryable"]) == ("UNAVAILABLE", True)
        assert await read_states(client, ids) == ["SCHEDULED"] * 3
        # A dry run locks nothing, and waits for nothing.
        assert (await client.execute("CancelTaskRuns", filter=ALL, dryRun=True))["changed"] == 3

    assert await change_runs(client, "CancelTaskRuns") == changed(3)


@POSTGRESQL_ONLY
async def test_a_run_that_no_longer_matches_after_the_wait_is_not_examined(client: Client, database_url: str) -> None:
    ids = await create_many(client, 3)
    filter = {"name": {"in": ["first"]}}
    async with database_connection(database_url) as connection:
        await connection.execute("UPDATE task_run SET name = 'first'")
        async with connection.transaction():
            await connection.execute("UPDATE task_run SET name = 'other' WHERE id = $1", ids[0])
            request = asyncio.create_task(client.execute("CancelTaskRuns", filter=filter, limit=1))
            async with database_connection(database_url) as observer, asyncio.timeout(TIMEOUT_SECONDS):
                while not await observer.fetchval(WAITING):
                    pass

    payload = await request

    assert (payload["matched"], payload["changed"], payload["hasMore"]) == (1, 1, True)
    assert await read_states(client, ids) == ["SCHEDULED", "CANCELLED", "SCHEDULED"]

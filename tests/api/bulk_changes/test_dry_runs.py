"""Dry runs of bulk changes: they write nothing, and predict exactly what the change does."""

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from tests.builders.api_runs import create_flow_run, create_task_run
from tests.builders.bulk_changes import ALL
from tests.client import Client
from tests.serving import RunningServer, run_server
from tests.tables import read_rows

TABLES = ["task_run", "task_run_state", "flow_run", "flow_run_state", "queue_entry", "concurrency_slot"]
STATES = ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED", "PAUSED"]
CHANGES = {
    "CancelTaskRuns": {"message": "Stop"},
    "RetryTaskRuns": {"delaySeconds": 5},
    "RescheduleTaskRuns": {"scheduledTime": "2030-01-02T00:00:00Z"},
    "CancelFlowRuns": {},
}
SEEDS = range(6)


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server whose queues have room for some of the runs."""
    async with run_server(tmp_path, database_url=database_url, max_scheduled_per_key=12) as running:
        yield running


async def create_population(client: Client, chance: Random) -> None:
    """Create runs in random states: in the background, under leases, with slots and unique keys, and in flow runs."""
    await client.execute("SetConcurrencyLimit", tag="one", limit=1)
    flow_runs = [await create_flow_run(client, state) for state in chance.sample(STATES, 4)]
    for _ in range(24):
        state = chance.choice(STATES)
        fields = {
            "taskKey": chance.choice("ab"),
            "tags": chance.choice([[], ["one"]]),
            "flowRunId": chance.choice([None, None, None, *flow_runs]),
            "uniqueKey": chance.choice([None, None, "x", "y"]),
        }
        id = await create_task_run(client, **fields)
        await client.execute("SetTaskRunState", id=id, state={"type": state}, force=True)
    deliveries = (await client.execute("ClaimTaskRuns", taskKeys=["a", "b"], limit=4))["deliveries"]
    for delivery in deliveries[1:]:
        state = {"type": chance.choice(["RUNNING", "PAUSED", "CANCELLING"])}
        await client.execute("SetTaskRunState", id=delivery["taskRun"]["id"], state=state, leaseId=delivery["leaseId"])


async def count_new_states(database_url: str, operation: str, before: dict[str, list[tuple[object, ...]]]) -> int:
    """Return the number of states that were written for the kind of run that the operation changes."""
    table = "flow_run_state" if operation == "CancelFlowRuns" else "task_run_state"
    return len((await read_rows(database_url, [table]))[table]) - len(before[table])


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_dry_run_writes_nothing_and_predicts_the_result(client: Client, database_url: str, seed: int) -> None:
    chance = Random(seed)  # noqa: S311 - the same population each time
    await create_population(client, chance)

    for operation in chance.sample(sorted(CHANGES), len(CHANGES)):
        arguments = {"filter": ALL, "limit": chance.choice([3, 7, 1000]), **CHANGES[operation]}
        cursor, has_more = None, True
        while has_more:
            before = await read_rows(database_url, TABLES)
            predicted = await client.execute(operation, **arguments, after=cursor, dryRun=True)
            assert await read_rows(database_url, TABLES) == before

            result = await client.execute(operation, **arguments, after=cursor)

            assert result == predicted
            assert await count_new_states(database_url, operation, before) == result["changed"]
            cursor, has_more = result["endCursor"], result["hasMore"]


async def test_a_dry_run_takes_no_capacity_of_the_queue(client: Client) -> None:
    for _ in range(12):
        await create_task_run(client, "CANCELLED")

    for _ in range(3):
        assert (await client.execute("RetryTaskRuns", filter=ALL, dryRun=True))["changed"] == 12

    assert (await client.execute("RetryTaskRuns", filter=ALL))["changed"] == 12

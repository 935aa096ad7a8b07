"""A worker that releases a run that it has started gives it to another worker, and no retry is used up."""

import pytest

from tests.builders.api_runs import read_state_names, set_task_run_state
from tests.builders.queued_runs import create_scheduled, run_under_lease
from tests.client import Client
from tests.serving import RunningServer


async def release(client: Client, lease: str) -> None:
    (result,) = (await client.execute("ReleaseTaskRuns", leaseIds=[lease]))["leases"]
    assert result["status"] == "HELD"


async def run_count(client: Client, id: str) -> int:
    return (await client.execute("GetTaskRun", id=id))["runCount"]


@pytest.mark.parametrize("states", [("RUNNING",), ("PENDING", "RUNNING"), ("RUNNING", "RUNNING", "RUNNING")])
async def test_a_released_run_is_no_try(server: RunningServer, states: tuple[str, ...]) -> None:
    client = server.client
    id = await create_scheduled(client, retryPolicy={"retries": 1})
    counts: list[int] = []
    for _ in range(3):
        _, lease = await run_under_lease(client, *states)
        server.clock.advance(5)
        await release(client, lease)
        counts.append(await run_count(client, id))
    _, lease = await run_under_lease(client, "RUNNING")

    failed = await set_task_run_state(client, id, "FAILED", lease_id=lease)

    assert (counts, failed["state"]["name"], failed["taskRun"]["runCount"]) == ([0, 0, 0], "AwaitingRetry", 1)


async def test_a_released_run_keeps_its_start_and_its_run_time(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client)
    _, lease = await run_under_lease(client, "RUNNING")
    server.clock.advance(5)

    await release(client, lease)

    run = await client.execute("GetTaskRun", id=id)
    assert (run["startTime"], run["totalRunTimeSeconds"]) == ("2030-01-01T12:00:00.000000Z", 5.0)
    assert await read_state_names(client, id) == ["Scheduled", "Running", "AwaitingRedelivery"]


async def test_earlier_tries_still_count_after_a_release(client: Client) -> None:
    id = await create_scheduled(client, retryPolicy={"retries": 5})
    for _ in range(2):
        _, lease = await run_under_lease(client, "RUNNING")
        await set_task_run_state(client, id, "FAILED", lease_id=lease)
    _, lease = await run_under_lease(client, "RUNNING")
    before = await run_count(client, id)

    await release(client, lease)

    assert (before, await run_count(client, id)) == (3, 2)


async def test_a_run_that_a_lost_worker_had_counts_as_a_try(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client, retryPolicy={"retries": 1})
    await run_under_lease(client, "RUNNING")

    server.clock.advance(60)
    await server.sweep()

    assert await run_count(client, id) == 1


async def test_a_released_paused_run_stays_paused_until_it_is_scheduled(client: Client) -> None:
    id = await create_scheduled(client)
    _, lease = await run_under_lease(client, "RUNNING", "PAUSED")

    await release(client, lease)

    run = await client.execute("GetTaskRun", id=id)
    assert (run["stateType"], run["queueEntry"], run["runCount"]) == ("PAUSED", None, 1)
    assert (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"] == []
    await set_task_run_state(client, id, "SCHEDULED")
    assert await run_under_lease(client, "RUNNING") != (id, lease)

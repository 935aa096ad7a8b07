"""Expiry: a run that has not started at `expiresAt` is cancelled and never delivered."""

from typing import Any

import pytest

from tests.builders.api_runs import create_task_run, read_state_names, set_task_run_state
from tests.builders.queued_runs import create_many, create_scheduled, run_ids, run_under_lease
from tests.client import Client
from tests.metrics_page import scrape
from tests.serving import RunningServer

IN_A_MINUTE = "2030-01-01T12:01:00.000000Z"
MESSAGE = f"The task run expired at {IN_A_MINUTE} before it started."


async def claim(client: Client, **arguments: Any) -> list[dict[str, Any]]:
    return (await client.execute("ClaimTaskRuns", taskKeys=["t"], **arguments))["deliveries"]


async def wait_until_ended(client: Client, *ids: str) -> None:
    for id in ids:
        found = await client.execute("EndedTaskRuns", ids=[id], waitSeconds=30)
        assert [run["id"] for run in found["ended"]] == [id]


async def read(client: Client, id: str) -> dict[str, Any]:
    return await client.execute("GetTaskRun", id=id)


async def test_a_waiting_run_is_cancelled_when_it_expires(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client, expiresAt=IN_A_MINUTE)

    server.clock.advance(60)
    await wait_until_ended(client, id)

    run = await read(client, id)
    assert (run["stateType"], run["stateName"], run["states"][-1]["message"]) == ("CANCELLED", "Expired", MESSAGE)
    assert run["queueEntry"] is None
    assert await claim(client) == []


@pytest.mark.parametrize("state", ["PENDING", "PAUSED"])
async def test_a_run_outside_the_queue_expires_too(server: RunningServer, state: str) -> None:
    id = await create_task_run(server.client, state, expiresAt=IN_A_MINUTE)

    server.clock.advance(60)
    await wait_until_ended(server.client, id)

    assert (await read_state_names(server.client, id))[-1] == "Expired"


async def test_a_run_that_has_started_does_not_expire(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client, expiresAt=IN_A_MINUTE)
    _, lease_id = await run_under_lease(client, "RUNNING", lease_seconds=600)
    expiring = await create_scheduled(client, "other", expiresAt=IN_A_MINUTE)

    server.clock.advance(60)
    await wait_until_ended(client, expiring)

    assert await read_state_names(client, id) == ["Scheduled", "Running"]
    result = await set_task_run_state(client, id, "COMPLETED", lease_id=lease_id)
    assert result["status"] == "ACCEPT"


async def test_a_retry_of_a_started_run_does_not_expire(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client, expiresAt=IN_A_MINUTE, retryPolicy={"retries": 1})
    _, lease_id = await run_under_lease(client, "RUNNING")
    await set_task_run_state(client, id, "FAILED", lease_id=lease_id)

    server.clock.advance(120)

    assert run_ids(await claim(client)) == [id]


@pytest.mark.parametrize("start", [False, True])
async def test_a_claim_skips_and_cancels_expired_runs_before_the_sweep(server: RunningServer, start: bool) -> None:
    client = server.client
    server.services.deadline_task.cancel()  # type: ignore[union-attr]
    expiring = [await create_scheduled(client, expiresAt=IN_A_MINUTE, priority=1) for _ in range(150)]
    (kept,) = await create_many(client, 1)
    server.clock.advance(60)

    delivered = await claim(client, limit=2, start=start)

    assert run_ids(delivered) == [kept]
    assert {(await read_state_names(client, id))[-1] for id in expiring} == {"Expired"}
    assert (await scrape(server))["runyard_task_runs_expired_total"] == 150


async def test_a_worker_that_starts_an_expired_run_receives_reject_and_loses_the_lease(server: RunningServer) -> None:
    client = server.client
    server.services.deadline_task.cancel()  # type: ignore[union-attr]
    id = await create_scheduled(client, expiresAt=IN_A_MINUTE)
    _, lease_id = await run_under_lease(client, lease_seconds=600)
    server.clock.advance(60)

    result = await set_task_run_state(client, id, "RUNNING", lease_id=lease_id)

    assert (result["status"], result["reason"], result["stateCreated"]) == ("REJECT", MESSAGE, True)
    assert await read_state_names(client, id) == ["Scheduled", "Expired"]
    (lease,) = (await client.execute("RenewTaskRunLeases", leaseIds=[lease_id]))["leases"]
    assert lease["status"] == "LOST"


async def test_a_lease_on_a_run_that_expires_before_it_starts_is_lost(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client, expiresAt=IN_A_MINUTE)
    _, lease_id = await run_under_lease(client, "PENDING", lease_seconds=600)

    server.clock.advance(60)
    await wait_until_ended(client, id)

    (lease,) = (await client.execute("RenewTaskRunLeases", leaseIds=[lease_id]))["leases"]
    assert lease["status"] == "LOST"


async def test_a_new_expiry_counts_at_once_and_null_removes_it(server: RunningServer) -> None:
    client, clock = server.client, server.clock
    sooner, never = [await create_scheduled(client, expiresAt=IN_A_MINUTE) for _ in range(2)]

    await client.execute("UpdateTaskRun", id=sooner, input={"expiresAt": clock.in_seconds(3)})
    await client.execute("UpdateTaskRun", id=never, input={"expiresAt": None})
    clock.advance(3)
    await wait_until_ended(client, sooner)
    clock.advance(600)

    assert run_ids(await claim(client, limit=2)) == [never]


async def test_an_expired_run_can_be_retried_and_does_not_expire_again(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client, expiresAt=IN_A_MINUTE)
    server.clock.advance(60)
    await wait_until_ended(client, id)

    result = await client.execute("RetryTaskRuns", filter={"id": {"in": [id]}})

    assert result["changed"] == 1
    assert run_ids(await claim(client)) == [id]
    assert (await read(client, id))["expiresAt"] is None


async def test_a_thousand_runs_that_expire_together_are_all_cancelled(server: RunningServer) -> None:
    client = server.client
    input = {"taskKey": "t", "state": {"type": "SCHEDULED"}, "expiresAt": IN_A_MINUTE}
    results = (await client.execute("CreateTaskRuns", inputs=[input] * 1000))["results"]

    server.clock.advance(60)
    await wait_until_ended(client, results[0]["taskRun"]["id"], results[-1]["taskRun"]["id"])

    assert await client.execute("ListTaskQueues") == []
    assert (await scrape(server))["runyard_task_runs_expired_total"] == 1000

"""Time limits: a run that is RUNNING for longer than `timeoutSeconds` under one lease is ended by the server."""

from typing import Any

import pytest

from resolvers.delivery.deadlines import end_timed_out_runs
from tests.builders.api_runs import (
    create_flow_run,
    create_task_run,
    read_slot_holders,
    read_state_names,
    set_task_run_state,
)
from tests.builders.queued_runs import create_scheduled, run_under_lease
from tests.client import Client
from tests.metrics_page import scrape
from tests.serving import RunningServer

MESSAGE = "The task run was RUNNING for longer than its time limit of 60 seconds."


async def create_running(client: Client, *states: str, **fields: Any) -> tuple[str, str]:
    """Create a run with a time limit of a minute that is RUNNING, and return its id and that of its lease."""
    await create_scheduled(client, timeoutSeconds=60, **fields)
    return await run_under_lease(client, "RUNNING", *states, lease_seconds=86_400)


async def wait_until_ended(client: Client, id: str) -> dict[str, Any]:
    """Return the run after its end."""
    found = await client.execute("EndedTaskRuns", ids=[id], waitSeconds=30)
    assert [run["id"] for run in found["ended"]] == [id]
    return await client.execute("GetTaskRun", id=id)


async def wait_for_time_limit_of_another_run(client: Client, id: str) -> None:
    """Wait until a sweep has ended this run, which timed out at the same time as another one or later."""
    assert (await wait_until_ended(client, id))["stateName"] == "TimedOut"


async def lease_status(client: Client, lease_id: str) -> str:
    (lease,) = (await client.execute("RenewTaskRunLeases", leaseIds=[lease_id]))["leases"]
    return lease["status"]


async def test_a_run_that_exceeds_its_time_limit_fails_and_its_worker_changes_nothing_more(
    server: RunningServer,
) -> None:
    client = server.client
    id, lease_id = await create_running(client)

    server.clock.advance(60)
    run = await wait_until_ended(client, id)
    late = await set_task_run_state(client, id, "COMPLETED", lease_id=lease_id)

    assert (run["stateType"], run["stateName"], run["states"][-1]["message"]) == ("FAILED", "TimedOut", MESSAGE)
    assert run["totalRunTimeSeconds"] == 60
    assert late["status"] == "ABORT"
    assert await read_state_names(client, id) == ["Scheduled", "Running", "TimedOut"]
    assert await lease_status(client, lease_id) == "LOST"
    assert (await scrape(server))["runyard_task_runs_timed_out_total"] == 1


async def test_a_run_within_its_time_limit_is_not_ended(server: RunningServer) -> None:
    client = server.client
    id, lease_id = await create_running(client)

    server.clock.advance(59.999)
    result = await set_task_run_state(client, id, "COMPLETED", lease_id=lease_id)

    assert result["status"] == "ACCEPT"
    assert (await scrape(server))["runyard_task_runs_timed_out_total"] == 0


async def test_waiting_and_pending_do_not_count_towards_the_time_limit(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client, timeoutSeconds=60)
    server.clock.advance(300)
    _, lease_id = await run_under_lease(client, "PENDING", lease_seconds=86_400)
    server.clock.advance(300)

    await set_task_run_state(client, id, "RUNNING", lease_id=lease_id)
    server.clock.advance(59)
    result = await set_task_run_state(client, id, "COMPLETED", lease_id=lease_id)

    assert result["status"] == "ACCEPT"


async def test_a_second_running_under_the_lease_does_not_extend_the_time_limit(server: RunningServer) -> None:
    client = server.client
    id, lease_id = await create_running(client)
    server.clock.advance(40)

    result = await set_task_run_state(client, id, "RUNNING", lease_id=lease_id)
    server.clock.advance(20)

    assert result["status"] == "ACCEPT"
    assert (await wait_until_ended(client, id))["stateName"] == "TimedOut"


async def test_a_retry_has_the_whole_time_limit_again(server: RunningServer) -> None:
    client = server.client
    id, lease_id = await create_running(client, retryPolicy={"retries": 1})
    other, _ = await create_running(client)

    server.clock.advance(60)
    await wait_for_time_limit_of_another_run(client, other)
    retried = await client.execute("GetTaskRun", id=id)
    _, second = await run_under_lease(client, "RUNNING", lease_seconds=86_400)
    server.clock.advance(59)
    result = await set_task_run_state(client, id, "COMPLETED", lease_id=second)

    assert (retried["stateName"], retried["states"][-1]["message"]) == ("AwaitingRetry", MESSAGE)
    assert await lease_status(client, lease_id) == "LOST"
    assert result["status"] == "ACCEPT"
    assert await read_state_names(client, id) == ["Scheduled", "Running", "AwaitingRetry", "Retrying", "Completed"]


async def test_a_redelivered_run_has_the_whole_time_limit_again(server: RunningServer) -> None:
    client = server.client
    id, lease_id = await create_running(client)
    server.clock.advance(59)
    await client.execute("ReleaseTaskRuns", leaseIds=[lease_id])

    _, second = await run_under_lease(client, "RUNNING", lease_seconds=86_400)
    server.clock.advance(59)
    result = await set_task_run_state(client, id, "COMPLETED", lease_id=second)

    assert result["status"] == "ACCEPT"


async def test_a_cancelling_run_becomes_cancelled_at_its_time_limit(server: RunningServer) -> None:
    client = server.client
    id, lease_id = await create_running(client, "CANCELLING", retryPolicy={"retries": 1})

    server.clock.advance(60)
    run = await wait_until_ended(client, id)

    assert run["stateType"] == "CANCELLED"
    assert await lease_status(client, lease_id) == "LOST"


async def test_the_time_limit_of_a_started_run_counts_from_the_claim(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client, timeoutSeconds=20)
    (delivery,) = (await client.execute("ClaimTaskRuns", taskKeys=["t"], start=True))["deliveries"]
    server.clock.advance(5)
    await client.execute("AcknowledgeTaskRuns", leaseIds=[delivery["leaseId"]])

    server.clock.advance(15)
    run = await wait_until_ended(client, id)

    assert (run["stateName"], run["queueEntry"]) == ("TimedOut", None)
    assert await lease_status(client, delivery["leaseId"]) == "LOST"


async def test_a_run_that_times_out_frees_its_slots(server: RunningServer) -> None:
    client = server.client
    await client.execute("SetConcurrencyLimit", tag="x", limit=1)
    id, _ = await create_running(client, tags=["x"])

    server.clock.advance(60)
    await wait_until_ended(client, id)

    assert await read_slot_holders(client, "x") == []


async def test_a_paused_run_times_out_when_it_is_running_again(server: RunningServer) -> None:
    client = server.client
    id, lease_id = await create_running(client, "PAUSED")
    other, _ = await create_running(client)

    server.clock.advance(60)
    await wait_for_time_limit_of_another_run(client, other)
    paused = await client.execute("GetTaskRun", id=id)
    await set_task_run_state(client, id, "RUNNING", lease_id=lease_id)
    run = await wait_until_ended(client, id)

    assert paused["stateType"] == "PAUSED"
    assert run["stateName"] == "TimedOut"


async def test_runs_without_a_lease_or_in_a_flow_run_are_not_timed(server: RunningServer) -> None:
    client = server.client
    flow_run = await create_flow_run(client, "RUNNING")
    untimed = [
        await create_task_run(client, "RUNNING", timeoutSeconds=1),
        await create_task_run(client, "RUNNING", timeoutSeconds=1, flowRunId=flow_run),
    ]
    other, _ = await create_running(client)

    server.clock.advance(60)
    await wait_for_time_limit_of_another_run(client, other)

    assert [(await client.execute("GetTaskRun", id=id))["stateType"] for id in untimed] == ["RUNNING", "RUNNING"]


@pytest.mark.parametrize("seconds", [0.5, 31_536_001])
async def test_a_time_limit_outside_its_range_is_refused(client: Client, seconds: float) -> None:
    error = await client.execute_refused("CreateTaskRun", input={"taskKey": "t", "timeoutSeconds": seconds})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "input.timeoutSeconds")
    assert error["message"] == f"input.timeoutSeconds: must be between 1 and 31,536,000 seconds; got {seconds:g}."


@pytest.mark.parametrize("seconds", [None, 1, 31_536_000])
async def test_the_time_limit_of_a_run_can_be_read(client: Client, seconds: float | None) -> None:
    id = await create_task_run(client, timeoutSeconds=seconds)

    assert (await client.execute("GetTaskRun", id=id))["timeoutSeconds"] == seconds


async def test_a_started_run_that_no_worker_has_confirmed_is_requeued_at_its_time_limit(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client, timeoutSeconds=5, retryPolicy={"retries": 1})
    await client.execute("ClaimTaskRuns", taskKeys=["t"], start=True)
    assert (await client.execute("GetTaskRun", id=id))["runCount"] == 1

    assert await server.services.database.write(end_timed_out_runs, 10) == 0
    server.clock.advance(6)
    await server.services.database.write(end_timed_out_runs, 10)

    run = await client.execute("GetTaskRun", id=id)
    assert [each["name"] for each in run["states"]] == ["Scheduled", "Running", "AwaitingRedelivery"]
    assert run["runCount"] == 0


async def test_a_paused_run_times_out_when_it_is_cancelled_after_its_time_limit(server: RunningServer) -> None:
    client = server.client
    id, lease = await create_running(client, "PAUSED")
    server.clock.advance(70)

    await set_task_run_state(client, id, "CANCELLING", lease_id=lease)

    assert (await wait_until_ended(client, id))["stateName"] == "Cancelled"

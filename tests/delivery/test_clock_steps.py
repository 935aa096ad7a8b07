"""The machine's clock is set while a server runs on SQLite: due runs follow it, leases keep their duration."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from resolvers.delivery.dispatcher import QueueTimers
from tests.builders.queued_runs import create_scheduled, run_under_lease
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import SQLITE_ONLY, RunningServer, run_server
from tests.waiting_requests import WAIT_SECONDS, result_of, start_waiting

pytestmark = SQLITE_ONLY

HOUR = 3600.0

SWEEP_SECONDS = QueueTimers().sweep
KEEP_ALIVE_SECONDS = QueueTimers().keep_alive


async def create_running(client: Client) -> tuple[str, str]:
    """Create a run that is RUNNING under a lease of 60 seconds and return the ids of both."""
    await create_scheduled(client)
    return await run_under_lease(client, "RUNNING")


async def renew(client: Client, lease: str) -> tuple[str, str | None]:
    (result,) = (await client.execute("RenewTaskRunLeases", leaseIds=[lease]))["leases"]
    return result["status"], result["leaseExpiresAt"]


async def state_name(client: Client, id: str) -> str:
    return (await client.execute("GetTaskRun", id=id))["stateName"]


async def lease_expiry(client: Client, id: str) -> str:
    return (await client.execute("GetTaskRun", id=id))["queueEntry"]["leaseExpiresAt"]


@pytest.mark.parametrize(
    ("step", "expires_at"), [(HOUR, "2030-01-01T13:01:00.000000Z"), (-HOUR, "2030-01-01T11:01:00.000000Z")]
)
async def test_a_lease_keeps_its_remaining_time_when_the_clock_is_set(
    server: RunningServer, client: Client, step: float, expires_at: str
) -> None:
    id, _ = await create_running(client)
    server.clock.advance(30)

    server.clock.set_ahead(step)
    await server.sweep()
    moved = await lease_expiry(client, id)
    server.clock.advance(29)
    await server.sweep()
    before_the_end = await state_name(client, id)
    server.clock.advance(1)
    await server.sweep()

    assert (moved, before_the_end) == (expires_at, "Running")
    assert await state_name(client, id) == "WorkerLost"


async def test_a_renewal_after_a_step_lasts_for_its_time_by_the_new_clock(
    server: RunningServer, client: Client
) -> None:
    _, lease = await create_running(client)

    server.clock.set_ahead(HOUR)

    assert await renew(client, lease) == ("HELD", "2030-01-01T13:01:00.000000Z")


async def test_small_steps_add_up(server: RunningServer, client: Client) -> None:
    id, _ = await create_running(client)

    for _ in range(3):
        server.clock.set_ahead(1.5)
        await server.sweep()

    assert await lease_expiry(client, id) == "2030-01-01T12:01:03.000000Z"


async def test_a_step_in_a_transaction_that_fails_is_handled_by_the_next_one(
    server: RunningServer, client: Client
) -> None:
    id, _ = await create_running(client)
    server.clock.set_ahead(HOUR)

    await client.execute_refused("DeleteTaskRun", id="01a206b2-304f-7000-b2ee-99ddb7de4877")
    await server.sweep()

    assert await lease_expiry(client, id) == "2030-01-01T13:01:00.000000Z"


async def test_history_is_in_order_when_the_clock_is_set_back_between_two_states(
    server: RunningServer, client: Client
) -> None:
    id, lease = await create_running(client)
    server.clock.set_ahead(-HOUR)

    await client.execute("SetTaskRunState", id=id, leaseId=lease, state={"type": "COMPLETED"})

    run = await client.execute("GetTaskRun", id=id)
    assert [(each["name"], each["timestamp"]) for each in run["states"]] == [
        ("Scheduled", "2030-01-01T12:00:00.000000Z"),
        ("Running", "2030-01-01T12:00:00.000000Z"),
        ("Completed", "2030-01-01T12:00:00.000001Z"),
    ]
    assert run["totalRunTimeSeconds"] == 1e-6
    assert run["endTime"] == "2030-01-01T12:00:00.000001Z"
    assert [each["id"] for each in run["states"]] == sorted(each["id"] for each in run["states"])


async def test_a_run_is_due_by_the_new_clock(server: RunningServer, client: Client) -> None:
    due_at = server.clock.in_seconds(HOUR)
    id = await create_scheduled(client, at=due_at)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])

        server.clock.set_ahead(HOUR)

        (delivery,) = await socket.deliveries(1)
    assert delivery["taskRun"]["id"] == id


@pytest.mark.parametrize("step", [HOUR, -HOUR])
@pytest.mark.parametrize(
    ("operation", "variables", "nothing"),
    [
        ("ClaimTaskRuns", {"taskKeys": ["t"]}, {"deliveries": []}),
        ("EndedTaskRuns", {"ids": ["{run}"]}, {"ended": [], "notFound": [], "hasMore": False}),
        ("LeaseSignals", {"leaseIds": ["{lease}"]}, {"leases": []}),
    ],
)
async def test_a_request_waits_for_its_time_when_the_clock_is_set(
    server: RunningServer, client: Client, operation: str, variables: dict[str, list[str]], nothing: Any, step: float
) -> None:
    run, lease = await create_running(client)
    given: dict[str, Any] = {
        name: [each.format(run=run, lease=lease) for each in values] for name, values in variables.items()
    }
    waiting = await start_waiting(server, operation, **given)

    server.clock.advance(20)
    server.clock.set_ahead(step)
    await asyncio.wait_for(server.clock.wait_for_waiter(WAIT_SECONDS - 20), TIMEOUT_SECONDS)
    server.clock.advance(WAIT_SECONDS - 20)

    assert await result_of(waiting) == nothing


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_subscription_is_kept_alive_when_the_clock_is_set(server: RunningServer, step: float) -> None:
    async with server.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        await asyncio.wait_for(server.clock.wait_for_waiter(KEEP_ALIVE_SECONDS), TIMEOUT_SECONDS)

        server.clock.set_ahead(step)
        await asyncio.wait_for(server.clock.wait_for_waiter(KEEP_ALIVE_SECONDS), TIMEOUT_SECONDS)
        server.clock.advance(KEEP_ALIVE_SECONDS)

        assert await socket.event() == []


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_lease_expires_in_time_when_the_clock_is_set(
    server: RunningServer, client: Client, step: float
) -> None:
    id, _ = await create_running(client)
    server.clock.set_ahead(step)
    await server.sweep()

    # 60 seconds, at the intervals of the sweep.
    for _ in range(12):
        await asyncio.wait_for(server.clock.wait_for_waiter(SWEEP_SECONDS), TIMEOUT_SECONDS)
        server.clock.advance(SWEEP_SECONDS)

    async with asyncio.timeout(TIMEOUT_SECONDS):
        while await state_name(client, id) != "WorkerLost":
            continue


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_lease_is_never_longer_than_its_full_time_when_the_clock_is_set_between_two_servers(
    tmp_path: Path, step: float
) -> None:
    async with run_server(tmp_path) as before:
        id, _ = await create_running(before.client)
        clock = before.clock
    clock.set_ahead(step)

    async with run_server(tmp_path, clock) as after:
        await after.sweep()
        held = await state_name(after.client, id)
        clock.advance(60)
        await after.sweep()

        assert (held, await state_name(after.client, id)) == ("Running", "WorkerLost")


@pytest.mark.parametrize("step_back", [HOUR, 0.0])
async def test_a_lease_is_held_when_the_clock_is_set_before_a_restart(tmp_path: Path, step_back: float) -> None:
    async with run_server(tmp_path) as before:
        id, lease = await create_running(before.client)
        clock = before.clock
        clock.set_ahead(-HOUR)
        await create_scheduled(before.client)
    clock.set_ahead(step_back)
    clock.advance(100)

    async with run_server(tmp_path, clock) as after:
        await after.sweep()

        assert await state_name(after.client, id) == "Running"
        assert (await renew(after.client, lease))[0] == "HELD"

"""Runs of lost workers: what happens when a lease expires without renewal."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from db.connection import Connection
from db.runtime.timestamps import format_timestamp, seconds_after, seconds_between
from db.statements.queue import queue_entries_by_lease
from tests.builders.api_runs import read_slot_holders
from tests.builders.queued_runs import create_many, create_scheduled, run_ids, run_under_lease
from tests.client import TIMEOUT_SECONDS, Client, Socket
from tests.serving import RunningServer, run_server


async def expire_leases(server: RunningServer, seconds: float = 60) -> None:
    """Advance the clock past the lease and sweep expired leases."""
    server.clock.advance(seconds)
    await server.sweep()


async def subscribe(socket: Socket, **variables: Any) -> None:
    await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], **variables)


def state_names(run: dict[str, Any]) -> list[str]:
    return [state["name"] for state in run["states"]]


async def test_a_pending_run_is_rescheduled_and_redelivered(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client)
    _, lease = await run_under_lease(client, "PENDING")

    await expire_leases(server)

    run = await client.execute("GetTaskRun", id=id)
    assert state_names(run) == ["Scheduled", "Pending", "AwaitingRedelivery"]
    async with client.socket() as socket:
        await subscribe(socket)
        (again,) = await socket.deliveries(1)
        assert (again["taskRun"]["id"], again["attempt"]) == (id, 2)
        outcome = await client.execute("SetTaskRunState", id=id, leaseId=lease, state={"type": "RUNNING"})
        assert outcome["status"] == "ABORT"


@pytest.mark.parametrize(("expires", "status"), [(False, "ACCEPT"), (True, "ABORT")])
async def test_repeating_a_running_report_says_whether_the_lease_is_still_held(
    server: RunningServer, expires: bool, status: str
) -> None:
    client = server.client
    id = await create_scheduled(client, retryPolicy={"retries": 1, "retryDelaySeconds": [30]})
    _, lease = await run_under_lease(client)
    began = {"type": "RUNNING", "details": {"transitionId": "00000000-0000-4000-8000-000000000001"}}
    await client.execute("SetTaskRunState", id=id, leaseId=lease, state=began)
    if expires:
        await expire_leases(server)
    before = state_names(await client.execute("GetTaskRun", id=id))

    outcome = await client.execute("SetTaskRunState", id=id, leaseId=lease, state=began)

    assert (outcome["status"], outcome["stateCreated"]) == (status, False)
    assert state_names(await client.execute("GetTaskRun", id=id)) == before


@pytest.mark.parametrize(
    ("type", "status", "history"),
    [
        ("COMPLETED", "ACCEPT", ["Scheduled", "Running", "Completed"]),
        ("FAILED", "REJECT", ["Scheduled", "Running", "AwaitingRetry"]),
    ],
)
async def test_repeating_a_final_report_returns_the_first_result_after_the_lease(
    server: RunningServer, type: str, status: str, history: list[str]
) -> None:
    client = server.client
    id = await create_scheduled(client, retryPolicy={"retries": 1, "retryDelaySeconds": [30]})
    _, lease = await run_under_lease(client, "RUNNING")
    ended = {"type": type, "details": {"transitionId": "00000000-0000-4000-8000-000000000001"}}
    await client.execute("SetTaskRunState", id=id, leaseId=lease, state=ended)

    outcome = await client.execute("SetTaskRunState", id=id, leaseId=lease, state=ended)

    assert (outcome["status"], outcome["stateCreated"]) == (status, False)
    assert state_names(await client.execute("GetTaskRun", id=id)) == history


async def test_a_running_run_without_retries_is_set_to_crashed(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client)
    await run_under_lease(client, "PENDING", "RUNNING")

    await expire_leases(server)

    run = await client.execute("GetTaskRun", id=id)
    assert (run["stateType"], run["stateName"], run["queueEntry"]) == ("CRASHED", "WorkerLost", None)
    assert (run["endTime"], run["totalRunTimeSeconds"]) == ("2030-01-01T12:01:00.000000Z", 60.0)


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 62.939687), (1.0, 150.0)])
async def test_the_random_number_of_the_server_decides_the_jitter(
    database_url: str, tmp_path: Path, chance: float, seconds: float
) -> None:
    policy = {"retries": 1, "retryDelaySeconds": [100], "retryJitterFactor": 0.5}
    async with run_server(tmp_path, chance=chance, database_url=database_url) as server:
        id = await create_scheduled(server.client, retryPolicy=policy)
        await run_under_lease(server.client, "RUNNING")

        await expire_leases(server)

        run = await server.client.execute("GetTaskRun", id=id)
        lost_at = run["states"][-1]["timestamp"]
        delay = seconds_between(lost_at, run["nextScheduledStartTime"])
        assert (run["stateName"], delay) == ("AwaitingRetry", pytest.approx(seconds, abs=0.001))


async def test_a_running_run_with_retries_is_retried_after_its_delay(server: RunningServer) -> None:
    client = server.client
    policy = {"retries": 1, "retryDelaySeconds": [30]}
    id = await create_scheduled(client, retryPolicy=policy)
    await run_under_lease(client, "PENDING", "RUNNING")

    await expire_leases(server)

    run = await client.execute("GetTaskRun", id=id)
    assert (run["stateName"], run["nextScheduledStartTime"]) == ("AwaitingRetry", "2030-01-01T12:01:30.000000Z")
    server.clock.advance(30)
    await run_under_lease(client, "RUNNING")
    await expire_leases(server)
    assert state_names(await client.execute("GetTaskRun", id=id)) == [
        "Scheduled",
        "Pending",
        "Running",
        "AwaitingRetry",
        "Retrying",
        "WorkerLost",
    ]


async def test_a_cancelling_run_is_set_to_cancelled(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client)
    await run_under_lease(client, "RUNNING")
    await client.execute("SetTaskRunState", id=id, state={"type": "CANCELLING"})

    await expire_leases(server)

    run = await client.execute("GetTaskRun", id=id)
    assert (run["stateType"], run["queueEntry"]) == ("CANCELLED", None)


async def test_the_concurrency_slot_of_a_lost_worker_is_released(server: RunningServer) -> None:
    client = server.client
    await client.execute("SetConcurrencyLimit", tag="db", limit=1)
    id = await create_scheduled(client, tags=["db"])
    await run_under_lease(client, "RUNNING")
    held = await client.execute("GetConcurrencyLimit", tag="db")

    await expire_leases(server)

    assert [slot["taskRunId"] for slot in held["slots"]] == [id]
    assert await read_slot_holders(client, "db") == []


async def test_a_run_that_loses_five_workers_in_a_row_is_undeliverable(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client)
    delays: list[float] = []

    for delay in (0, 5, 30, 120):
        await run_under_lease(client, "PENDING")
        await expire_leases(server)
        entry = (await client.execute("GetTaskRun", id=id))["queueEntry"]
        delays.append(seconds_between(format_timestamp(server.clock.now()), entry["availableAt"]))
        server.clock.advance(delay)
    await run_under_lease(client, "PENDING")
    await expire_leases(server)

    assert delays == [0, 5, 30, 120]
    run = await client.execute("GetTaskRun", id=id)
    assert (run["stateType"], run["stateName"], run["queueEntry"]) == ("CRASHED", "Undeliverable", None)
    assert run["runCount"] == 0


async def crash_after_delivery(client: Client, count: int = 1) -> list[str]:
    """Receive runs as a worker and lose the connection before acknowledging any. Return the run ids."""
    async with client.socket() as socket:
        await subscribe(socket, prefetch=count)
        delivered = await socket.deliveries(count)
        socket.connection.transport.abort()
    return run_ids(delivered)


async def seconds_until_due(server: RunningServer, id: str) -> float:
    """Wait until the run is not leased and return the seconds until it is due."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (entry := (await server.client.execute("GetTaskRun", id=id))["queueEntry"])["leaseExpiresAt"] is not None:
            continue
    return seconds_between(format_timestamp(server.clock.now()), entry["availableAt"])


async def test_a_run_that_crashes_each_worker_is_delayed_then_undeliverable(
    server: RunningServer,
) -> None:
    client = server.client
    id = await create_scheduled(client)
    delays: list[float] = []

    for delay in (0, 5, 30, 120):
        assert await crash_after_delivery(client) == [id]
        delays.append(await seconds_until_due(server, id))
        server.clock.advance(delay)
    assert await crash_after_delivery(client) == [id]
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (run := await client.execute("GetTaskRun", id=id))["stateType"] == "SCHEDULED":
            continue

    assert delays == [0, 5, 30, 120]
    assert (run["stateType"], run["stateName"], run["queueEntry"]) == ("CRASHED", "Undeliverable", None)


async def test_only_the_first_unacknowledged_run_is_delayed_after_a_crash(server: RunningServer) -> None:
    client = server.client
    first, second, third = await create_many(client, 3)

    for _ in range(2):
        assert await crash_after_delivery(client, 3) == [first, second, third]
        await seconds_until_due(server, first)

    assert [await seconds_until_due(server, id) for id in (first, second, third)] == [5, 0, 0]
    # The other runs keep their due time, however often they were delivered.
    assert await crash_after_delivery(client, 2) == [second, third]
    assert await seconds_until_due(server, second) == 0


async def test_an_acknowledged_run_is_not_blamed_for_a_lost_connection(
    server: RunningServer,
) -> None:
    client = server.client
    acknowledged, next_one = await create_many(client, 2)
    for expected in (0, 5):
        async with client.socket() as socket:
            await subscribe(socket, prefetch=2)
            delivered = await socket.deliveries(2 if expected == 0 else 1)
            leases = {delivery["taskRun"]["id"]: delivery["leaseId"] for delivery in delivered}
            if acknowledged in leases:
                await client.execute("AcknowledgeTaskRuns", leaseIds=[leases[acknowledged]])
            socket.connection.transport.abort()
        assert await seconds_until_due(server, next_one) == expected
    assert (await client.execute("GetTaskRun", id=acknowledged))["queueEntry"]["leaseExpiresAt"] is not None


async def test_a_run_is_not_delayed_when_its_worker_ends_the_subscription(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client)

    async with client.socket() as socket:
        for attempt in range(1, 8):
            subscription = await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
            (delivery,) = await socket.deliveries(1)
            assert delivery["attempt"] == attempt
            await socket.send({"id": subscription, "type": "complete"})
            assert await seconds_until_due(server, id) == 0


async def test_a_run_never_acknowledged_is_not_delayed_by_repeated_deliveries(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client)

    for attempt in range(1, 8):
        async with client.socket() as silent:
            await subscribe(silent)
            (delivery,) = await silent.deliveries(1)
            assert delivery["attempt"] == attempt
            await expire_leases(server, 30)

    run = await client.execute("GetTaskRun", id=id)
    assert state_names(run) == ["Scheduled"]
    assert run["queueEntry"]["availableAt"] == server.clock.in_seconds(0).replace("+00:00", ".000000Z")


async def test_a_renewed_lease_does_not_expire(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client)
    _, lease = await run_under_lease(client, "RUNNING")

    server.clock.advance(59)
    (renewed,) = (await client.execute("RenewTaskRunLeases", leaseIds=[lease], leaseSeconds=90))["leases"]
    await expire_leases(server, 89)

    assert (renewed["status"], renewed["leaseExpiresAt"]) == ("HELD", "2030-01-01T12:02:29.000000Z")
    assert (await client.execute("GetTaskRun", id=id))["stateType"] == "RUNNING"


async def test_renewing_reports_a_cancellation_request_or_a_lost_lease(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client)
    _, lease = await run_under_lease(client, "RUNNING")

    await client.execute("SetTaskRunState", id=id, state={"type": "CANCELLING"})
    (cancelling,) = (await client.execute("RenewTaskRunLeases", leaseIds=[lease]))["leases"]
    await client.execute("SetTaskRunState", id=id, state={"type": "CANCELLED"})
    (lost,) = (await client.execute("RenewTaskRunLeases", leaseIds=[lease]))["leases"]

    assert (cancelling["status"], cancelling["cancelRequested"]) == ("HELD", True)
    assert (lost["status"], lost["leaseExpiresAt"], lost["cancelRequested"]) == ("LOST", None, False)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], ["Scheduled"]),
        (["PENDING"], ["Scheduled", "Pending", "AwaitingRedelivery"]),
        (["PENDING", "RUNNING"], ["Scheduled", "Pending", "Running", "AwaitingRedelivery"]),
    ],
)
async def test_a_released_run_is_due_after_its_delay_before_newer_runs(
    server: RunningServer, states: list[str], expected: list[str]
) -> None:
    client = server.client
    id = await create_scheduled(client)
    _, lease = await run_under_lease(client, *states)

    (released,) = (await client.execute("ReleaseTaskRuns", leaseIds=[lease], delaySeconds=10))["leases"]

    assert released["status"] == "HELD"
    run = await client.execute("GetTaskRun", id=id)
    assert (state_names(run), run["queueEntry"]["availableAt"]) == (expected, "2030-01-01T12:00:10.000000Z")
    newer = await create_scheduled(client)
    server.clock.advance(10)
    async with client.socket() as socket:
        await subscribe(socket, prefetch=2)
        assert run_ids(await socket.deliveries(2)) == [id, newer]


async def test_an_expired_lease_is_lost_before_the_sweep(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client)
    _, lease = await run_under_lease(client, "RUNNING")
    expires_at = (await client.execute("GetTaskRun", id=id))["queueEntry"]["leaseExpiresAt"]

    outcomes = await server.services.database.read(lambda connection: held_at(connection, lease, expires_at))

    assert outcomes == [True, False]


def held_at(connection: Connection, lease: str, expires_at: str) -> list[bool]:
    """Return whether the lease is held one microsecond before it expires, and at that time."""
    held: list[bool] = []
    for now in (seconds_after(expires_at, -0.000001), expires_at):
        connection.now = now
        held.append(lease in queue_entries_by_lease(connection, [lease]))
    return held

"""What becomes of a run whose worker is lost: its lease runs out, and nobody renews it."""

import asyncio
from typing import Any

import pytest

from db.connection import Connection
from db.runtime.timestamps import instant, seconds_after, seconds_between
from db.statements.queue import queue_entries_by_lease
from tests.builders.queued_runs import create_many, create_scheduled, run_ids
from tests.client import PATIENCE, Client, Socket
from tests.serving import Serving


async def take(client: Client, *states: str, lease_seconds: float = 60) -> str:
    """Receive the next run as a worker, bring it into the states, and go away; the lease."""
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], leaseSeconds=lease_seconds)
        (delivery,) = await socket.deliveries(1)
        lease = delivery["leaseId"]
        await client.ask("AcknowledgeTaskRuns", leaseIds=[lease])
        for type in states:
            outcome = await client.ask(
                "SetTaskRunState", id=delivery["taskRun"]["id"], leaseId=lease, state={"type": type}
            )
            assert outcome["status"] == "ACCEPT"
    return lease


async def let_lapse(server: Serving, seconds: float = 60) -> None:
    """Let the lease run out, and return when the sweep has seen it."""
    server.clock.advance(seconds)
    await server.sweep()


async def listen(socket: Socket, **variables: Any) -> None:
    await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], **variables)


def names(run: dict[str, Any]) -> list[str]:
    return [state["name"] for state in run["states"]]


async def test_a_claimed_run_is_scheduled_again_and_delivered(server: Serving) -> None:
    client = server.client
    id = await create_scheduled(client)
    lease = await take(client, "PENDING")

    await let_lapse(server)

    run = await client.ask("GetTaskRun", id=id)
    assert names(run) == ["Scheduled", "Pending", "AwaitingRedelivery"]
    async with client.socket() as socket:
        await listen(socket)
        (again,) = await socket.deliveries(1)
        assert (again["taskRun"]["id"], again["attempt"]) == (id, 2)
        outcome = await client.ask("SetTaskRunState", id=id, leaseId=lease, state={"type": "RUNNING"})
        assert outcome["status"] == "ABORT"


@pytest.mark.parametrize(("lapses", "answer"), [(False, "ACCEPT"), (True, "ABORT")])
async def test_a_worker_that_repeats_how_it_began_is_told_whether_it_still_has_the_run(
    server: Serving, lapses: bool, answer: str
) -> None:
    client = server.client
    id = await create_scheduled(client, empiricalPolicy={"retries": 1, "retryDelaySeconds": [30]})
    lease = await take(client)
    began = {"type": "RUNNING", "details": {"transitionId": "00000000-0000-4000-8000-000000000001"}}
    await client.ask("SetTaskRunState", id=id, leaseId=lease, state=began)
    if lapses:
        await let_lapse(server)
    before = names(await client.ask("GetTaskRun", id=id))

    outcome = await client.ask("SetTaskRunState", id=id, leaseId=lease, state=began)

    assert (outcome["status"], outcome["created"]) == (answer, False)
    assert names(await client.ask("GetTaskRun", id=id)) == before


@pytest.mark.parametrize(
    ("type", "answer", "history"),
    [
        ("COMPLETED", "ACCEPT", ["Scheduled", "Running", "Completed"]),
        ("FAILED", "REJECT", ["Scheduled", "Running", "AwaitingRetry"]),
    ],
)
async def test_a_worker_that_repeats_how_it_ended_is_answered_although_the_lease_is_over(
    server: Serving, type: str, answer: str, history: list[str]
) -> None:
    client = server.client
    id = await create_scheduled(client, empiricalPolicy={"retries": 1, "retryDelaySeconds": [30]})
    lease = await take(client, "RUNNING")
    ended = {"type": type, "details": {"transitionId": "00000000-0000-4000-8000-000000000001"}}
    await client.ask("SetTaskRunState", id=id, leaseId=lease, state=ended)

    outcome = await client.ask("SetTaskRunState", id=id, leaseId=lease, state=ended)

    assert (outcome["status"], outcome["created"]) == (answer, False)
    assert names(await client.ask("GetTaskRun", id=id)) == history


async def test_a_running_run_without_retries_has_crashed(server: Serving) -> None:
    client = server.client
    id = await create_scheduled(client)
    await take(client, "PENDING", "RUNNING")

    await let_lapse(server)

    run = await client.ask("GetTaskRun", id=id)
    assert (run["stateType"], run["stateName"], run["queueEntry"]) == ("CRASHED", "WorkerLost", None)
    assert (run["endTime"], run["totalRunTimeSeconds"]) == ("2030-01-01T12:01:00.000000Z", 60.0)


async def test_a_running_run_with_retries_is_tried_again_after_its_delay(server: Serving) -> None:
    client = server.client
    policy = {"retries": 1, "retryDelaySeconds": [30]}
    id = await create_scheduled(client, empiricalPolicy=policy)
    await take(client, "PENDING", "RUNNING")

    await let_lapse(server)

    run = await client.ask("GetTaskRun", id=id)
    assert (run["stateName"], run["nextScheduledStartTime"]) == ("AwaitingRetry", "2030-01-01T12:01:30.000000Z")
    server.clock.advance(30)
    await take(client, "RUNNING")
    await let_lapse(server)
    assert names(await client.ask("GetTaskRun", id=id)) == [
        "Scheduled",
        "Pending",
        "Running",
        "AwaitingRetry",
        "Retrying",
        "WorkerLost",
    ]


async def test_a_run_that_was_being_cancelled_is_cancelled(server: Serving) -> None:
    client = server.client
    id = await create_scheduled(client)
    await take(client, "RUNNING")
    await client.ask("SetTaskRunState", id=id, state={"type": "CANCELLING"})

    await let_lapse(server)

    run = await client.ask("GetTaskRun", id=id)
    assert (run["stateType"], run["queueEntry"]) == ("CANCELLED", None)


async def test_a_lost_workers_slot_is_free_again(server: Serving) -> None:
    client = server.client
    await client.ask("CreateConcurrencyLimit", tag="db", limit=1)
    id = await create_scheduled(client, tags=["db"])
    await take(client, "RUNNING")
    held = await client.ask("GetConcurrencyLimit", tag="db")

    await let_lapse(server)

    assert held["activeSlots"] == [id]
    assert (await client.ask("GetConcurrencyLimit", tag="db"))["activeSlots"] == []


async def test_a_run_that_loses_five_workers_in_a_row_is_undeliverable(server: Serving) -> None:
    client = server.client
    id = await create_scheduled(client)
    delays: list[float] = []

    for delay in (0, 5, 30, 120):
        await take(client, "PENDING")
        await let_lapse(server)
        entry = (await client.ask("GetTaskRun", id=id))["queueEntry"]
        delays.append(seconds_between(instant(server.clock.now()), entry["availableAt"]))
        server.clock.advance(delay)
    await take(client, "PENDING")
    await let_lapse(server)

    assert delays == [0, 5, 30, 120]
    run = await client.ask("GetTaskRun", id=id)
    assert (run["stateType"], run["stateName"], run["queueEntry"]) == ("CRASHED", "Undeliverable", None)
    assert run["runCount"] == 0


async def die_with(client: Client, count: int = 1) -> list[str]:
    """Receive runs as a worker and die of the first one before taking it over: the connection is lost. The runs."""
    async with client.socket() as socket:
        await listen(socket, prefetch=count)
        delivered = await socket.deliveries(count)
        socket.connection.transport.abort()
    return run_ids(delivered)


async def waits(server: Serving, id: str) -> float:
    """How long from now the run is due, once nobody has it."""
    async with asyncio.timeout(PATIENCE):
        while (entry := (await server.client.ask("GetTaskRun", id=id))["queueEntry"])["leaseExpiresAt"] is not None:
            continue
    return seconds_between(instant(server.clock.now()), entry["availableAt"])


async def test_a_run_that_its_workers_die_of_at_once_comes_later_each_time_and_is_undeliverable_in_the_end(
    server: Serving,
) -> None:
    client = server.client
    id = await create_scheduled(client)
    delays: list[float] = []

    for delay in (0, 5, 30, 120):
        assert await die_with(client) == [id]
        delays.append(await waits(server, id))
        server.clock.advance(delay)
    assert await die_with(client) == [id]
    async with asyncio.timeout(PATIENCE):
        while (run := await client.ask("GetTaskRun", id=id))["stateType"] == "SCHEDULED":
            continue

    assert delays == [0, 5, 30, 120]
    assert (run["stateType"], run["stateName"], run["queueEntry"]) == ("CRASHED", "Undeliverable", None)


async def test_what_was_handed_over_behind_the_run_that_a_worker_died_of_is_not_blamed(server: Serving) -> None:
    client = server.client
    first, second, third = await create_many(client, 3)

    for _ in range(2):
        assert await die_with(client, 3) == [first, second, third]
        await waits(server, first)

    assert [await waits(server, id) for id in (first, second, third)] == [5, 0, 0]
    # Whatever the others were delivered, nothing is held against them: they are due since they were created.
    assert await die_with(client, 2) == [second, third]
    assert await waits(server, second) == 0


async def test_a_run_that_was_acknowledged_is_not_what_the_worker_was_at_when_its_connection_was_lost(
    server: Serving,
) -> None:
    client = server.client
    taken, next_one = await create_many(client, 2)
    for expected in (0, 5):
        async with client.socket() as socket:
            await listen(socket, prefetch=2)
            delivered = await socket.deliveries(2 if expected == 0 else 1)
            leases = {delivery["taskRun"]["id"]: delivery["leaseId"] for delivery in delivered}
            if taken in leases:
                await client.ask("AcknowledgeTaskRuns", leaseIds=[leases[taken]])
            socket.connection.transport.abort()
        assert await waits(server, next_one) == expected
    assert (await client.ask("GetTaskRun", id=taken))["queueEntry"]["leaseExpiresAt"] is not None


async def test_a_run_is_not_blamed_for_a_worker_that_ends_its_subscription(server: Serving) -> None:
    client = server.client
    id = await create_scheduled(client)

    async with client.socket() as socket:
        for attempt in range(1, 8):
            subscription = await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
            (delivery,) = await socket.deliveries(1)
            assert delivery["attempt"] == attempt
            await socket.send({"id": subscription, "type": "complete"})
            assert await waits(server, id) == 0


async def test_a_run_that_nobody_takes_over_is_not_blamed_however_often_it_was_delivered(server: Serving) -> None:
    client = server.client
    id = await create_scheduled(client)

    for attempt in range(1, 8):
        async with client.socket() as silent:
            await listen(silent)
            (delivery,) = await silent.deliveries(1)
            assert delivery["attempt"] == attempt
            await let_lapse(server, 30)

    run = await client.ask("GetTaskRun", id=id)
    assert names(run) == ["Scheduled"]
    assert run["queueEntry"]["availableAt"] == server.clock.in_seconds(0).replace("+00:00", ".000000Z")


async def test_a_renewed_lease_does_not_run_out(server: Serving) -> None:
    client = server.client
    id = await create_scheduled(client)
    lease = await take(client, "RUNNING")

    server.clock.advance(59)
    (renewed,) = await client.ask("RenewTaskRunLeases", leaseIds=[lease], leaseSeconds=90)
    await let_lapse(server, 89)

    assert (renewed["status"], renewed["leaseExpiresAt"]) == ("HELD", "2030-01-01T12:02:29.000000Z")
    assert (await client.ask("GetTaskRun", id=id))["stateType"] == "RUNNING"


async def test_renewing_tells_that_the_run_is_to_be_cancelled_or_that_the_lease_is_lost(server: Serving) -> None:
    client = server.client
    id = await create_scheduled(client)
    lease = await take(client, "RUNNING")

    await client.ask("SetTaskRunState", id=id, state={"type": "CANCELLING"})
    (cancelling,) = await client.ask("RenewTaskRunLeases", leaseIds=[lease])
    await client.ask("SetTaskRunState", id=id, state={"type": "CANCELLED"})
    (lost,) = await client.ask("RenewTaskRunLeases", leaseIds=[lease])

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
async def test_a_released_run_is_due_again_after_the_delay_before_newer_ones(
    server: Serving, states: list[str], expected: list[str]
) -> None:
    client = server.client
    id = await create_scheduled(client)
    lease = await take(client, *states)

    (released,) = await client.ask("ReleaseTaskRuns", leaseIds=[lease], delaySeconds=10)

    assert released["status"] == "HELD"
    run = await client.ask("GetTaskRun", id=id)
    assert (names(run), run["queueEntry"]["availableAt"]) == (expected, "2030-01-01T12:00:10.000000Z")
    newer = await create_scheduled(client)
    server.clock.advance(10)
    async with client.socket() as socket:
        await listen(socket, prefetch=2)
        assert run_ids(await socket.deliveries(2)) == [id, newer]


async def test_a_run_that_waits_for_a_slot_is_due_as_soon_as_one_is_free(server: Serving) -> None:
    client = server.client
    await client.ask("CreateConcurrencyLimit", tag="db", limit=1)
    first = await create_scheduled(client, tags=["db"])
    lease = await take(client, "RUNNING")
    second = await create_scheduled(client, tags=["db"])
    async with client.socket() as socket:
        await listen(socket)
        (delivery,) = await socket.deliveries(1)
        waiting = delivery["leaseId"]
        told = await client.ask("SetTaskRunState", id=second, leaseId=waiting, state={"type": "RUNNING"})
        await client.ask("ReleaseTaskRuns", leaseIds=[waiting], delaySeconds=told["delaySeconds"])

        await client.ask("SetTaskRunState", id=first, leaseId=lease, state={"type": "COMPLETED"})

        assert (told["status"], told["delaySeconds"]) == ("WAIT", 30.0)
        (again,) = await socket.deliveries(1)
        assert again["taskRun"]["id"] == second


async def test_a_run_that_was_delivered_since_it_waited_for_a_slot_is_not_made_due_by_one(server: Serving) -> None:
    client = server.client
    await client.ask("CreateConcurrencyLimit", tag="db", limit=1)
    first = await create_scheduled(client, tags=["db"])
    lease = await take(client, "RUNNING")
    second = await create_scheduled(client, tags=["db"])
    async with client.socket() as socket:
        await listen(socket)
        (delivery,) = await socket.deliveries(1)
        await client.ask("SetTaskRunState", id=second, leaseId=delivery["leaseId"], state={"type": "RUNNING"})
        await client.ask("ReleaseTaskRuns", leaseIds=[delivery["leaseId"]], delaySeconds=30)
        server.clock.advance(30)
        (again,) = await socket.deliveries(1)
        await client.ask("ReleaseTaskRuns", leaseIds=[again["leaseId"]], delaySeconds=40)

        await client.ask("SetTaskRunState", id=first, leaseId=lease, state={"type": "COMPLETED"})

        entry = (await client.ask("GetTaskRun", id=second))["queueEntry"]
        assert entry["availableAt"] == "2030-01-01T12:01:10.000000Z"


async def test_a_lease_that_has_run_out_is_lost_even_before_the_sweep_has_seen_it(server: Serving) -> None:
    client = server.client
    id = await create_scheduled(client)
    lease = await take(client, "RUNNING")
    expires_at = (await client.ask("GetTaskRun", id=id))["queueEntry"]["leaseExpiresAt"]

    outcomes = await server.life.database.read(lambda connection: held_at(connection, lease, expires_at))

    assert outcomes == [True, False]


def held_at(connection: Connection, lease: str, expires_at: str) -> list[bool]:
    """Whether the lease is held a moment before it runs out, and when it does."""
    answers: list[bool] = []
    for now in (seconds_after(expires_at, -0.000001), expires_at):
        connection.now = now
        answers.append(lease in queue_entries_by_lease(connection, [lease]))
    return answers

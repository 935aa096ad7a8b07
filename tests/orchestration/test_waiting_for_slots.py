"""Runs that wait for a concurrency slot: they are not due, wait however long it takes, and a free slot wakes them."""

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.builders.api_runs import (
    create_deployment,
    create_flow,
    create_flow_run,
    create_task_run,
    create_task_runs,
    read_state_names,
    set_task_run_state,
)
from tests.builders.queued_runs import create_scheduled, run_ids
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import SQLITE_ONLY, RunningServer, run_server


async def set_limit(client: Client, limit: int, tag: str = "x") -> None:
    await client.execute("SetConcurrencyLimit", tag=tag, limit=limit)


async def claim(client: Client, *task_keys: str, limit: int = 10) -> list[dict[str, Any]]:
    claimed = await client.execute("ClaimTaskRuns", taskKeys=list(task_keys or ("t",)), limit=limit)
    return claimed["deliveries"]


async def claim_one(client: Client) -> tuple[str, str]:
    """Claim the only due run. Return the ids of the run and of its lease."""
    (delivery,) = await claim(client)
    return delivery["taskRun"]["id"], delivery["leaseId"]


async def receive_wait(client: Client, *states: str, limit: int = 1, **fields: Any) -> tuple[str, str, str]:
    """Let a worker claim a run, set these states of it, and be refused RUNNING by a limit that is full by then.

    Return the ids of the run, of its lease, and of the run that holds the slot.
    """
    id = await create_scheduled(client, **{"tags": ["x"], **fields})
    _, lease = await claim_one(client)
    for type in states:
        await set_task_run_state(client, id, type, lease_id=lease)
    await set_limit(client, 1)
    holder = await create_task_run(client, "RUNNING", tags=["x"])
    await set_limit(client, limit)
    result = await set_task_run_state(client, id, "RUNNING", lease_id=lease)
    assert result["status"] == ("ABORT" if limit == 0 else "WAIT")
    return id, lease, holder


async def let_lapse(server: RunningServer, seconds: float = 60) -> None:
    """Advance the clock past the lease and sweep expired leases."""
    server.clock.advance(seconds)
    await server.sweep()


@pytest.mark.parametrize("limit", [1, 0, -1])
@pytest.mark.parametrize("states", [(), ("PENDING",)], ids=["scheduled", "pending"])
async def test_a_run_whose_worker_received_wait_waits_however_often_its_lease_lapses(
    server: RunningServer, states: tuple[str, ...], limit: int
) -> None:
    client = server.client
    id, lease, holder = await receive_wait(client, *states, limit=limit)
    await set_task_run_state(client, holder, "COMPLETED")
    for _ in range(7):
        await let_lapse(server)
        await set_limit(client, 1)
        again, lease = await claim_one(client)
        await set_limit(client, limit if limit < 1 else 0)
        assert (again, (await set_task_run_state(client, id, "RUNNING", lease_id=lease))["stateCreated"]) == (id, False)
    await let_lapse(server)

    assert await claim(client) == []
    await set_limit(client, 1)

    _, lease = await claim_one(client)
    assert (await set_task_run_state(client, id, "RUNNING", lease_id=lease))["status"] == "ACCEPT"
    assert "Undeliverable" not in await read_state_names(client, id)


async def test_a_lapse_while_waiting_counts_towards_nothing(server: RunningServer) -> None:
    client = server.client
    id, _, holder = await receive_wait(client)
    await let_lapse(server)
    await set_task_run_state(client, holder, "COMPLETED")
    await client.execute("DeleteConcurrencyLimit", tag="x")
    for delay in (0, 5, 30, 120):
        _, lease = await claim_one(client)
        await client.execute("AcknowledgeTaskRuns", leaseIds=[lease])
        await let_lapse(server)
        server.clock.advance(delay)

    assert await read_state_names(client, id) == ["Scheduled"]
    await claim_one(client)


@pytest.mark.parametrize("end", ["release", "lapse"])
@pytest.mark.parametrize("states", [(), ("PENDING",)], ids=["scheduled", "pending"])
async def test_a_waiting_run_is_not_due_before_a_slot_is_free_and_due_at_once_then(
    server: RunningServer, states: tuple[str, ...], end: str
) -> None:
    client = server.client
    id, lease, holder = await receive_wait(client, *states)
    if end == "release":
        await client.execute("ReleaseTaskRuns", leaseIds=[lease], delaySeconds=30)
    else:
        await let_lapse(server)
    server.clock.advance(3600)
    assert await claim(client) == []

    await set_task_run_state(client, holder, "COMPLETED")

    again, lease = await claim_one(client)
    assert (again, (await set_task_run_state(client, id, "RUNNING", lease_id=lease))["status"]) == (id, "ACCEPT")


@pytest.mark.parametrize("end", ["release", "lapse"])
@pytest.mark.parametrize("states", [(), ("PENDING",)], ids=["scheduled", "pending"])
async def test_a_run_is_due_at_once_if_its_slot_is_free_when_the_lease_ends(
    server: RunningServer, states: tuple[str, ...], end: str
) -> None:
    client = server.client
    id, lease, holder = await receive_wait(client, *states)
    await set_task_run_state(client, holder, "COMPLETED")

    if end == "release":
        await client.execute("ReleaseTaskRuns", leaseIds=[lease], delaySeconds=30)
    else:
        await let_lapse(server)

    again, lease = await claim_one(client)
    assert (again, (await set_task_run_state(client, id, "RUNNING", lease_id=lease))["status"]) == (id, "ACCEPT")


async def test_a_run_is_not_delivered_while_a_limit_on_its_tags_is_full(client: Client) -> None:
    await set_limit(client, 1)
    await create_task_run(client, "RUNNING", tags=["x"])
    waiting = await create_scheduled(client, tags=["x"])
    other = await create_scheduled(client)

    assert run_ids(await claim(client)) == [other]

    (queue,) = await client.execute("ListTaskQueues", taskKeys=["t"])
    assert (queue["scheduled"], queue["retry"], queue["delayed"], queue["leased"]) == (0, 0, 1, 1)
    assert queue["oldestWaitSeconds"] is None
    assert (await client.execute("GetTaskRun", id=waiting))["queueEntry"]["attempt"] == 0


async def test_a_claim_delivers_no_more_runs_than_slots_are_free(client: Client) -> None:
    await set_limit(client, 3)
    ids = await create_task_runs(client, 250, "SCHEDULED", tags=["x"])

    assert run_ids(await claim(client, limit=50)) == ids[:3]
    assert (await client.execute("GetConcurrencyLimit", tag="x"))["waitingCount"] > 0


FREE = {
    "complete": ("SetTaskRunState", {"state": {"type": "COMPLETED"}}, True),
    "delete": ("DeleteTaskRun", {}, True),
    "reset": ("ResetConcurrencyLimit", {"tag": "x"}, False),
    "raise": ("SetConcurrencyLimit", {"tag": "x", "limit": 2}, False),
    "remove": ("DeleteConcurrencyLimit", {"tag": "x"}, False),
}


@pytest.mark.parametrize("how", sorted(FREE))
async def test_a_free_slot_wakes_a_run_in_order_of_due_times(client: Client, how: str) -> None:
    operation, variables, names_holder = FREE[how]
    await set_limit(client, 1)
    holder = await create_task_run(client, "RUNNING", tags=["x"])
    first, _ = [await create_scheduled(client, tags=["x"]) for _ in range(2)]
    assert await claim(client) == []

    await client.execute(operation, **({"id": holder} if names_holder else {}), **variables)

    assert run_ids(await claim(client, limit=1)) == [first]


async def test_a_limit_that_is_raised_from_zero_wakes_a_run(client: Client) -> None:
    await set_limit(client, 0)
    first, _ = [await create_scheduled(client, tags=["x"]) for _ in range(2)]
    assert await claim(client) == []

    await set_limit(client, 1)

    assert run_ids(await claim(client)) == [first]


@pytest.mark.parametrize("deleted", ["Flow", "FlowRun", "Deployment"])
async def test_deleting_what_a_holder_belongs_to_wakes_a_run(client: Client, deleted: str) -> None:
    flow = await create_flow(client)
    deployment = await create_deployment(client, flow)
    flow_run = await create_flow_run(client, "RUNNING", flowId=flow, deploymentId=deployment)
    await set_limit(client, 1)
    holder = await create_task_run(client, "PENDING", flowRunId=flow_run, tags=["x"])
    assert (await set_task_run_state(client, holder, "RUNNING"))["status"] == "ACCEPT"
    await client.execute("SetFlowRunState", id=flow_run, state={"type": "SCHEDULED"}, force=True)
    waiting = await create_scheduled(client, tags=["x"])
    assert await claim(client) == []

    await client.execute(f"Delete{deleted}", id={"Flow": flow, "FlowRun": flow_run, "Deployment": deployment}[deleted])

    assert run_ids(await claim(client)) == [waiting]


async def test_a_free_slot_wakes_the_first_run_of_each_task_key(client: Client) -> None:
    await set_limit(client, 1)
    holder = await create_task_run(client, "RUNNING", tags=["x"])
    waiting = {key: [await create_scheduled(client, key, tags=["x"]) for _ in range(2)] for key in ("a", "b")}
    assert await claim(client, "a", "b") == []

    await set_task_run_state(client, holder, "COMPLETED")

    # Each key has its workers: the slot is free for whichever starts first.
    assert run_ids(await claim(client, "b")) == waiting["b"][:1]
    assert run_ids(await claim(client, "a")) == waiting["a"][:1]


@pytest.mark.parametrize("how", ["CANCELLED", "FAILED", "PAUSED", "delete", "postpone"])
async def test_a_woken_run_that_does_not_start_passes_its_slot_on(server: RunningServer, how: str) -> None:
    client = server.client
    await set_limit(client, 1)
    holder = await create_task_run(client, "RUNNING", tags=["x"])
    woken, following = [await create_scheduled(client, tags=["x"]) for _ in range(2)]
    assert await claim(client) == []
    await set_task_run_state(client, holder, "COMPLETED")

    if how == "delete":
        await client.execute("DeleteTaskRun", id=woken)
    elif how == "postpone":
        later = {"scheduledTime": server.clock.in_seconds(3600)}
        await set_task_run_state(client, woken, "SCHEDULED", details=later)
    else:
        await set_task_run_state(client, woken, how)

    assert run_ids(await claim(client)) == [following]


async def test_a_woken_run_that_another_tag_holds_back_passes_its_slot_on(client: Client) -> None:
    await set_limit(client, 1, "a")
    await set_limit(client, 1, "b")
    holder_of_a = await create_task_run(client, "RUNNING", tags=["a"])
    await create_task_run(client, "RUNNING", tags=["b"])
    both, only_a = await create_scheduled(client, tags=["a", "b"]), await create_scheduled(client, tags=["a"])
    assert await claim(client) == []

    await set_task_run_state(client, holder_of_a, "COMPLETED")

    assert run_ids([*await claim(client), *await claim(client)]) == [only_a]
    limits = {each["tag"]: each["waitingCount"] for each in await client.execute("ListConcurrencyLimits")}
    assert limits == {"a": 0, "b": 1}
    assert (await client.execute("GetTaskRun", id=both))["queueEntry"]["attempt"] == 0


async def test_a_woken_run_that_no_worker_claims_passes_its_slot_on_after_five_seconds(server: RunningServer) -> None:
    client = server.client
    await set_limit(client, 1)
    holder = await create_task_run(client, "RUNNING", tags=["x"])
    first, second = [await create_scheduled(client, tags=["x"]) for _ in range(2)]
    assert await claim(client) == []
    await set_task_run_state(client, holder, "COMPLETED")
    before = (await client.execute("GetConcurrencyLimit", tag="x"))["waitingCount"]

    await server.clock.wait_for_waiter(5)
    server.clock.advance(5)
    while (await client.execute("GetConcurrencyLimit", tag="x"))["waitingCount"] != 0:
        pass

    assert before == 1
    assert run_ids(await claim(client, limit=1)) == [first]
    assert (await client.execute("GetTaskRun", id=second))["queueEntry"]["attempt"] == 0


@SQLITE_ONLY
async def test_a_slot_is_passed_on_after_five_seconds_although_a_lease_expires_before(tmp_path: Path) -> None:
    async with run_server(tmp_path, acknowledge_seconds=4.5) as server:
        client = server.client
        await create_scheduled(client, "other")
        assert len(await claim(client, "other")) == 1
        await asyncio.wait_for(server.clock.wait_for_waiter(4.5), TIMEOUT_SECONDS)
        await set_limit(client, 1)
        holder = await create_task_run(client, "RUNNING", tags=["x"])
        first, _ = [await create_scheduled(client, tags=["x"]) for _ in range(2)]
        assert await claim(client) == []
        await set_task_run_state(client, holder, "COMPLETED")

        server.clock.advance(4.5)
        await asyncio.wait_for(server.clock.wait_for_waiter(0.5), TIMEOUT_SECONDS)
        before = (await client.execute("GetConcurrencyLimit", tag="x"))["waitingCount"]
        server.clock.advance(0.5)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while (await client.execute("GetConcurrencyLimit", tag="x"))["waitingCount"] != 0:
                pass

        assert before == 1
        assert run_ids(await claim(client, limit=1)) == [first]


async def test_a_woken_run_that_is_forced_to_running_passes_its_slot_on(server: RunningServer) -> None:
    client = server.client
    await set_limit(client, 1)
    holder = await create_task_run(client, "RUNNING", tags=["x"])
    first, second = [await create_scheduled(client, tags=["x"]) for _ in range(2)]
    assert await claim(client) == []
    await set_task_run_state(client, holder, "COMPLETED")

    await set_task_run_state(client, first, "RUNNING", force=True)

    assert run_ids(await claim(client)) == [second]


async def test_a_run_that_a_lost_automatic_acknowledgement_leaves_behind_blocks_no_other(server: RunningServer) -> None:
    client = server.client
    await set_limit(client, 1)
    holder = await create_task_run(client, "RUNNING", tags=["x"])
    lost, following = [await create_scheduled(client, tags=["x"]) for _ in range(2)]
    assert await claim(client) == []
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], autoAcknowledge=True)
        await set_task_run_state(client, holder, "COMPLETED")
        assert run_ids(await socket.deliveries(1)) == [lost]

    await server.clock.wait_for_waiter(5)
    server.clock.advance(5)

    while not (deliveries := await claim(client)):
        pass
    assert run_ids(deliveries) == [following]


RUNS, WORKERS = 150, 4


@pytest.mark.parametrize("on_wait", ["release", "lapse"])
async def test_deliveries_for_one_slot_hardly_exceed_starts(server: RunningServer, on_wait: str) -> None:
    client = server.client
    await set_limit(client, 1)
    await create_task_runs(client, RUNS, "SCHEDULED", tags=["x"])
    counts = Counter[str]()
    is_decided, is_done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with client.socket() as socket:
            await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1)
            while True:
                for delivery in await socket.event():
                    await execute(delivery["taskRun"]["id"], delivery["leaseId"])

    async def execute(id: str, lease: str) -> None:
        counts["delivered"] += 1
        result = await set_task_run_state(client, id, "RUNNING", lease_id=lease)
        counts[result["status"]] += 1
        if result["status"] == "ACCEPT":
            await set_task_run_state(client, id, "COMPLETED", lease_id=lease)
        elif on_wait == "release":
            await client.execute("ReleaseTaskRuns", leaseIds=[lease], delaySeconds=30)
        if counts["ACCEPT"] + counts["WAIT"] == RUNS:
            is_decided.set()
        if counts["ACCEPT"] == RUNS:
            is_done.set()

    async def let_leases_lapse() -> None:
        """Let leases lapse once all runs have ended except those whose workers have received WAIT."""
        await is_decided.wait()
        while on_wait == "lapse" and counts["ACCEPT"] < RUNS:
            await let_lapse(server)

    workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
    lapsing = asyncio.create_task(let_leases_lapse())
    try:
        async with asyncio.timeout(60):
            await is_done.wait()
    finally:
        for task in (*workers, lapsing):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    assert counts["ACCEPT"] == RUNS
    assert counts["delivered"] <= 1.2 * RUNS
    states = await client.execute("CountTaskRuns", filter={"state": {"type": {"in": ["COMPLETED"]}}})
    assert states == RUNS

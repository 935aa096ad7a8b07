"""Unacknowledged deliveries are released at once when their subscription ends, for any reason."""

from collections.abc import Awaitable, Callable

import pytest

from tests.builders.queued_runs import create_many, lease_ids, run_ids
from tests.client import Client, Socket


async def complete(socket: Socket, id: str) -> None:
    await socket.send({"id": id, "type": "complete"})


async def close(socket: Socket, _id: str) -> None:
    await socket.connection.close()


async def abort(socket: Socket, _id: str) -> None:
    socket.connection.transport.abort()


@pytest.mark.parametrize("end", [complete, close, abort])
async def test_unacknowledged_runs_go_to_the_next_worker_before_newer_runs(
    client: Client, end: Callable[[Socket, str], Awaitable[None]]
) -> None:
    ids = await create_many(client, 3)
    async with client.socket() as leaving, client.socket() as staying:
        id = await leaving.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        first = await leaving.deliveries(2)
        await staying.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=3)
        assert run_ids(await staying.deliveries(1)) == ids[2:]

        await end(leaving, id)

        again = await staying.deliveries(2)
    assert run_ids(again) == run_ids(first) == ids[:2]
    assert [delivery["attempt"] for delivery in again] == [2, 2]
    assert set(lease_ids(again)).isdisjoint(lease_ids(first))


@pytest.mark.parametrize("end", [complete, close, abort])
async def test_an_acknowledged_run_stays_with_its_worker(
    client: Client, end: Callable[[Socket, str], Awaitable[None]]
) -> None:
    acknowledged, released = await create_many(client, 2)
    async with client.socket() as leaving, client.socket() as staying:
        id = await leaving.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        first, _ = await leaving.deliveries(2)
        await client.execute("AcknowledgeTaskRuns", leaseIds=[first["leaseId"]])

        await end(leaving, id)

        await staying.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        assert run_ids(await staying.deliveries(1)) == [released]
    state = {"type": "PENDING"}
    outcome = await client.execute("SetTaskRunState", id=acknowledged, leaseId=first["leaseId"], state=state)
    assert outcome["status"] == "ACCEPT"


async def test_a_lost_lease_changes_nothing(client: Client) -> None:
    (id,) = await create_many(client, 1)
    async with client.socket() as leaving:
        await leaving.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (old,) = await leaving.deliveries(1)
    async with client.socket() as staying:
        await staying.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (new,) = await staying.deliveries(1)

        outcome = await client.execute("SetTaskRunState", id=id, leaseId=old["leaseId"], state={"type": "PENDING"})
        forced = await client.execute(
            "SetTaskRunState", id=id, leaseId=old["leaseId"], state={"type": "COMPLETED"}, force=True
        )

        run = await client.execute("GetTaskRun", id=id)
        assert [(each["status"], each["stateCreated"]) for each in (outcome, forced)] == [("ABORT", False)] * 2
        assert [state["type"] for state in run["states"]] == ["SCHEDULED"]
        (result,) = (await client.execute("AcknowledgeTaskRuns", leaseIds=[new["leaseId"]]))["leases"]
        assert result["status"] == "HELD"

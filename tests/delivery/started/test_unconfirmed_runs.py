"""Started runs that no worker has confirmed: they are requeued as if they had not been started."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from db.runtime.timestamps import format_timestamp, seconds_between
from resolvers.delivery.claim import claim_due_runs
from tests.builders.api_runs import read_slot_holders, read_state_names, set_task_run_state
from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_ids
from tests.client import TIMEOUT_SECONDS, Client, Socket
from tests.serving import RunningServer, run_server

REQUEUED = ["Scheduled", "Running", "AwaitingRedelivery"]


async def claim(client: Client, task_key: str = "t", **arguments: Any) -> list[dict[str, Any]]:
    return (await client.execute("ClaimTaskRuns", taskKeys=[task_key], start=True, **arguments))["deliveries"]


async def subscribe(socket: Socket, prefetch: int = 1) -> str:
    return await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=prefetch, start=True)


async def let_expire(server: RunningServer, seconds: float = 30) -> None:
    server.clock.advance(seconds)
    await server.sweep()


async def wait_until_requeued(server: RunningServer, id: str) -> float:
    """Wait until the run is SCHEDULED without a lease and return the seconds until it is due."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (run := await server.client.execute("GetTaskRun", id=id))["stateType"] != "SCHEDULED":
            continue
    assert (run["stateName"], run["runCount"]) == ("AwaitingRedelivery", 0)
    entry = run["queueEntry"]
    assert (entry["isRetry"], entry["leaseExpiresAt"]) == (True, None)
    return seconds_between(format_timestamp(server.clock.now()), entry["availableAt"])


async def test_an_unconfirmed_run_is_requeued_without_counting_as_a_run(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client, retryPolicy={"retries": 1})
    (lost,) = await claim(client)

    await let_expire(server)

    assert await read_state_names(client, id) == REQUEUED
    assert await wait_until_requeued(server, id) == 0
    result = await set_task_run_state(client, id, "COMPLETED", lease_id=lost["leaseId"])
    assert result["status"] == "ABORT"
    (again,) = await claim(client)
    assert (again["attempt"], again["taskRun"]["runCount"]) == (2, 1)
    # The retry is unused.
    await set_task_run_state(client, id, "FAILED", lease_id=again["leaseId"])
    assert (await client.execute("GetTaskRun", id=id))["stateName"] == "AwaitingRetry"


async def test_a_confirmed_run_whose_lease_expires_has_lost_its_worker(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client)
    await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids(await claim(client)))

    await let_expire(server, 60)

    run = await client.execute("GetTaskRun", id=id)
    assert (run["stateType"], run["stateName"], run["runCount"]) == ("CRASHED", "WorkerLost", 1)


async def test_a_run_that_no_worker_confirms_is_delayed_then_undeliverable(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client)
    delays: list[float] = []

    for delay in (0, 5, 30, 120):
        assert run_ids(await claim(client)) == [id]
        await let_expire(server)
        delays.append(await wait_until_requeued(server, id))
        server.clock.advance(delay)
    assert run_ids(await claim(client)) == [id]
    await let_expire(server)

    assert delays == [0, 5, 30, 120]
    run = await client.execute("GetTaskRun", id=id)
    assert (run["stateType"], run["stateName"], run["queueEntry"]) == ("CRASHED", "Undeliverable", None)
    assert run["runCount"] == 0


async def test_each_unconfirmed_run_of_a_lost_connection_counts(server: RunningServer) -> None:
    client = server.client
    ids = await create_many(client, 3)

    for delay in (0, 5):
        async with client.socket() as socket:
            await subscribe(socket, 3)
            assert run_ids(await socket.deliveries(3)) == ids
            socket.connection.transport.abort()
        assert [await wait_until_requeued(server, id) for id in ids] == [delay] * 3


async def test_a_subscription_that_ends_in_order_counts_towards_nothing(server: RunningServer) -> None:
    client = server.client
    id = await create_scheduled(client)

    async with client.socket() as socket:
        for attempt in range(1, 8):
            subscription = await subscribe(socket)
            (delivery,) = await socket.deliveries(1)
            assert (delivery["attempt"], delivery["taskRun"]["runCount"]) == (attempt, 1)
            await socket.send({"id": subscription, "type": "complete"})
            assert await wait_until_requeued(server, id) == 0


async def test_a_server_that_stops_requeues_what_no_worker_confirmed(tmp_path: Path, database_url: str) -> None:
    async with run_server(tmp_path, database_url=database_url) as server, server.client.socket() as socket:
        confirmed, unconfirmed = await create_many(server.client, 2)
        await subscribe(socket, 2)
        held, _ = await socket.deliveries(2)
        await server.client.execute("AcknowledgeTaskRuns", leaseIds=[held["leaseId"]])
        await server.services.drain()
        assert await wait_until_requeued(server, unconfirmed) == 0

    async with run_server(tmp_path, database_url=database_url) as server, server.client.socket() as socket:
        await subscribe(socket)
        assert run_ids(await socket.deliveries(1)) == [unconfirmed]
        await server.services.drain()
        # A second lost worker would delay the run by 5 seconds.
        assert await wait_until_requeued(server, unconfirmed) == 0

    async with run_server(tmp_path, database_url=database_url) as server:
        assert await read_state_names(server.client, confirmed) == ["Scheduled", "Running"]
        result = await set_task_run_state(server.client, confirmed, "COMPLETED", lease_id=held["leaseId"])
        assert result["status"] == "ACCEPT"


@pytest.mark.parametrize("end", ["expire", "lose", "complete"])
async def test_the_slot_of_a_requeued_run_is_passed_on(server: RunningServer, end: str) -> None:
    client = server.client
    await client.execute("SetConcurrencyLimit", tag="scarce", limit=1)
    first = await create_scheduled(client, tags=["scarce"])
    second = await create_scheduled(client, "u", tags=["scarce"])
    async with client.socket() as socket:
        subscription = await subscribe(socket)
        assert run_ids(await socket.deliveries(1)) == [first]
        assert await claim(client, "u") == []
        waiting = asyncio.create_task(claim(client, "u", waitSeconds=60))
        await asyncio.wait_for(server.clock.wait_for_waiters(60, 1), TIMEOUT_SECONDS)

        if end == "expire":
            await let_expire(server)
        elif end == "lose":
            socket.connection.transport.abort()
        else:
            await socket.send({"id": subscription, "type": "complete"})

        assert run_ids(await asyncio.wait_for(waiting, TIMEOUT_SECONDS)) == [second]
    assert await read_slot_holders(client, "scarce") == [second]


@pytest.mark.parametrize("type", ["CANCELLING", "CANCELLED"])
async def test_an_unconfirmed_run_is_cancelled_at_once_and_its_lease_is_lost(client: Client, type: str) -> None:
    id = await create_scheduled(client)
    (delivery,) = await claim(client)

    await set_task_run_state(client, id, type)

    run = await client.execute("GetTaskRun", id=id)
    assert (run["stateType"], run["queueEntry"]) == ("CANCELLED", None)
    (result,) = (await client.execute("RenewTaskRunLeases", leaseIds=[delivery["leaseId"]]))["leases"]
    assert result["status"] == "LOST"


async def test_a_confirmed_run_is_asked_to_stop(client: Client) -> None:
    id = await create_scheduled(client)
    (delivery,) = await claim(client)
    await client.execute("AcknowledgeTaskRuns", leaseIds=[delivery["leaseId"]])

    await set_task_run_state(client, id, "CANCELLING")

    assert (await client.execute("GetTaskRun", id=id))["stateType"] == "CANCELLING"
    (result,) = (await client.execute("RenewTaskRunLeases", leaseIds=[delivery["leaseId"]]))["leases"]
    assert (result["status"], result["cancelRequested"]) == ("HELD", True)


async def test_a_claim_whose_client_has_gone_when_it_commits_counts_towards_nothing(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, database = server.client, server.services.database
    id = await create_scheduled(client)
    write = database.write
    committed, client_is_gone = asyncio.Event(), asyncio.Event()

    async def write_and_wait(operation: Any, item: Any) -> Any:
        result = await write(operation, item)
        if operation is claim_due_runs and result.deliveries:
            committed.set()
            await client_is_gone.wait()
        return result

    monkeypatch.setattr(database, "write", write_and_wait)
    for _ in range(3):
        request = asyncio.create_task(claim(client))
        await asyncio.wait_for(committed.wait(), TIMEOUT_SECONDS)
        request.cancel()
        await asyncio.wait({request})
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while server.services.dispatcher.subscriber_counts():
                await client.http.get("/healthz")
        client_is_gone.set()
        assert await wait_until_requeued(server, id) == 0
        committed.clear()
        client_is_gone.clear()
    monkeypatch.undo()

    (delivery,) = await claim(client)
    assert (delivery["taskRun"]["id"], delivery["attempt"], delivery["taskRun"]["runCount"]) == (id, 4, 1)

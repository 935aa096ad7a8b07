"""workers: who is connected, and who holds leases."""

import asyncio
from pathlib import Path
from typing import Any

from db.runtime.clock import SystemClock
from resolvers.delivery import connected_workers
from resolvers.delivery.connected_workers import ConnectedWorkers, WorkerConnection
from resolvers.delivery.heartbeats import ServerHeartbeat, record_heartbeats
from tests.builders.queued_runs import create_many, lease_ids
from tests.client import TIMEOUT_SECONDS, Client
from tests.clock import ManualClock
from tests.serving import POSTGRESQL_ONLY, SQLITE_ONLY, RunningServer, run_server

HEARTBEAT_SECONDS = 5.0


async def claim(client: Client, worker_name: str | None, task_key: str = "t", limit: int = 1) -> list[str]:
    """Claim runs and return the ids of their leases."""
    claimed = await client.execute("ClaimTaskRuns", taskKeys=[task_key], limit=limit, workerName=worker_name)
    return lease_ids(claimed["deliveries"])


def row(name: str | None, **changed: Any) -> dict[str, Any]:
    """Return a worker without its ids."""
    leases = {"leaseCount": 0, "oldestLeaseExpiresAt": None}
    return {"name": name, "taskKeys": ["t"], **leases, "isConnected": True} | changed


async def list_workers(client: Client, task_keys: list[str] | None = None) -> list[dict[str, Any]]:
    """Return the workers without their ids."""
    found = await client.execute("ListWorkers", taskKeys=task_keys)
    return [{name: value for name, value in each.items() if name not in ("id", "serverId")} for each in found]


async def test_a_new_server_has_no_workers(client: Client) -> None:
    assert await client.execute("ListWorkers") == []


async def test_a_subscription_is_listed_while_it_is_open(server: RunningServer) -> None:
    async with server.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["b", "a"], workerName="mill")
        await server.clock.wait_for_waiter(15)
        during = await list_workers(server.client)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while await server.client.execute("ListWorkers"):
            continue

    assert during == [row("mill", taskKeys=["a", "b"])]


async def test_a_claim_counts_as_connected_for_a_minute(server: RunningServer) -> None:
    await claim(server.client, "mill")

    server.clock.advance(60)
    before = await list_workers(server.client)
    server.clock.advance(0.001)

    assert before == [row("mill")]
    assert await list_workers(server.client) == []


async def test_an_exchange_counts_as_connected(client: Client) -> None:
    await client.execute(
        "ExchangeTaskRuns", reports=[], renew=[], claim={"taskKeys": ["t"], "workerName": "mill", "limit": 1}
    )

    assert await list_workers(client) == [row("mill")]


async def test_leases_are_counted_by_worker_with_the_first_expiry(server: RunningServer) -> None:
    client = server.client
    await create_many(client, 2, "a")
    await create_many(client, 1, "b")
    for key, lease_seconds in (("a", 120), ("a", 100), ("b", 110)):
        leases = await claim(client, "mill", key)
        await client.execute("RenewTaskRunLeases", leaseIds=leases, leaseSeconds=lease_seconds)
    server.clock.advance(61)

    workers = await list_workers(client)

    expected = {"leaseCount": 3, "oldestLeaseExpiresAt": "2030-01-01T12:01:40.000000Z", "isConnected": False}
    assert workers == [row("mill", taskKeys=["a", "b"], **expected)]


async def test_workers_are_sorted_by_name_and_those_without_one_are_last(client: Client) -> None:
    for name in ("b", None, "a", "Z", None):
        await claim(client, name)

    workers = await client.execute("ListWorkers")

    assert [each["name"] for each in workers] == ["Z", "a", "b", None]
    assert len({each["id"] for each in workers}) == 4
    assert len({each["serverId"] for each in workers}) == 1


async def test_a_filter_by_task_keys_ignores_the_others(client: Client) -> None:
    await create_many(client, 1, "a")
    await create_many(client, 2, "b")
    for key in ("a", "b", "b"):
        await claim(client, "mill", key)
    await claim(client, "other", "c")

    workers = await list_workers(client, ["b", "nowhere"])

    assert workers == [row("mill", taskKeys=["b"], leaseCount=2, oldestLeaseExpiresAt="2030-01-01T12:00:30.000000Z")]
    assert await list_workers(client, []) == []


@SQLITE_ONLY
async def test_workers_cost_one_statement(server: RunningServer) -> None:
    await create_many(server.client, 3)
    for name in ("a", "b", "c"):
        await claim(server.client, name)

    async with server.record_reads() as statements:
        await server.client.execute("ListWorkers")

    assert len(statements) == 1


@SQLITE_ONLY
async def test_more_than_a_thousand_keys_are_refused(client: Client) -> None:
    error = await client.execute_refused("ListWorkers", taskKeys=["t"] * 1001)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "taskKeys")


@POSTGRESQL_ONLY
async def test_workers_of_other_servers_are_listed_until_they_stop(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    options: dict[str, Any] = {"database_url": database_url, "heartbeat_seconds": HEARTBEAT_SECONDS}
    async with run_server(tmp_path, clock, **options) as here:
        async with run_server(tmp_path, clock, **options) as there, there.client.socket() as socket:
            await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], workerName="mill")
            await clock.wait_for_waiter(15)
            clock.advance(HEARTBEAT_SECONDS)
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while not (listed := await here.client.execute("ListWorkers")):
                    continue
            (seen_there,) = await there.client.execute("ListWorkers")

        assert listed == [seen_there]
        assert await here.client.execute("ListWorkers") == []


@POSTGRESQL_ONLY
async def test_workers_of_a_server_that_is_gone_are_not_listed(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    async with run_server(tmp_path, clock, database_url=database_url, heartbeat_seconds=HEARTBEAT_SECONDS) as here:
        gone = ConnectedWorkers(clock, heartbeat_seconds=HEARTBEAT_SECONDS)
        gone.connect(WorkerConnection("mill", frozenset({"t"})))
        await here.services.database.write(record_heartbeats, ServerHeartbeat(gone.server_id, gone.serialize()))
        before = await list_workers(here.client)
        for _ in range(4):
            clock.advance(HEARTBEAT_SECONDS)

        assert before == [row("mill")]
        assert await list_workers(here.client) == []


def test_what_is_remembered_of_ended_claims_is_limited() -> None:
    connected = ConnectedWorkers(SystemClock(), heartbeat_seconds=HEARTBEAT_SECONDS)
    for number in range(connected_workers.MAX_RECENT_WORKERS + 1):
        connected.record_claim(WorkerConnection(f"w{number}", frozenset({"t"})))
    by_number = [each.name for each in connected.connections()]

    keys = frozenset(f"key {number}" for number in range(connected_workers.MAX_RECENT_KEYS))
    connected.record_claim(WorkerConnection("many keys", keys))

    assert (len(by_number), by_number[0]) == (connected_workers.MAX_RECENT_WORKERS, "w1")
    assert [each.name for each in connected.connections()] == ["many keys"]

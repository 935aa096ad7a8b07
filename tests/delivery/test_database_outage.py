"""Database outages: servers and subscriptions recover without a restart, and no write or lease is lost.

The tests stop and freeze a dedicated PostgreSQL server.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_ids, run_under_lease
from tests.client import Client
from tests.clock import START, ManualClock
from tests.postgresql import DedicatedPostgreSQL, dedicated_postgresql
from tests.serving import RunningServer, run_server

UNAVAILABLE = ("UNAVAILABLE", True)


@pytest.fixture(scope="module")
def postgresql_server() -> Iterator[DedicatedPostgreSQL]:
    with dedicated_postgresql() as server:
        yield server


@pytest.fixture
def url(postgresql_server: DedicatedPostgreSQL) -> str:
    return postgresql_server.make()


async def stop(postgresql_server: DedicatedPostgreSQL) -> None:
    await asyncio.to_thread(postgresql_server.stop)


async def start(postgresql_server: DedicatedPostgreSQL) -> None:
    await asyncio.to_thread(postgresql_server.start)


async def refusal_code(client: Client, operation: str, **variables: Any) -> tuple[str, bool]:
    refused = await client.execute_refused(operation, **variables)
    return refused["code"], refused["retryable"]


async def create_running(client: Client) -> tuple[str, str]:
    """Create a run that is RUNNING under a lease and return the ids of both."""
    await create_scheduled(client)
    return await run_under_lease(client, "RUNNING")


async def lease_expiry(server: RunningServer, id: str) -> str:
    return (await server.client.execute("GetTaskRun", id=id))["queueEntry"]["leaseExpiresAt"]


async def test_requests_fail_as_retryable_during_an_outage_and_succeed_afterwards(
    postgresql_server: DedicatedPostgreSQL, url: str, tmp_path: Path
) -> None:
    async with run_server(tmp_path, database_url=url) as server:
        client = server.client
        (id,) = await create_many(client, 1)

        await stop(postgresql_server)

        refusals = [
            await refusal_code(client, "GetTaskRun", id=id),
            await refusal_code(client, "CreateTaskRun", input={"taskKey": "t"}),
            await refusal_code(client, "SetTaskRunState", id=id, state={"type": "PENDING"}),
        ]
        health = [(await client.http.get(path)).status_code for path in ("/healthz", "/readyz")]
        await start(postgresql_server)
        assert refusals == [UNAVAILABLE] * 3
        assert health == [200, 503]
        outcome = await client.execute("SetTaskRunState", id=id, state={"type": "PENDING"})
        assert outcome["status"] == "ACCEPT"
        assert (await client.execute("ListTaskRuns"))["totalCount"] == 1
        assert (await client.http.get("/readyz")).status_code == 200


async def test_a_subscription_survives_an_outage_and_continues(
    postgresql_server: DedicatedPostgreSQL, url: str, tmp_path: Path
) -> None:
    async with run_server(tmp_path, database_url=url) as server, server.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        first = await create_scheduled(server.client)
        delivered = await socket.deliveries(1)

        await stop(postgresql_server)
        assert await refusal_code(server.client, "CreateTaskRun", input={"taskKey": "t"}) == UNAVAILABLE
        await start(postgresql_server)

        second = await create_scheduled(server.client)
        (again,) = await socket.deliveries(1)
        assert run_ids([*delivered, again]) == [first, second]
        results = (await server.client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids([*delivered, again])))[
            "leases"
        ]
        assert [result["status"] for result in results] == ["HELD", "HELD"]


async def test_confirmed_writes_survive_an_outage_and_retries_create_no_duplicates(
    postgresql_server: DedicatedPostgreSQL, url: str, tmp_path: Path
) -> None:
    enough, back = asyncio.Event(), asyncio.Event()
    confirmed: dict[str, str] = {}
    refusals: list[tuple[str, bool]] = []

    async def write(client: Client, writer: int) -> None:
        """Create runs, retrying each until it succeeds, until one has failed and the database is back."""
        number = 0
        while not (back.is_set() and refusals):
            key = f"{writer}-{number}"
            response = await client.send("CreateTaskRun", input={"taskKey": "t", "dynamicKey": key})
            if "errors" in response:
                extensions = response["errors"][0]["extensions"]
                refusals.append((extensions["code"], extensions["retryable"]))
                await back.wait()
                continue
            confirmed[key] = response["data"]["createTaskRun"]["taskRun"]["id"]
            number += 1
            if len(confirmed) >= 50:
                enough.set()

    async with run_server(tmp_path, database_url=url) as server:
        writers = [asyncio.create_task(write(server.client, number)) for number in range(8)]
        await enough.wait()
        await stop(postgresql_server)
        await start(postgresql_server)
        # Writers that saw no error continue until any writer has seen one.
        back.set()
        await asyncio.gather(*writers)

        page = await server.client.execute("ListTaskRuns", first=1000)
        found = {node["id"] for node in page["nodes"]}
        assert set(refusals) == {UNAVAILABLE}
        assert page["totalCount"] == len(found) < 1000
        assert set(confirmed.values()) <= found
        again = [
            await server.client.execute("CreateTaskRun", input={"taskKey": "t", "dynamicKey": key}) for key in confirmed
        ]
        assert [payload["taskRun"]["id"] for payload in again] == list(confirmed.values())


async def test_requests_to_an_unresponsive_database_fail_within_its_timeout(
    postgresql_server: DedicatedPostgreSQL, url: str, tmp_path: Path
) -> None:
    timeout_seconds = 1.0
    settings = {"database_url": url, "database_timeout_seconds": timeout_seconds, "database_connections": 3}
    async with run_server(tmp_path, **settings) as server:
        client = server.client
        (id,) = await create_many(client, 1)
        postgresql_server.freeze()
        try:
            asked_at = time.monotonic()
            first = await refusal_code(client, "GetTaskRun", id=id)
            took_alone = time.monotonic() - asked_at
            asked_at = time.monotonic()
            reads = [refusal_code(client, "GetTaskRun", id=id) for _ in range(10)]
            writes = [refusal_code(client, "CreateTaskRun", input={"taskKey": "t"}) for _ in range(10)]
            refusals = await asyncio.gather(*reads, *writes)
            took = time.monotonic() - asked_at
        finally:
            postgresql_server.thaw()

        assert [first, *refusals] == [UNAVAILABLE] * 21
        # One after the other on three connections, they would take seven times as long as one alone.
        assert timeout_seconds <= took_alone
        assert took < 5 * took_alone
        outcome = await client.execute("SetTaskRunState", id=id, state={"type": "PENDING"})
        assert outcome["status"] == "ACCEPT"
        assert (await client.execute("ListTaskRuns"))["totalCount"] == 1


async def test_a_lease_that_expired_in_an_outage_is_extended_by_its_duration(
    postgresql_server: DedicatedPostgreSQL, url: str, tmp_path: Path
) -> None:
    async with run_server(tmp_path, database_url=url) as server:
        client, clock = server.client, server.clock
        renewed_run, renewed_lease = await create_running(client)
        silent_run, silent_lease = await create_running(client)

        await stop(postgresql_server)
        clock.advance(90)
        assert await refusal_code(client, "RenewTaskRunLeases", leaseIds=[renewed_lease]) == UNAVAILABLE
        await start(postgresql_server)

        await server.sweep()
        (renewed,) = (await client.execute("RenewTaskRunLeases", leaseIds=[renewed_lease]))["leases"]
        assert (renewed["status"], renewed["leaseExpiresAt"]) == ("HELD", "2030-01-01T12:02:30.000000Z")
        assert await lease_expiry(server, silent_run) == "2030-01-01T12:02:30.000000Z"
        clock.advance(59)
        await client.execute("RenewTaskRunLeases", leaseIds=[renewed_lease])
        clock.advance(1)
        await server.sweep()
        states = [(await client.execute("GetTaskRun", id=id))["stateName"] for id in (renewed_run, silent_run)]
        assert states == ["Running", "WorkerLost"]
        (lost,) = (await client.execute("RenewTaskRunLeases", leaseIds=[silent_lease]))["leases"]
        assert lost["status"] == "LOST"


async def test_a_lease_that_did_not_expire_in_an_outage_is_extended_by_the_outage(
    postgresql_server: DedicatedPostgreSQL, url: str, tmp_path: Path
) -> None:
    async with run_server(tmp_path, database_url=url) as server:
        id, _ = await create_running(server.client)
        server.clock.advance(10)
        await create_scheduled(server.client, "another")

        await stop(postgresql_server)
        server.clock.advance(19)
        assert await refusal_code(server.client, "GetTaskRun", id=id) == UNAVAILABLE
        await start(postgresql_server)

        await create_scheduled(server.client, "another")
        assert await lease_expiry(server, id) == "2030-01-01T12:01:19.000000Z"


async def test_a_server_started_after_an_outage_extends_leases_once(
    postgresql_server: DedicatedPostgreSQL, url: str, tmp_path: Path
) -> None:
    settings = {"database_url": url, "heartbeat_seconds": 5.0}
    start_time = START + timedelta(seconds=100)
    async with run_server(tmp_path, **settings) as before:
        id, lease = await create_running(before.client)

    await stop(postgresql_server)
    await start(postgresql_server)

    async with run_server(tmp_path, ManualClock(start_time), **settings) as after:
        (renewed,) = (await after.client.execute("RenewTaskRunLeases", leaseIds=[lease]))["leases"]
        assert (renewed["status"], renewed["leaseExpiresAt"]) == ("HELD", "2030-01-01T12:02:40.000000Z")
        later = ManualClock(start_time + timedelta(seconds=10))
        async with run_server(tmp_path, later, **settings) as newcomer:
            await create_scheduled(newcomer.client, "another")
            assert await lease_expiry(newcomer, id) == "2030-01-01T12:02:40.000000Z"


async def test_two_servers_reclaim_each_lost_run_once_after_an_outage(
    postgresql_server: DedicatedPostgreSQL, url: str, tmp_path: Path
) -> None:
    clock = ManualClock()
    async with (
        run_server(tmp_path, clock, database_url=url) as here,
        run_server(tmp_path, clock, database_url=url) as there,
    ):
        ids = [(await create_running(here.client))[0] for _ in range(5)]

        await stop(postgresql_server)
        clock.advance(60)
        await start(postgresql_server)
        await asyncio.gather(here.sweep(), there.sweep())
        held = [await lease_expiry(here, id) for id in ids]
        clock.advance(60)
        await asyncio.gather(here.sweep(), there.sweep())

        assert held == ["2030-01-01T12:02:00.000000Z"] * 5
        runs = [await there.client.execute("GetTaskRun", id=id) for id in ids]
        assert Counter(state["name"] for run in runs for state in run["states"])["WorkerLost"] == 5

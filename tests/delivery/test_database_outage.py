"""The database goes away and comes back: nobody needs a restart, nothing is lost, and nobody loses a lease by it.

On a PostgreSQL of this file's own, which is really stopped and frozen.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_ids
from tests.client import Client
from tests.clock import ManualClock
from tests.postgresql import OwnPostgreSQL, own_postgresql
from tests.serving import Serving, serving

UNAVAILABLE = ("UNAVAILABLE", True)


@pytest.fixture(scope="module")
def own_server() -> Iterator[OwnPostgreSQL]:
    with own_postgresql() as server:
        yield server


@pytest.fixture
def url(own_server: OwnPostgreSQL) -> str:
    return own_server.make()


async def stop(own_server: OwnPostgreSQL) -> None:
    await asyncio.to_thread(own_server.stop)


async def start(own_server: OwnPostgreSQL) -> None:
    await asyncio.to_thread(own_server.start)


async def refusal_of(client: Client, operation: str, **variables: Any) -> tuple[str, bool]:
    refused = await client.refused(operation, **variables)
    return refused["code"], refused["retryable"]


async def take(client: Client, lease_seconds: float = 60) -> tuple[str, str]:
    """A run that runs at a worker, and its lease."""
    id = await create_scheduled(client)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], leaseSeconds=lease_seconds)
        (delivery,) = await socket.deliveries(1)
        lease = delivery["leaseId"]
        outcome = await client.ask("SetTaskRunState", id=id, leaseId=lease, state={"type": "RUNNING"})
        assert outcome["status"] == "ACCEPT"
    return id, lease


async def expiry_of(server: Serving, id: str) -> str:
    return (await server.client.ask("GetTaskRun", id=id))["queueEntry"]["leaseExpiresAt"]


async def test_requests_are_told_to_try_again_while_it_is_away_and_are_served_when_it_is_back(
    own_server: OwnPostgreSQL, url: str, tmp_path: Path
) -> None:
    async with serving(tmp_path, database_url=url) as server:
        client = server.client
        (id,) = await create_many(client, 1)

        await stop(own_server)

        refusals = [
            await refusal_of(client, "GetTaskRun", id=id),
            await refusal_of(client, "CreateTaskRun", input={"taskKey": "t"}),
            await refusal_of(client, "SetTaskRunState", id=id, state={"type": "PENDING"}),
        ]
        health = [(await client.http.get(path)).status_code for path in ("/healthz", "/readyz")]
        await start(own_server)
        assert refusals == [UNAVAILABLE] * 3
        assert health == [200, 503]
        outcome = await client.ask("SetTaskRunState", id=id, state={"type": "PENDING"})
        assert outcome["status"] == "ACCEPT"
        assert (await client.ask("ListTaskRuns"))["totalCount"] == 1
        assert (await client.http.get("/readyz")).status_code == 200


async def test_a_subscription_stays_and_goes_on_when_it_is_back(
    own_server: OwnPostgreSQL, url: str, tmp_path: Path
) -> None:
    async with serving(tmp_path, database_url=url) as server, server.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        first = await create_scheduled(server.client)
        delivered = await socket.deliveries(1)

        await stop(own_server)
        assert await refusal_of(server.client, "CreateTaskRun", input={"taskKey": "t"}) == UNAVAILABLE
        await start(own_server)

        second = await create_scheduled(server.client)
        (again,) = await socket.deliveries(1)
        assert run_ids([*delivered, again]) == [first, second]
        results = await server.client.ask("AcknowledgeTaskRuns", leaseIds=lease_ids([*delivered, again]))
        assert [result["status"] for result in results] == ["HELD", "HELD"]


async def test_what_was_answered_is_there_and_asking_again_for_the_rest_makes_nothing_twice(
    own_server: OwnPostgreSQL, url: str, tmp_path: Path
) -> None:
    enough, back = asyncio.Event(), asyncio.Event()
    answered: dict[str, str] = {}
    refusals: list[tuple[str, bool]] = []

    async def write(client: Client, writer: int) -> None:
        """Create runs until the database has been away and one more is created; each is asked for until it is answered."""
        number = 0
        while not (back.is_set() and refusals):
            key = f"{writer}-{number}"
            answer = await client.send("CreateTaskRun", input={"taskKey": "t", "dynamicKey": key})
            if "errors" in answer:
                extensions = answer["errors"][0]["extensions"]
                refusals.append((extensions["code"], extensions["retryable"]))
                await back.wait()
                continue
            answered[key] = answer["data"]["createTaskRun"]["taskRun"]["id"]
            number += 1
            if len(answered) >= 50:
                enough.set()

    async with serving(tmp_path, database_url=url) as server:
        writers = [asyncio.create_task(write(server.client, number)) for number in range(8)]
        await enough.wait()
        await stop(own_server)
        await start(own_server)
        # Whoever met nothing of the outage goes on until somebody has.
        back.set()
        await asyncio.gather(*writers)

        page = await server.client.ask("ListTaskRuns", first=1000)
        found = {node["id"] for node in page["nodes"]}
        assert set(refusals) == {UNAVAILABLE}
        assert page["totalCount"] == len(found) < 1000
        assert set(answered.values()) <= found
        again = [
            await server.client.ask("CreateTaskRun", input={"taskKey": "t", "dynamicKey": key}) for key in answered
        ]
        assert [payload["taskRun"]["id"] for payload in again] == list(answered.values())


async def test_a_database_that_does_not_answer_holds_nobody_up_for_longer_than_its_time_out(
    own_server: OwnPostgreSQL, url: str, tmp_path: Path
) -> None:
    timeout_seconds = 1.0
    settings = {"database_url": url, "database_timeout_seconds": timeout_seconds, "database_connections": 3}
    async with serving(tmp_path, **settings) as server:
        client = server.client
        (id,) = await create_many(client, 1)
        own_server.freeze()
        try:
            asked_at = time.monotonic()
            reads = [refusal_of(client, "GetTaskRun", id=id) for _ in range(10)]
            writes = [refusal_of(client, "CreateTaskRun", input={"taskKey": "t"}) for _ in range(10)]
            refusals = await asyncio.gather(*reads, *writes)
            took = time.monotonic() - asked_at
        finally:
            own_server.thaw()

        assert refusals == [UNAVAILABLE] * 20
        # One after another on three connections, they would take seven times as long.
        assert timeout_seconds <= took < 5 * timeout_seconds
        outcome = await client.ask("SetTaskRunState", id=id, state={"type": "PENDING"})
        assert outcome["status"] == "ACCEPT"
        assert (await client.ask("ListTaskRuns"))["totalCount"] == 1


async def test_a_lease_that_ran_out_meanwhile_is_still_its_worker_s_for_one_lease_time(
    own_server: OwnPostgreSQL, url: str, tmp_path: Path
) -> None:
    async with serving(tmp_path, database_url=url) as server:
        client, clock = server.client, server.clock
        renewed_run, renewed_lease = await take(client)
        silent_run, silent_lease = await take(client)

        await stop(own_server)
        clock.advance(90)
        assert await refusal_of(client, "RenewTaskRunLeases", leaseIds=[renewed_lease]) == UNAVAILABLE
        await start(own_server)

        await server.sweep()
        (renewed,) = await client.ask("RenewTaskRunLeases", leaseIds=[renewed_lease])
        assert (renewed["status"], renewed["leaseExpiresAt"]) == ("HELD", "2030-01-01T12:02:30.000000Z")
        assert await expiry_of(server, silent_run) == "2030-01-01T12:02:30.000000Z"
        clock.advance(59)
        await client.ask("RenewTaskRunLeases", leaseIds=[renewed_lease])
        clock.advance(1)
        await server.sweep()
        states = [(await client.ask("GetTaskRun", id=id))["stateName"] for id in (renewed_run, silent_run)]
        assert states == ["Running", "WorkerLost"]
        (lost,) = await client.ask("RenewTaskRunLeases", leaseIds=[silent_lease])
        assert lost["status"] == "LOST"


async def test_an_outage_of_less_than_a_beat_lets_no_lease_run_on(
    own_server: OwnPostgreSQL, url: str, tmp_path: Path
) -> None:
    async with serving(tmp_path, database_url=url) as server:
        id, _ = await take(server.client)
        before = await expiry_of(server, id)

        await stop(own_server)
        server.clock.advance(19)
        await start(own_server)

        await create_scheduled(server.client, "another")
        assert await expiry_of(server, id) == before == "2030-01-01T12:01:00.000000Z"


async def test_a_server_that_comes_up_together_with_it_lets_leases_from_before_run_on(
    own_server: OwnPostgreSQL, url: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    async with serving(tmp_path, ManualClock(now - timedelta(seconds=100)), database_url=url) as before:
        id, lease = await take(before.client)

    await stop(own_server)
    await start(own_server)

    later = datetime.now(UTC)
    async with serving(tmp_path, ManualClock(later), database_url=url) as after:
        (renewed,) = await after.client.ask("RenewTaskRunLeases", leaseIds=[lease])
        assert renewed["status"] == "HELD"
        # A second newcomer finds nothing to do: what counts is when the database came up.
        first = await expiry_of(after, id)
        async with serving(tmp_path, ManualClock(later + timedelta(seconds=30)), database_url=url) as newcomer:
            await create_scheduled(newcomer.client, "another")
            assert await expiry_of(newcomer, id) == first


async def test_two_servers_see_to_it_together_and_take_each_lost_run_back_once(
    own_server: OwnPostgreSQL, url: str, tmp_path: Path
) -> None:
    clock = ManualClock()
    async with serving(tmp_path, clock, database_url=url) as here, serving(tmp_path, clock, database_url=url) as there:
        ids = [(await take(here.client))[0] for _ in range(5)]

        await stop(own_server)
        clock.advance(60)
        await start(own_server)
        await asyncio.gather(here.sweep(), there.sweep())
        held = [await expiry_of(here, id) for id in ids]
        clock.advance(60)
        await asyncio.gather(here.sweep(), there.sweep())

        assert held == ["2030-01-01T12:02:00.000000Z"] * 5
        runs = [await there.client.ask("GetTaskRun", id=id) for id in ids]
        assert Counter(state["name"] for run in runs for state in run["states"])["WorkerLost"] == 5

"""Several servers on one PostgreSQL behave as one."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_ids
from tests.client import PATIENCE, Client
from tests.clock import ManualClock
from tests.serving import Serving, serving

RUNS = 60
LIMIT = 2


@pytest.fixture
def database_kind() -> str:
    """SQLite has one server."""
    return "postgresql"


@pytest.fixture
async def replicas(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[Serving, Serving]]:
    """Two servers on one database, whose clocks stand still."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(serving(tmp_path, database_url=database_url))
        yield first, await stack.enter_async_context(serving(tmp_path, database_url=database_url))


async def test_a_run_created_at_one_server_is_delivered_by_another(replicas: tuple[Serving, Serving]) -> None:
    here, there = replicas
    async with there.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1)

        id = await create_scheduled(here.client)

        # The clocks stand still, so that no poll can have found it.
        assert run_ids(await socket.deliveries(1)) == [id]


async def test_each_run_is_delivered_once_however_many_servers_claim(replicas: tuple[Serving, Serving]) -> None:
    here, there = replicas
    async with here.client.socket() as one, there.client.socket() as other:
        for socket in (one, other):
            await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=RUNS // 2)

        ids = await create_many(here.client, RUNS)

        delivered = await asyncio.gather(one.deliveries(RUNS // 2), other.deliveries(RUNS // 2))
    assert Counter(run_ids([*delivered[0], *delivered[1]])) == Counter(ids)


async def test_a_lease_can_be_acknowledged_at_another_server_and_brings_the_next_run(
    replicas: tuple[Serving, Serving],
) -> None:
    here, there = replicas
    ids = await create_many(here.client, 2)
    async with here.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1)
        first = await socket.deliveries(1)

        results = await there.client.ask("AcknowledgeTaskRuns", leaseIds=lease_ids(first))

        assert [result["status"] for result in results] == ["HELD"]
        assert run_ids([*first, *await socket.deliveries(1)]) == ids


async def test_credit_that_was_returned_elsewhere_unheard_is_found_once_the_server_listens_again(
    replicas: tuple[Serving, Serving], database_url: str
) -> None:
    here, _ = replicas
    ids = await create_many(here.client, 2)
    async with here.client.socket() as socket, connected(database_url) as database:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1)
        first = await socket.deliveries(1)
        # As if another server had said so while nobody could listen.
        await database.execute("UPDATE queue_entry SET is_acknowledged = true WHERE lease_id IS NOT NULL")

        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

        assert run_ids([*first, *await socket.deliveries(1)]) == ids


async def test_a_server_that_joins_changes_no_lease(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock(datetime.now(UTC))
    async with serving(tmp_path, clock, database_url=database_url) as first, first.client.socket() as socket:
        (id,) = await create_many(first.client, 1)
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)
        (held,) = await first.client.ask("AcknowledgeTaskRuns", leaseIds=[delivery["leaseId"]])
        clock.advance(59)

        async with serving(tmp_path, clock, database_url=database_url) as second:
            await create_many(second.client, 1, "another")
            entry = (await second.client.ask("GetTaskRun", id=id))["queueEntry"]

    assert entry["leaseExpiresAt"] == held["leaseExpiresAt"]


@pytest.mark.parametrize(("chance", "looks_again_after", "then_after"), [(0, 2.5, 2.0), (0.5, 3.75, 0.5)])
async def test_each_server_looks_for_lost_leases_at_a_moment_of_its_own(
    database_url: str, tmp_path: Path, chance: float, looks_again_after: float, then_after: float
) -> None:
    async with serving(tmp_path, chance=chance, database_url=database_url, acknowledge_seconds=4) as server:
        await create_many(server.client, 1)
        async with server.client.socket() as socket:
            await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
            await socket.deliveries(1)
            await asyncio.wait_for(server.clock.somebody_waits(looks_again_after), PATIENCE)

            server.clock.advance(looks_again_after)

            # The lease runs out after four seconds.
            await asyncio.wait_for(server.clock.somebody_waits(then_after), PATIENCE)


async def test_notices_go_at_once_after_a_silence_and_then_together(
    replicas: tuple[Serving, Serving], database_url: str
) -> None:
    here, _ = replicas
    heard: asyncio.Queue[tuple[float, list[str]]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def hear(_connection: object, _process: int, _channel: str, payload: str) -> None:
        # Word of new states goes with it, or a little later by itself.
        if keys := [value for kind, value in orjson.loads(payload)[1:] if kind == "w"]:
            heard.put_nowait((loop.time(), keys))

    async with connected(database_url) as database:
        await database.add_listener("runyard", hear)
        told: list[tuple[float, list[str]]] = []
        began_at = loop.time()
        created = asyncio.create_task(create_one_by_one(here.client, [f"key-{number}" for number in range(100)]))
        while sum(len(keys) for _, keys in told) < 100:
            told.append(await asyncio.wait_for(heard.get(), PATIENCE))
        await created
        elapsed = loop.time() - began_at

    assert sorted(key for _, keys in told for key in keys) == sorted(f"key-{number}" for number in range(100))
    assert len(told) <= elapsed / 0.02 + 1
    assert told[0][1] == ["key-0"]


async def create_one_by_one(client: Client, keys: list[str]) -> None:
    for key in keys:
        await create_scheduled(client, key)


@asynccontextmanager
async def connected(database_url: str) -> AsyncIterator[Any]:
    """A connection to the database, beside the servers."""
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_one_transition_that_is_reported_to_two_servers_at_once_is_made_once(
    replicas: tuple[Serving, Serving],
) -> None:
    here, there = replicas
    id = (await here.client.ask("CreateTaskRun", input={"taskKey": "t"}))["taskRun"]["id"]
    state = {"type": "RUNNING", "details": {"transitionId": "01a206b2-304f-7000-b2ee-99ddb7de4877"}}

    results = await asyncio.gather(
        *(server.client.ask("SetTaskRunState", id=id, state=state) for server in replicas for _ in range(8))
    )

    assert Counter(result["created"] for result in results) == {True: 1, False: 15}
    assert {result["status"] for result in results} == {"ACCEPT"}
    run = await there.client.ask("GetTaskRun", id=id)
    assert [each["type"] for each in run["states"]] == ["PENDING", "RUNNING"]


async def test_one_key_that_is_created_at_two_servers_at_once_makes_one_run(replicas: tuple[Serving, Serving]) -> None:
    input = {"taskKey": "t", "dynamicKey": "only"}

    payloads = await asyncio.gather(
        *(server.client.ask("CreateTaskRun", input=input) for server in replicas for _ in range(8))
    )

    assert Counter(payload["created"] for payload in payloads) == {True: 1, False: 15}
    assert len({payload["taskRun"]["id"] for payload in payloads}) == 1


async def test_a_limit_holds_over_both_servers(replicas: tuple[Serving, Serving]) -> None:
    here, there = replicas
    await here.client.ask("CreateConcurrencyLimit", tag="db", limit=LIMIT)
    payloads = await here.client.ask("CreateTaskRuns", inputs=[{"taskKey": "t", "tags": ["db"]}] * 20)

    async def run(client: Client, id: str) -> str:
        return (await client.ask("SetTaskRunState", id=id, state={"type": "RUNNING"}))["status"]

    statuses = await asyncio.gather(
        *(run(replicas[place % 2].client, payload["taskRun"]["id"]) for place, payload in enumerate(payloads))
    )

    assert Counter(statuses) == {"ACCEPT": LIMIT, "WAIT": 20 - LIMIT}
    assert len((await there.client.ask("GetConcurrencyLimit", tag="db"))["activeSlots"]) == LIMIT


async def test_servers_that_take_turns_in_filling_a_queue_stop_at_its_bound(database_url: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(serving(tmp_path, database_url=database_url, max_scheduled_per_key=10))
            for _ in range(2)
        ]
        input = {"taskKey": "t", "state": {"type": "SCHEDULED"}}

        answers = [await servers[place % 2].client.send("CreateTaskRun", input=input) for place in range(14)]

    assert ["errors" in answer for answer in answers] == [False] * 10 + [True] * 4


async def test_a_run_that_is_created_at_one_server_answers_a_claim_that_waits_at_another(
    replicas: tuple[Serving, Serving],
) -> None:
    here, there = replicas
    waiting = asyncio.create_task(there.client.ask("ClaimTaskRuns", taskKeys=["t"], waitSeconds=60))
    await there.clock.waiters(60, 1)

    id = await create_scheduled(here.client)

    # The clocks stand still, so that no poll can have found it.
    assert run_ids(await waiting) == [id]

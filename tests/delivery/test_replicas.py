"""Several servers on one PostgreSQL database behave like one server."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from resolvers.delivery.dispatcher import QueueTimers
from tests.builders.api_runs import read_slot_holders
from tests.builders.ids import TRANSITION_ID
from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_ids
from tests.client import TIMEOUT_SECONDS, Client
from tests.clock import ManualClock
from tests.postgresql import database_connection
from tests.serving import POSTGRESQL_ONLY, RunningServer, run_server

# a SQLite database has a single server.
pytestmark = POSTGRESQL_ONLY

POLL_SECONDS = 20.0
"""Less than the time for acknowledging, after which the run would be requeued."""
RUNS = 60
LIMIT = 2


async def test_a_run_created_at_one_server_is_delivered_by_another(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    here, there = replicas
    async with there.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1)

        id = await create_scheduled(here.client)

        # The clocks stand still, so no poll can have found the run.
        assert run_ids(await socket.deliveries(1)) == [id]


async def test_each_run_is_delivered_once_by_several_servers(replicas: tuple[RunningServer, RunningServer]) -> None:
    here, there = replicas
    async with here.client.socket() as one, there.client.socket() as other:
        for socket in (one, other):
            await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=RUNS // 2)

        ids = await create_many(here.client, RUNS)

        delivered = await asyncio.gather(one.deliveries(RUNS // 2), other.deliveries(RUNS // 2))
    assert Counter(run_ids([*delivered[0], *delivered[1]])) == Counter(ids)


async def test_credit_whose_notification_was_lost_returns_with_the_next_poll(database_url: str, tmp_path: Path) -> None:
    async with (
        run_server(tmp_path, database_url=database_url, poll_seconds=POLL_SECONDS) as server,
        server.client.socket() as socket,
    ):
        ids = await create_many(server.client, 2)
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1)
        first = await socket.deliveries(1)
        await server.clock.wait_for_waiter(POLL_SECONDS)
        # As another server does, but without its notification.
        async with database_connection(database_url) as connection:
            await connection.execute("UPDATE queue_entry SET is_acknowledged = true WHERE lease_id IS NOT NULL")

        server.clock.advance(POLL_SECONDS)

        assert run_ids([*first, *await socket.deliveries(1)]) == ids


async def test_acknowledging_at_another_server_brings_the_next_run(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    here, there = replicas
    ids = await create_many(here.client, 2)
    async with here.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1)
        first = await socket.deliveries(1)

        results = (await there.client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids(first)))["leases"]

        assert [result["status"] for result in results] == ["HELD"]
        assert run_ids([*first, *await socket.deliveries(1)]) == ids


async def test_credit_returned_elsewhere_is_found_after_missed_notifications(
    replicas: tuple[RunningServer, RunningServer], database_url: str
) -> None:
    here, _ = replicas
    ids = await create_many(here.client, 2)
    async with here.client.socket() as socket, database_connection(database_url) as database:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1)
        first = await socket.deliveries(1)
        # As if another server had acknowledged the lease while this one could not receive notifications.
        await database.execute("UPDATE queue_entry SET is_acknowledged = true WHERE lease_id IS NOT NULL")

        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

        # A claim may fail on a terminated connection, and is tried again.
        async with here.clock.passing_waits(QueueTimers().retry_database):
            assert run_ids([*first, *await socket.deliveries(1)]) == ids


async def test_a_server_that_starts_later_changes_no_lease(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock(datetime.now(UTC))
    async with run_server(tmp_path, clock, database_url=database_url) as first, first.client.socket() as socket:
        (id,) = await create_many(first.client, 1)
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)
        (held,) = (await first.client.execute("AcknowledgeTaskRuns", leaseIds=[delivery["leaseId"]]))["leases"]
        clock.advance(59)

        async with run_server(tmp_path, clock, database_url=database_url) as second:
            await create_many(second.client, 1, "another")
            entry = (await second.client.execute("GetTaskRun", id=id))["queueEntry"]

    assert entry["leaseExpiresAt"] == held["leaseExpiresAt"]


@pytest.mark.parametrize(("chance", "looks_again_after", "then_after"), [(0, 2.5, 2.0), (0.5, 3.75, 0.5)])
async def test_lease_sweeps_are_jittered_per_server(
    database_url: str, tmp_path: Path, chance: float, looks_again_after: float, then_after: float
) -> None:
    async with run_server(tmp_path, chance=chance, database_url=database_url, acknowledge_seconds=4) as server:
        await create_many(server.client, 1)
        async with server.client.socket() as socket:
            await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
            await socket.deliveries(1)
            await asyncio.wait_for(server.clock.wait_for_waiter(looks_again_after), TIMEOUT_SECONDS)

            server.clock.advance(looks_again_after)

            # The lease expires after four seconds.
            await asyncio.wait_for(server.clock.wait_for_waiter(then_after), TIMEOUT_SECONDS)


async def test_the_first_notification_is_immediate_and_later_ones_are_batched(
    replicas: tuple[RunningServer, RunningServer], database_url: str
) -> None:
    here, _ = replicas
    notifications: asyncio.Queue[tuple[float, list[str]]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def on_notification(_connection: object, _process: int, _channel: str, payload: str) -> None:
        # Notifications of new states are sent with it, or separately a little later.
        if keys := [value for kind, value in orjson.loads(payload)[1:] if kind == "w"]:
            notifications.put_nowait((loop.time(), keys))

    async with database_connection(database_url) as database:
        await database.add_listener("runyard", on_notification)
        received: list[tuple[float, list[str]]] = []
        began_at = loop.time()
        created = asyncio.create_task(create_sequentially(here.client, [f"key-{number}" for number in range(100)]))
        while sum(len(keys) for _, keys in received) < 100:
            received.append(await asyncio.wait_for(notifications.get(), TIMEOUT_SECONDS))
        await created
        elapsed = loop.time() - began_at

    assert sorted(key for _, keys in received for key in keys) == sorted(f"key-{number}" for number in range(100))
    assert len(received) <= elapsed / 0.02 + 1
    assert received[0][1] == ["key-0"]


async def create_sequentially(client: Client, keys: list[str]) -> None:
    for key in keys:
        await create_scheduled(client, key)


async def test_one_transition_reported_to_two_servers_at_once_is_applied_once(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    here, there = replicas
    id = (await here.client.execute("CreateTaskRun", input={"taskKey": "t"}))["taskRun"]["id"]
    state = {"type": "RUNNING", "details": {"transitionId": TRANSITION_ID}}

    results = await asyncio.gather(
        *(server.client.execute("SetTaskRunState", id=id, state=state) for server in replicas for _ in range(8))
    )

    assert Counter(result["stateCreated"] for result in results) == {True: 1, False: 15}
    assert {result["status"] for result in results} == {"ACCEPT"}
    run = await there.client.execute("GetTaskRun", id=id)
    assert [each["type"] for each in run["states"]] == ["PENDING", "RUNNING"]


async def test_one_key_created_at_two_servers_at_once_creates_one_run(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    input = {"taskKey": "t", "dynamicKey": "only"}

    payloads = await asyncio.gather(
        *(server.client.execute("CreateTaskRun", input=input) for server in replicas for _ in range(8))
    )

    assert Counter(payload["created"] for payload in payloads) == {True: 1, False: 15}
    assert len({payload["taskRun"]["id"] for payload in payloads}) == 1


async def test_a_concurrency_limit_holds_across_servers(replicas: tuple[RunningServer, RunningServer]) -> None:
    here, there = replicas
    await here.client.execute("SetConcurrencyLimit", tag="db", limit=LIMIT)
    payloads = (await here.client.execute("CreateTaskRuns", inputs=[{"taskKey": "t", "tags": ["db"]}] * 20))["results"]

    async def run(client: Client, id: str) -> str:
        return (await client.execute("SetTaskRunState", id=id, state={"type": "RUNNING"}))["status"]

    statuses = await asyncio.gather(
        *(run(replicas[place % 2].client, payload["taskRun"]["id"]) for place, payload in enumerate(payloads))
    )

    assert Counter(statuses) == {"ACCEPT": LIMIT, "WAIT": 20 - LIMIT}
    assert len(await read_slot_holders(there.client, "db")) == LIMIT


async def test_servers_alternately_filling_a_queue_stop_at_its_limit(database_url: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(run_server(tmp_path, database_url=database_url, max_scheduled_per_key=10))
            for _ in range(2)
        ]
        input = {"taskKey": "t", "state": {"type": "SCHEDULED"}}

        responses = [await servers[place % 2].client.send("CreateTaskRun", input=input) for place in range(14)]

    assert ["errors" in response for response in responses] == [False] * 10 + [True] * 4


async def test_a_run_created_at_one_server_ends_a_claim_at_another(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    here, there = replicas
    waiting = asyncio.create_task(there.client.execute("ClaimTaskRuns", taskKeys=["t"], waitSeconds=60))
    await there.clock.wait_for_waiters(60, 1)

    id = await create_scheduled(here.client)

    # The clocks stand still, so no poll can have found the run.
    assert run_ids((await waiting)["deliveries"]) == [id]

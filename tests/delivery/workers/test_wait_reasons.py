"""QueueEntry.waitReason: why a run is not delivered yet."""

import asyncio
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from db.records import QueueEntryRecord
from resolvers.queue.wait_reasons import WaitReason, wait_reason
from tests.builders.api_runs import create_task_run, set_task_run_state
from tests.builders.queued_runs import create_many, create_scheduled, run_under_lease
from tests.client import TIMEOUT_SECONDS, Client, Socket
from tests.clock import ManualClock
from tests.serving import POSTGRESQL_ONLY, SQLITE_ONLY, RunningServer, run_server

HEARTBEAT_SECONDS = 5.0
PAGE = "{ taskRuns(first: 100) { nodes { id queueEntry { waitReason } } } }"


async def wait_of(client: Client, id: str) -> tuple[str | None, str | None]:
    entry = (await client.execute("GetTaskRun", id=id))["queueEntry"]
    return entry["waitReason"], entry["waitsForTag"]


async def subscribe(server: RunningServer, socket: Socket, task_key: str = "t") -> None:
    """Subscribe with a credit of one run, and return when the server knows the subscription."""
    await socket.subscribe("ScheduledTaskRuns", taskKeys=[task_key], prefetch=1)
    await server.clock.wait_for_waiter(15)


async def test_a_due_run_without_a_worker_has_no_worker(server: RunningServer) -> None:
    async with server.client.socket() as socket:
        await subscribe(server, socket, "another")
        id = await create_scheduled(server.client)

        assert await wait_of(server.client, id) == ("NO_WORKER", None)


async def test_a_run_behind_others_is_in_the_queue_and_a_leased_run_does_not_wait(server: RunningServer) -> None:
    first, second = await create_many(server.client, 2)
    async with server.client.socket() as socket:
        await subscribe(server, socket)
        await socket.deliveries(1)

        assert await wait_of(server.client, first) == (None, None)
        assert await wait_of(server.client, second) == ("IN_QUEUE", None)


async def test_a_worker_that_claims_over_http_is_known_for_a_minute(server: RunningServer) -> None:
    await server.client.execute("ClaimTaskRuns", taskKeys=["t"])
    id = await create_scheduled(server.client)

    server.clock.advance(60)
    before = await wait_of(server.client, id)
    server.clock.advance(0.001)

    assert before == ("IN_QUEUE", None)
    assert await wait_of(server.client, id) == ("NO_WORKER", None)


async def test_a_run_that_is_scheduled_later_is_not_due(server: RunningServer) -> None:
    id = await create_scheduled(server.client, at=server.clock.in_seconds(60))

    before = await wait_of(server.client, id)
    server.clock.advance(60)

    assert before == ("NOT_DUE", None)
    assert await wait_of(server.client, id) == ("NO_WORKER", None)


async def test_a_failed_run_waits_for_its_retry(client: Client) -> None:
    await create_task_run(client, "SCHEDULED", retryPolicy={"retries": 1, "retryDelaySeconds": [60.0]})
    id, lease_id = await run_under_lease(client, "RUNNING")

    await set_task_run_state(client, id, "FAILED", lease_id=lease_id)

    assert await wait_of(client, id) == ("RETRY_DELAY", None)


async def test_a_run_without_a_free_slot_names_the_tag(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="database", limit=0)
    id = await create_scheduled(client, tags=["database"])

    await client.execute("ClaimTaskRuns", taskKeys=["t"])

    assert await wait_of(client, id) == ("NO_SLOT", "database")


async def test_a_paused_queue_comes_before_every_other_reason(server: RunningServer) -> None:
    id = await create_scheduled(server.client, at=server.clock.in_seconds(60))
    due = await create_scheduled(server.client, "other")

    await server.client.execute("PauseTaskQueue", taskKey="t")

    assert await wait_of(server.client, id) == ("QUEUE_PAUSED", None)
    assert await wait_of(server.client, due) == ("NO_WORKER", None)


async def test_a_run_that_is_not_queued_has_no_reason(client: Client) -> None:
    id = await create_task_run(client)

    assert (await client.execute("GetTaskRun", id=id))["queueEntry"] is None


@SQLITE_ONLY
async def test_the_reasons_of_a_page_cost_one_statement(server: RunningServer) -> None:
    async def count_reads() -> tuple[int, set[str]]:
        async with server.record_reads() as statements:
            response = await server.client.http.post("/graphql", json={"query": PAGE})
        nodes: list[dict[str, Any]] = response.json()["data"]["taskRuns"]["nodes"]
        return len(statements), {each["queueEntry"]["waitReason"] for each in nodes}

    await create_many(server.client, 1)
    of_one_run = await count_reads()
    for key in ("a", "b", "c"):
        await create_many(server.client, 10, key)
    of_many_runs = await count_reads()

    # The page, the queue entries, and the paused queues.
    assert of_one_run == of_many_runs == (3, {"NO_WORKER"})


@POSTGRESQL_ONLY
async def test_a_worker_at_another_server_is_known(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    options: dict[str, Any] = {"database_url": database_url, "heartbeat_seconds": HEARTBEAT_SECONDS}
    async with (
        run_server(tmp_path, clock, **options) as here,
        run_server(tmp_path, clock, **options) as there,
        there.client.socket() as socket,
    ):
        _, id = await create_many(here.client, 2)
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=1)
        await socket.deliveries(1)
        clock.advance(HEARTBEAT_SECONDS)

        async with asyncio.timeout(TIMEOUT_SECONDS):
            while (reason := await wait_of(here.client, id)) == ("NO_WORKER", None):
                continue

        assert reason == ("IN_QUEUE", None)


@pytest.mark.parametrize(
    ("is_leased", "is_paused", "is_due", "is_retry", "waits_for_slot", "has_worker"),
    list(product([False, True], repeat=6)),
)
def test_the_first_reason_in_the_order_of_the_enum_applies(
    is_leased: bool, is_paused: bool, is_due: bool, is_retry: bool, waits_for_slot: bool, has_worker: bool
) -> None:
    now, later = "2030-01-01T12:00:00.000000Z", "2030-01-01T12:00:00.000001Z"
    entry = QueueEntryRecord(
        task_run_id="r",
        task_key="t",
        is_retry=is_retry,
        available_at=now if is_due else later,
        attempt=0,
        lease_id="l" if is_leased else None,
        lease_seconds=None,
        lease_expires_at=None,
        is_acknowledged=False,
        worker_name=None,
        waits_for_tag="tag" if waits_for_slot else None,
    )
    holds = {
        WaitReason.QUEUE_PAUSED: is_paused,
        WaitReason.RETRY_DELAY: is_retry and not is_due,
        WaitReason.NOT_DUE: not is_retry and not is_due,
        WaitReason.NO_SLOT: waits_for_slot,
        WaitReason.NO_WORKER: not has_worker,
        WaitReason.IN_QUEUE: True,
    }

    reason = wait_reason(entry, now, is_paused=is_paused, has_worker=has_worker)

    assert reason == (None if is_leased else next(each for each in WaitReason if holds[each]))

"""`claimTaskRuns`: delivery over HTTP, with the same leases and the same fairness as a subscription."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from resolvers.delivery.subscribers import LongPollClaim
from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_ids
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import SQLITE_ONLY, RunningServer, run_server


async def claim(client: Client, *task_keys: str, **arguments: Any) -> list[dict[str, Any]]:
    return (await client.execute("ClaimTaskRuns", taskKeys=list(task_keys) or ["t"], **arguments))["deliveries"]


async def start_waiting_claim(
    server: RunningServer, *task_keys: str, seconds: float, count: int = 1
) -> "asyncio.Task[Any]":
    """Start a claim and wait until `count` claims with this `waitSeconds` wait on the server."""
    task = asyncio.create_task(claim(server.client, *task_keys, waitSeconds=seconds))
    await asyncio.wait_for(server.clock.wait_for_waiters(seconds, count), TIMEOUT_SECONDS)
    return task


async def wait_until_no_subscribers(server: RunningServer) -> None:
    """Wait until the server has no subscriber and no waiting claim."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while server.services.dispatcher.subscriber_counts():
            await server.client.http.get("/healthz")


async def wait_for_claim_transaction(server: RunningServer) -> None:
    """Wait until the first transaction of a claim has ended: it could still claim a run for a client that is gone."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not sum(server.services.dispatcher.metrics.claim_seconds.counts):
            await server.client.http.get("/healthz")


async def test_due_runs_are_returned_at_once_in_queue_order(client: Client) -> None:
    ids = await create_many(client, 5)

    first = await claim(client, limit=3)
    second = await claim(client, limit=3)

    assert [run_ids(first), run_ids(second)] == [ids[:3], ids[3:]]
    assert [delivery["attempt"] for delivery in first + second] == [1] * 5


async def test_a_claim_without_due_runs_returns_an_empty_list(server: RunningServer) -> None:
    await create_scheduled(server.client, at=server.clock.in_seconds(60))

    assert await claim(server.client, limit=10) == []


async def test_the_lease_remains_valid_after_the_response(server: RunningServer) -> None:
    client = server.client
    (id,) = await create_many(client, 1)

    deliveries = await claim(client, leaseSeconds=100, workerName="poller")
    again = await claim(client)
    (result,) = (await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids(deliveries)))["leases"]

    assert again == []
    assert result["status"] == "HELD"
    assert result["leaseExpiresAt"] == "2030-01-01T12:01:40.000000Z"
    assert (await client.execute("GetTaskRun", id=id))["queueEntry"]["workerName"] == "poller"


async def test_a_run_not_acknowledged_in_time_is_redelivered_to_another_claim(server: RunningServer) -> None:
    (id,) = await create_many(server.client, 1)
    (lost,) = await claim(server.client)

    server.clock.advance(30)
    await server.sweep()
    (found,) = await claim(server.client)

    assert (found["taskRun"]["id"], found["attempt"]) == (id, 2)
    (result,) = (await server.client.execute("AcknowledgeTaskRuns", leaseIds=[lost["leaseId"]]))["leases"]
    assert result["status"] == "LOST"


async def test_a_waiting_claim_returns_as_soon_as_one_run_exists(server: RunningServer) -> None:
    waiting = await start_waiting_claim(server, seconds=60)

    id = await create_scheduled(server.client)

    # The clock stands still, so only the new run can end the wait.
    assert run_ids(await asyncio.wait_for(waiting, TIMEOUT_SECONDS)) == [id]


async def test_a_waiting_claim_returns_when_a_run_becomes_due(server: RunningServer) -> None:
    id = await create_scheduled(server.client, at=server.clock.in_seconds(20))
    waiting = await start_waiting_claim(server, seconds=60)
    await asyncio.wait_for(server.clock.wait_for_waiter(20), TIMEOUT_SECONDS)

    server.clock.advance(20)

    assert run_ids(await asyncio.wait_for(waiting, TIMEOUT_SECONDS)) == [id]


async def test_a_claim_returns_an_empty_list_after_its_wait_seconds(server: RunningServer) -> None:
    waiting = await start_waiting_claim(server, seconds=10)

    server.clock.advance(10)

    assert await asyncio.wait_for(waiting, TIMEOUT_SECONDS) == []


async def test_each_waiting_claim_gets_a_different_run(server: RunningServer) -> None:
    waiting = [await start_waiting_claim(server, seconds=60, count=number + 1) for number in range(8)]

    ids = await create_many(server.client, 8)

    claims = await asyncio.wait_for(asyncio.gather(*waiting), TIMEOUT_SECONDS)
    assert sorted(id for deliveries in claims for id in run_ids(deliveries)) == sorted(ids)


async def test_consecutive_claims_alternate_between_task_keys(client: Client) -> None:
    await create_many(client, 3, "a")
    await create_many(client, 3, "b")

    claimed = [await claim(client, "a", "b") for _ in range(6)]

    assert [delivery["taskRun"]["taskKey"] for deliveries in claimed for delivery in deliveries] == ["a", "b"] * 3


async def test_a_client_that_disconnects_while_waiting_is_assigned_no_run(server: RunningServer) -> None:
    waiting = await start_waiting_claim(server, seconds=60)
    await wait_for_claim_transaction(server)
    waiting.cancel()
    await asyncio.wait({waiting})
    await wait_until_no_subscribers(server)

    id = await create_scheduled(server.client)
    (delivery,) = await claim(server.client)

    assert (delivery["taskRun"]["id"], delivery["attempt"]) == (id, 1)


async def test_a_claim_over_a_websocket_ends_when_its_operation_completes(server: RunningServer) -> None:
    async with server.client.socket() as socket:
        id = await socket.subscribe("ClaimTaskRuns", taskKeys=["t"], waitSeconds=60)
        await asyncio.wait_for(server.clock.wait_for_waiters(60, 1), TIMEOUT_SECONDS)
        await wait_for_claim_transaction(server)
        await socket.send({"id": id, "type": "complete"})
        await wait_until_no_subscribers(server)

    await create_scheduled(server.client)
    assert [delivery["attempt"] for delivery in await claim(server.client)] == [1]


async def test_a_stopping_server_ends_waiting_claims_and_rejects_new_ones(server: RunningServer) -> None:
    waiting = await start_waiting_claim(server, seconds=60)

    await server.services.drain()

    assert await asyncio.wait_for(waiting, TIMEOUT_SECONDS) == []
    error = await server.client.execute_refused("ClaimTaskRuns", taskKeys=["t"])
    assert (error["code"], error["retryable"]) == ("UNAVAILABLE", True)


def test_a_timed_out_claim_gets_one_more_turn_when_cut_short() -> None:
    long_poll = LongPollClaim(1, ["t"], 1, 60.0, None)
    long_poll.is_last_attempt = True

    long_poll.on_claim_completed(is_truncated=True)
    assert not long_poll.completed.is_set()

    long_poll.on_claim_completed(is_truncated=True)
    assert long_poll.completed.is_set()
    assert long_poll.result() == []


@SQLITE_ONLY
async def test_a_claim_fails_at_once_when_the_database_is_unavailable(database_url: str, tmp_path: Path) -> None:
    path = database_url.partition(":///")[2]
    async with run_server(tmp_path, database_url=database_url, database_busy_seconds=0) as server:
        (id,) = await create_many(server.client, 1)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            error = await server.client.execute_refused("ClaimTaskRuns", taskKeys=["t"], waitSeconds=60)
            other.execute("ROLLBACK")

        assert (error["code"], error["retryable"]) == ("UNAVAILABLE", True)
        assert run_ids(await claim(server.client)) == [id]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("taskKeys", []),
        ("limit", 0),
        ("limit", 501),
        ("leaseSeconds", 0),
        ("leaseSeconds", 86_401),
        ("waitSeconds", -1),
        ("waitSeconds", 61),
    ],
)
async def test_an_invalid_argument_is_named_in_the_error_and_claims_nothing(
    client: Client, argument: str, value: object
) -> None:
    (id,) = await create_many(client, 1)

    error = await client.execute_refused("ClaimTaskRuns", **{"taskKeys": ["t"], argument: value})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", argument)
    entry = (await client.execute("GetTaskRun", id=id))["queueEntry"]
    assert (entry["attempt"], entry["leaseExpiresAt"]) == (0, None)

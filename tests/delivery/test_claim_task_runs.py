"""A claim over HTTP: the same leases and turns as a subscription's, for workers without a WebSocket."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from resolvers.delivery.subscribers import Claimant
from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_ids
from tests.client import PATIENCE, Client
from tests.serving import ON_SQLITE, Serving, serving


async def claim(client: Client, *task_keys: str, **arguments: Any) -> list[dict[str, Any]]:
    return await client.ask("ClaimTaskRuns", taskKeys=list(task_keys) or ["t"], **arguments)


async def waiting_claim(server: Serving, *task_keys: str, seconds: float, count: int = 1) -> "asyncio.Task[Any]":
    """A claim that the server has begun to wait with; `count` is how many of its length wait then."""
    task = asyncio.create_task(claim(server.client, *task_keys, waitSeconds=seconds))
    await asyncio.wait_for(server.clock.waiters(seconds, count), PATIENCE)
    return task


async def nobody_listens(server: Serving) -> None:
    """Return when the server knows of nobody who wants any run."""
    async with asyncio.timeout(PATIENCE):
        while server.life.dispatcher.listening():
            await server.client.http.get("/healthz")


async def test_what_is_due_is_answered_at_once_in_the_order_of_its_queue(client: Client) -> None:
    ids = await create_many(client, 5)

    first = await claim(client, limit=3)
    second = await claim(client, limit=3)

    assert [run_ids(first), run_ids(second)] == [ids[:3], ids[3:]]
    assert [delivery["attempt"] for delivery in first + second] == [1] * 5


async def test_where_nothing_is_due_the_answer_is_an_empty_list(server: Serving) -> None:
    await create_scheduled(server.client, at=server.clock.in_seconds(60))

    assert await claim(server.client, limit=10) == []


async def test_the_lease_outlives_the_answer(server: Serving) -> None:
    client = server.client
    (id,) = await create_many(client, 1)

    deliveries = await claim(client, leaseSeconds=100, workerName="poller")
    again = await claim(client)
    (result,) = await client.ask("AcknowledgeTaskRuns", leaseIds=lease_ids(deliveries))

    assert again == []
    assert result["status"] == "HELD"
    assert result["leaseExpiresAt"] == "2030-01-01T12:01:40.000000Z"
    assert (await client.ask("GetTaskRun", id=id))["queueEntry"]["workerName"] == "poller"


async def test_what_is_not_acknowledged_in_time_goes_to_somebody_else(server: Serving) -> None:
    (id,) = await create_many(server.client, 1)
    (lost,) = await claim(server.client)

    server.clock.advance(30)
    await server.sweep()
    (found,) = await claim(server.client)

    assert (found["taskRun"]["id"], found["attempt"]) == (id, 2)
    (result,) = await server.client.ask("AcknowledgeTaskRuns", leaseIds=[lost["leaseId"]])
    assert result["status"] == "LOST"


async def test_a_claim_that_waits_is_answered_as_soon_as_there_is_one_run(server: Serving) -> None:
    waiting = await waiting_claim(server, seconds=60)

    id = await create_scheduled(server.client)

    # The clock stands still: nothing but the run can have ended the wait.
    assert run_ids(await asyncio.wait_for(waiting, PATIENCE)) == [id]


async def test_a_claim_that_waits_is_answered_when_a_run_comes_due(server: Serving) -> None:
    id = await create_scheduled(server.client, at=server.clock.in_seconds(20))
    waiting = await waiting_claim(server, seconds=60)
    await asyncio.wait_for(server.clock.somebody_waits(20), PATIENCE)

    server.clock.advance(20)

    assert run_ids(await asyncio.wait_for(waiting, PATIENCE)) == [id]


async def test_a_claim_that_has_waited_long_enough_is_answered_with_nothing(server: Serving) -> None:
    waiting = await waiting_claim(server, seconds=10)

    server.clock.advance(10)

    assert await asyncio.wait_for(waiting, PATIENCE) == []


async def test_each_of_many_waiting_claims_gets_a_run_of_its_own(server: Serving) -> None:
    waiting = [await waiting_claim(server, seconds=60, count=number + 1) for number in range(8)]

    ids = await create_many(server.client, 8)

    answers = await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)
    assert sorted(id for answer in answers for id in run_ids(answer)) == sorted(ids)


async def test_keys_take_turns_from_claim_to_claim(client: Client) -> None:
    await create_many(client, 3, "a")
    await create_many(client, 3, "b")

    claimed = [await claim(client, "a", "b") for _ in range(6)]

    assert [delivery["taskRun"]["taskKey"] for answer in claimed for delivery in answer] == ["a", "b"] * 3


async def test_a_client_that_goes_away_while_it_waits_is_given_nothing(server: Serving) -> None:
    waiting = await waiting_claim(server, seconds=60)
    waiting.cancel()
    await asyncio.wait({waiting})
    await nobody_listens(server)

    id = await create_scheduled(server.client)
    (delivery,) = await claim(server.client)

    assert (delivery["taskRun"]["id"], delivery["attempt"]) == (id, 1)


async def test_a_claim_over_a_websocket_ends_with_its_operation(server: Serving) -> None:
    async with server.client.socket() as socket:
        id = await socket.subscribe("ClaimTaskRuns", taskKeys=["t"], waitSeconds=60)
        await asyncio.wait_for(server.clock.waiters(60, 1), PATIENCE)
        await socket.send({"id": id, "type": "complete"})
        await nobody_listens(server)

    await create_scheduled(server.client)
    assert [delivery["attempt"] for delivery in await claim(server.client)] == [1]


async def test_a_stopping_server_answers_waiting_claims_with_nothing_and_takes_no_more(server: Serving) -> None:
    waiting = await waiting_claim(server, seconds=60)

    await server.life.drain()

    assert await asyncio.wait_for(waiting, PATIENCE) == []
    error = await server.client.refused("ClaimTaskRuns", taskKeys=["t"])
    assert (error["code"], error["retryable"]) == ("UNAVAILABLE", True)


def test_a_claim_that_came_too_late_for_its_share_stands_in_line_once_more() -> None:
    claimant = Claimant(1, ["t"], 1, 60.0, None)
    claimant.waits_no_longer = True

    claimant.end_turn(is_cut_short=True)
    assert not claimant.answered.is_set()

    claimant.end_turn(is_cut_short=True)
    assert claimant.answered.is_set()
    assert claimant.answer() == []


@ON_SQLITE
async def test_a_claim_from_a_database_that_is_away_is_refused_and_not_kept_waiting(
    database_url: str, tmp_path: Path
) -> None:
    path = database_url.partition(":///")[2]
    async with serving(tmp_path, database_url=database_url, database_busy_seconds=0) as server:
        (id,) = await create_many(server.client, 1)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            error = await server.client.refused("ClaimTaskRuns", taskKeys=["t"], waitSeconds=60)
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
async def test_bad_input_is_refused_by_name_and_claims_nothing(client: Client, argument: str, value: object) -> None:
    (id,) = await create_many(client, 1)

    error = await client.refused("ClaimTaskRuns", **{"taskKeys": ["t"], argument: value})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", argument)
    entry = (await client.ask("GetTaskRun", id=id))["queueEntry"]
    assert (entry["attempt"], entry["leaseExpiresAt"]) == (0, None)

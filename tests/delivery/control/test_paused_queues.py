"""`pauseTaskQueue` and `resumeTaskQueue`: no server delivers runs of a paused queue."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from db.connection import Connection
from resolvers.delivery.claim import Claim, ClaimRequest, Demand, claim_due_runs
from tests.blocking_work import BlockingWork
from tests.builders.api_runs import create_task_runs, set_task_run_state
from tests.builders.queued_runs import create_many, create_scheduled, run_ids, run_under_lease
from tests.client import TIMEOUT_SECONDS, Client
from tests.postgresql import database_connection
from tests.serving import POSTGRESQL_ONLY, RunningServer

NOW = "2030-01-01T12:00:00.000000Z"
WAITING_LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


async def claim(client: Client, *task_keys: str, **arguments: Any) -> list[dict[str, Any]]:
    return (await client.execute("ClaimTaskRuns", taskKeys=list(task_keys) or ["t"], **arguments))["deliveries"]


async def exchange(client: Client, **claim: Any) -> list[dict[str, Any]]:
    result = await client.execute("ExchangeTaskRuns", reports=[], renew=[], claim={"taskKeys": ["t"], **claim})
    return result["deliveries"]


async def pause(client: Client, task_key: str = "t") -> dict[str, Any]:
    return (await client.execute("PauseTaskQueue", taskKey=task_key))["taskQueue"]


async def resume(client: Client, task_key: str = "t") -> dict[str, Any]:
    return (await client.execute("ResumeTaskQueue", taskKey=task_key))["taskQueue"]


async def test_a_paused_queue_says_since_when_it_is_paused(server: RunningServer) -> None:
    paused = await pause(server.client)
    server.clock.advance(5)

    again = await pause(server.client)
    resumed = await resume(server.client)

    assert (paused["taskKey"], paused["isPaused"], paused["pausedAt"]) == ("t", True, NOW)
    assert again == paused
    assert (resumed["id"], resumed["isPaused"], resumed["pausedAt"]) == (paused["id"], False, None)
    assert await resume(server.client) == resumed


@pytest.mark.parametrize("start", [False, True])
async def test_no_claim_or_exchange_delivers_runs_of_a_paused_queue(client: Client, start: bool) -> None:
    paused = await create_many(client, 2)
    (other,) = await create_many(client, 1, "other")
    await pause(client)

    assert await claim(client, limit=5, start=start) == []
    assert await exchange(client, limit=5, start=start) == []
    assert run_ids(await claim(client, "t", "other", limit=5, start=start)) == [other]

    await resume(client)
    assert run_ids(await claim(client, limit=5, start=start)) == paused


async def test_a_subscriber_receives_nothing_until_the_queue_is_resumed(client: Client) -> None:
    await pause(client)
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t", "other"], prefetch=10)
        paused = await create_many(client, 2)
        other = await create_scheduled(client, "other")
        assert run_ids(await socket.deliveries(1)) == [other]

        await resume(client)

        assert run_ids(await socket.deliveries(2)) == paused


async def test_a_waiting_claim_returns_when_the_queue_is_resumed(client: Client) -> None:
    await pause(client)
    (id,) = await create_many(client, 1)
    waiting = asyncio.create_task(claim(client, waitSeconds=60))

    await resume(client)

    assert run_ids(await asyncio.wait_for(waiting, TIMEOUT_SECONDS)) == [id]


async def test_leases_that_are_held_when_the_queue_is_paused_continue(client: Client) -> None:
    await create_many(client, 1)
    id, lease_id = await run_under_lease(client, "RUNNING")

    await pause(client)
    (lease,) = (await client.execute("RenewTaskRunLeases", leaseIds=[lease_id]))["leases"]
    result = await set_task_run_state(client, id, "COMPLETED", lease_id=lease_id)

    assert (lease["status"], result["status"]) == ("HELD", "ACCEPT")


async def test_a_paused_queue_accepts_runs_up_to_its_limit(client: Client) -> None:
    await pause(client)

    ids = await create_task_runs(client, 3, "SCHEDULED")

    (queue,) = await client.execute("ListTaskQueues", taskKeys=["t"])
    assert (queue["scheduled"], queue["isPaused"]) == (len(ids), True)


async def test_runs_of_a_paused_queue_expire(server: RunningServer) -> None:
    client = server.client
    await pause(client)
    id = await create_scheduled(client, expiresAt="2030-01-01T12:01:00Z")

    server.clock.advance(60)
    found = await client.execute("EndedTaskRuns", ids=[id], waitSeconds=30)

    assert [run["stateName"] for run in found["ended"]] == ["Expired"]


async def test_a_paused_key_without_runs_is_listed(client: Client) -> None:
    await pause(client, "nowhere")

    queues = await client.execute("ListTaskQueues")

    assert [(each["taskKey"], each["isPaused"], each["pausedAt"]) for each in queues] == [("nowhere", True, NOW)]


async def test_a_free_slot_is_passed_on_from_a_paused_queue(server: RunningServer) -> None:
    client = server.client
    await client.execute("SetConcurrencyLimit", tag="x", limit=0)
    for key in ("t", "other"):
        await create_scheduled(client, key, tags=["x"])
    assert await claim(client, "t", "other", limit=2) == []
    await pause(client)

    await client.execute("SetConcurrencyLimit", tag="x", limit=1)

    assert [each["taskRun"]["taskKey"] for each in await claim(client, "t", "other", limit=2)] == ["other"]


async def test_a_key_that_is_too_long_is_refused(client: Client) -> None:
    for operation in ("PauseTaskQueue", "ResumeTaskQueue"):
        error = await client.execute_refused(operation, taskKey="k" * 1001)

        assert error["message"] == "taskKey: must have at most 1,000 bytes; got 1,001."


@POSTGRESQL_ONLY
async def test_a_pause_is_effective_on_all_servers_when_the_mutation_returns(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    here, there = replicas
    await create_many(here.client, 200)

    async def claim_again_and_again() -> list[str]:
        """Claim until the queue has been paused, and return the runs of claims that began after that."""
        while True:
            is_paused = paused.is_set()
            delivered = run_ids(await claim(there.client))
            if is_paused:
                return delivered

    for _ in range(10):
        paused = asyncio.Event()
        claiming = [asyncio.create_task(claim_again_and_again()) for _ in range(4)]
        await pause(here.client)
        paused.set()
        assert await asyncio.wait_for(asyncio.gather(*claiming), TIMEOUT_SECONDS) == [[]] * 4
        await resume(here.client)


@POSTGRESQL_ONLY
async def test_resuming_at_one_server_delivers_at_another_at_once(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    here, there = replicas
    await pause(here.client)
    (id,) = await create_many(here.client, 1)
    async with there.client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t", "other"], prefetch=10)
        other = await create_scheduled(here.client, "other")
        assert run_ids(await socket.deliveries(1)) == [other]

        await resume(here.client)

        # The clocks stand still, so no poll can have found the run.
        assert run_ids(await socket.deliveries(1)) == [id]


async def begin_claim(server: RunningServer, work: BlockingWork) -> "asyncio.Task[Claim]":
    """Begin a claim that ends when the work is released."""

    def claim_and_block(connection: Connection, requests: Sequence[ClaimRequest]) -> list[Claim | Exception]:
        claims = claim_due_runs(connection, requests)
        work.read(connection)
        return claims

    request = ClaimRequest([Demand(1, frozenset("t"), 1, 60.0, None)], ["t"], 30.0)
    claiming = asyncio.create_task(server.services.database.write(claim_and_block, request))
    await work.wait_for_started(1)
    return claiming


@POSTGRESQL_ONLY
async def test_a_pause_that_waits_too_long_for_a_claim_changes_nothing_and_can_be_repeated(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    here, there = replicas
    (id,) = await create_many(here.client, 1)
    await create_many(here.client, 1, "other")
    work = BlockingWork(is_in_loop=True)
    claiming = await begin_claim(there, work)

    error = await here.client.execute_refused("PauseTaskQueue", taskKey="t")
    (queue,) = await here.client.execute("ListTaskQueues", taskKeys=["t"])
    delivered = len(await claim(here.client, "other"))
    work.release()
    claimed = (await claiming).deliveries

    message = (
        "The queue is not paused, because a claim has not ended within 2 seconds: a server may be suspended. Retry the "
        "request."
    )
    assert error == {"message": message, "code": "UNAVAILABLE", "retryable": True}
    assert (queue["isPaused"], delivered) == (False, 1)
    assert [each.task_run.id for each in claimed] == [id]
    assert (await pause(here.client))["isPaused"] is True


@POSTGRESQL_ONLY
async def test_a_pause_returns_after_the_claims_in_flight_on_all_servers(
    replicas: tuple[RunningServer, RunningServer], database_url: str
) -> None:
    here, there = replicas
    await create_many(here.client, 1)
    work = BlockingWork(is_in_loop=True)
    claiming = await begin_claim(there, work)
    pausing = asyncio.create_task(pause(here.client))
    async with database_connection(database_url) as connection, asyncio.timeout(TIMEOUT_SECONDS):
        while not pausing.done() and not await connection.fetchval(WAITING_LOCKS):
            pass
    had_returned = pausing.done()
    work.release()

    assert had_returned is False
    assert len((await claiming).deliveries) == 1
    assert (await asyncio.wait_for(pausing, TIMEOUT_SECONDS))["isPaused"] is True

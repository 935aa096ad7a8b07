"""`claimTaskRuns` with `start`: runs that the claim moves to RUNNING, by the rules, in its transaction."""

import asyncio
from typing import Any

from tests.builders.api_runs import read_slot_holders, read_state_names, set_task_run_state
from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_ids
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import RunningServer


async def claim(client: Client, *task_keys: str, **arguments: Any) -> list[dict[str, Any]]:
    keys = list(task_keys) or ["t"]
    return (await client.execute("ClaimTaskRuns", taskKeys=keys, start=True, **arguments))["deliveries"]


async def complete(client: Client, delivery: dict[str, Any], **state: Any) -> None:
    id, lease_id = delivery["taskRun"]["id"], delivery["leaseId"]
    result = await set_task_run_state(client, id, "COMPLETED", lease_id=lease_id, **state)
    assert result["status"] == "ACCEPT"


async def cache_result(client: Client, cache_key: str) -> None:
    """Store a result under the cache key."""
    id = await create_scheduled(client, "other")
    await set_task_run_state(client, id, "RUNNING")
    await set_task_run_state(client, id, "COMPLETED", data={"type": "cached"}, details={"cacheKey": cache_key})


async def test_claimed_runs_are_running_when_they_are_delivered(client: Client) -> None:
    ids = await create_many(client, 3)

    delivered = await claim(client, limit=2, workerName="mill")

    assert run_ids(delivered) == ids[:2]
    assert [(each["taskRun"]["stateType"], each["taskRun"]["runCount"]) for each in delivered] == [("RUNNING", 1)] * 2
    run = await client.execute("GetTaskRun", id=ids[0])
    assert [state["name"] for state in run["states"]] == ["Scheduled", "Running"]
    assert run["startTime"] == "2030-01-01T12:00:00.000000Z"
    assert (run["queueEntry"]["workerName"], run["queueEntry"]["attempt"]) == ("mill", 1)
    assert await read_state_names(client, ids[2]) == ["Scheduled"]


async def test_a_worker_reports_the_end_of_a_started_run_and_nothing_else(client: Client) -> None:
    (id,) = await create_many(client, 1)
    (delivery,) = await claim(client)

    await complete(client, delivery)

    run = await client.execute("GetTaskRun", id=id)
    assert (run["stateType"], run["runCount"], run["queueEntry"]) == ("COMPLETED", 1, None)


async def test_a_started_lease_lasts_thirty_seconds_until_its_worker_names_it(server: RunningServer) -> None:
    ids = await create_many(server.client, 2)
    first, second = await claim(server.client, limit=2, leaseSeconds=100)

    assert first["leaseExpiresAt"] == "2030-01-01T12:00:30.000000Z"
    server.clock.advance(10)
    (acknowledged,) = (await server.client.execute("AcknowledgeTaskRuns", leaseIds=[first["leaseId"]]))["leases"]
    assert (acknowledged["status"], acknowledged["leaseExpiresAt"]) == ("HELD", "2030-01-01T12:01:50.000000Z")
    (renewed,) = (await server.client.execute("RenewTaskRunLeases", leaseIds=[second["leaseId"]], leaseSeconds=60))[
        "leases"
    ]
    assert (renewed["status"], renewed["leaseExpiresAt"]) == ("HELD", "2030-01-01T12:01:10.000000Z")
    server.clock.advance(40)
    await server.sweep()
    states = [(await server.client.execute("GetTaskRun", id=id))["stateName"] for id in ids]
    assert states == ["Running", "Running"]


async def test_a_plain_claim_beside_a_started_one_starts_nothing(server: RunningServer) -> None:
    waiting = [
        asyncio.create_task(server.client.execute("ClaimTaskRuns", taskKeys=["t"], waitSeconds=60, start=start))
        for start in (False, True)
    ]
    await asyncio.wait_for(server.clock.wait_for_waiters(60, 2), TIMEOUT_SECONDS)

    await create_many(server.client, 2)

    results = await asyncio.wait_for(asyncio.gather(*waiting), TIMEOUT_SECONDS)
    found = [each["taskRun"]["stateType"] for result in results for each in result["deliveries"]]
    assert found == ["SCHEDULED", "RUNNING"]


async def test_a_run_with_a_cached_result_is_completed_and_its_credit_goes_to_the_next(client: Client) -> None:
    await cache_result(client, "known")
    cached = await create_scheduled(client, cacheKey="known")
    other = await create_scheduled(client, cacheKey="unknown")

    delivered = await claim(client)

    assert run_ids(delivered) == [other]
    run = await client.execute("GetTaskRun", id=cached)
    assert (run["stateType"], run["stateName"], run["state"]["data"]) == ("COMPLETED", "Cached", {"type": "cached"})
    assert (run["runCount"], run["startTime"], run["queueEntry"]) == (0, None, None)
    running = (await client.execute("GetTaskRun", id=other))["state"]
    assert running["details"]["cacheKey"] == "unknown"


async def test_without_start_the_cache_key_of_a_run_is_not_looked_up(client: Client) -> None:
    await cache_result(client, "known")
    id = await create_scheduled(client, cacheKey="known")

    delivered = (await client.execute("ClaimTaskRuns", taskKeys=["t"]))["deliveries"]

    assert run_ids(delivered) == [id]


async def test_a_run_behind_a_thousand_cached_ones_is_delivered_by_one_claim(client: Client) -> None:
    await cache_result(client, "known")
    input = {"taskKey": "t", "cacheKey": "known", "state": {"type": "SCHEDULED"}}
    await client.execute("CreateTaskRuns", inputs=[input] * 1000)
    last = await create_scheduled(client)

    assert run_ids(await claim(client)) == [last]

    page = await client.execute("ListTaskRuns", filter={"state": {"name": {"in": ["Cached"]}}}, first=1000)
    assert len(page["nodes"]) == 1000


async def test_a_cached_result_needs_no_slot(client: Client) -> None:
    await cache_result(client, "known")
    await client.execute("SetConcurrencyLimit", tag="scarce", limit=1)
    await create_scheduled(client, tags=["scarce"])
    await claim(client)
    cached = await create_scheduled(client, tags=["scarce"], cacheKey="known")

    assert await claim(client) == []

    assert (await client.execute("GetTaskRun", id=cached))["stateName"] == "Cached"


async def test_a_claim_starts_as_many_runs_as_there_are_slots(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="scarce", limit=2)
    ids = [await create_scheduled(client, tags=["scarce"]) for _ in range(4)]
    free = await create_scheduled(client)

    delivered = await claim(client, limit=5)

    assert run_ids(delivered) == [*ids[:2], free]
    assert sorted(await read_slot_holders(client, "scarce")) == sorted(ids[:2])
    await complete(client, delivered[0])
    assert run_ids(await claim(client, limit=5)) == [ids[2]]


async def test_forty_runs_with_one_slot_take_forty_deliveries(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="scarce", limit=1)
    ids = [await create_scheduled(client, tags=["scarce"]) for _ in range(40)]
    delivered: list[dict[str, Any]] = []

    while claimed := await claim(client, limit=20):
        delivered += claimed
        for delivery in claimed:
            await complete(client, delivery)

    assert run_ids(delivered) == ids
    assert [(each["attempt"], each["taskRun"]["runCount"]) for each in delivered] == [(1, 1)] * 40


async def test_a_run_is_not_started_while_its_limit_is_zero(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="off", limit=0)
    id = await create_scheduled(client, tags=["off"])

    assert await claim(client) == []
    await client.execute("SetConcurrencyLimit", tag="off", limit=1)

    assert run_ids(await claim(client)) == [id]
    assert await read_state_names(client, id) == ["Scheduled", "Running"]


async def test_a_retried_run_starts_under_the_name_retrying(client: Client) -> None:
    id = await create_scheduled(client, retryPolicy={"retries": 1})
    (first,) = await claim(client)
    await set_task_run_state(client, id, "FAILED", lease_id=first["leaseId"])

    (second,) = await claim(client)

    assert (second["taskRun"]["id"], second["taskRun"]["runCount"]) == (id, 2)
    assert await read_state_names(client, id) == ["Scheduled", "Running", "AwaitingRetry", "Retrying"]


async def test_a_started_run_that_is_released_counts_as_no_run(client: Client) -> None:
    id = await create_scheduled(client)
    (delivery,) = await claim(client)
    await client.execute("AcknowledgeTaskRuns", leaseIds=lease_ids([delivery]))

    await client.execute("ReleaseTaskRuns", leaseIds=lease_ids([delivery]))

    assert (await client.execute("GetTaskRun", id=id))["runCount"] == 0
    (again,) = await claim(client)
    assert (again["attempt"], again["taskRun"]["runCount"]) == (2, 1)

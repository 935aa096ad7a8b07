"""`exchangeTaskRuns`: reports, renewals and a claim in one transaction."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from db.enums import StateType
from resolvers.delivery.claim import Claim
from resolvers.delivery.exchange import exchange_items
from resolvers.transitions.set_states import StateChange, TaskRunTransitionResult
from tests.builders.api_runs import create_task_run, set_task_run_state
from tests.builders.ids import UNKNOWN_ID
from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_ids, run_under_lease
from tests.builders.rows import claim_request
from tests.builders.transitions import propose
from tests.client import TIMEOUT_SECONDS, Client
from tests.metrics_page import scrape
from tests.serving import RunningServer, run_server

CLAIM: dict[str, Any] = {"taskKeys": ["t"], "limit": 10}


async def exchange(client: Client, **arguments: Any) -> dict[str, Any]:
    return await client.execute("ExchangeTaskRuns", **{"reports": [], "renew": [], **arguments})


async def run_running(client: Client, **fields: Any) -> tuple[str, str]:
    """Create a run that is RUNNING under a lease of 60 seconds and return the ids of both."""
    await create_scheduled(client, **fields)
    return await run_under_lease(client, "RUNNING")


def report(id: str, type: str, lease_id: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"taskRunId": id, "state": {"type": type, **fields}, "leaseId": lease_id}


async def state_of(client: Client, id: str) -> tuple[str, str | None]:
    """Return the name of the run's state, and its lease expiry if it has a queue entry."""
    run = await client.execute("GetTaskRun", id=id)
    return run["stateName"], run["queueEntry"] and run["queueEntry"]["leaseExpiresAt"]


async def test_one_request_reports_renews_and_claims(server: RunningServer) -> None:
    client = server.client
    (ended, ended_lease), (going, going_lease) = await run_running(client), await run_running(client)
    new = await create_scheduled(client, parameters=[1])
    server.clock.advance(20)

    result = await exchange(
        client,
        reports=[report(ended, "COMPLETED", ended_lease)],
        renew=[going_lease],
        renewLeaseSeconds=100,
        claim=CLAIM | {"leaseSeconds": 40, "workerName": "mill-1"},
    )

    (delivery,) = result["deliveries"]
    assert result["results"] == [
        {
            "taskRunId": ended,
            "result": {
                "status": "ACCEPT",
                "reason": None,
                "stateCreated": True,
                "taskRun": {"id": ended, "stateType": "COMPLETED", "stateName": "Completed"},
            },
            "error": None,
        }
    ]
    assert result["leases"] == [
        {
            "leaseId": going_lease,
            "status": "HELD",
            "leaseExpiresAt": "2030-01-01T12:02:00.000000Z",
            "cancelRequested": False,
        }
    ]
    assert (delivery["taskRun"]["id"], delivery["attempt"]) == (new, 1)
    assert (delivery["leaseExpiresAt"], delivery["taskRun"]["parameters"]) == ("2030-01-01T12:00:50.000000Z", [1])
    assert [await state_of(client, id) for id in (ended, going, new)] == [
        ("Completed", None),
        ("Running", "2030-01-01T12:02:00.000000Z"),
        ("Scheduled", "2030-01-01T12:00:50.000000Z"),
    ]
    entry = (await client.execute("GetTaskRun", id=new))["queueEntry"]
    assert entry["workerName"] == "mill-1"


async def test_every_part_may_be_empty(client: Client) -> None:
    await create_many(client, 1)

    assert await exchange(client) == {"results": [], "leases": [], "deliveries": []}


async def test_a_claimed_lease_is_acknowledged_by_the_next_exchange(server: RunningServer) -> None:
    client = server.client
    (id,) = await create_many(client, 1)
    claimed = (await exchange(client, claim=CLAIM))["deliveries"]

    renewed = await exchange(client, renew=lease_ids(claimed), renewLeaseSeconds=100)
    server.clock.advance(60)
    await server.sweep()

    assert renewed["leases"][0]["status"] == "HELD"
    assert await state_of(client, id) == ("Scheduled", "2030-01-01T12:01:40.000000Z")


async def test_a_claim_within_an_exchange_does_not_wait(server: RunningServer) -> None:
    await create_scheduled(server.client, at=server.clock.in_seconds(1))

    # The clock stands still, so a wait would not end.
    assert (await exchange(server.client, claim=CLAIM))["deliveries"] == []


async def test_a_started_claim_delivers_running_runs(client: Client) -> None:
    (id,) = await create_many(client, 1)

    (delivery,) = (await exchange(client, claim=CLAIM | {"start": True}))["deliveries"]

    assert (delivery["taskRun"]["id"], delivery["taskRun"]["stateType"]) == (id, "RUNNING")
    assert delivery["taskRun"]["runCount"] == 1


async def test_a_run_that_a_report_queues_is_claimed_by_the_same_exchange(client: Client) -> None:
    id, lease_id = await run_running(client, retryPolicy={"retries": 1})

    result = await exchange(client, reports=[report(id, "FAILED", lease_id)], claim=CLAIM)

    (row,), (delivery,) = result["results"], result["deliveries"]
    assert (row["result"]["status"], row["result"]["taskRun"]["stateName"]) == ("REJECT", "AwaitingRetry")
    assert (delivery["taskRun"]["id"], delivery["attempt"]) == (id, 2)
    assert delivery["leaseId"] != lease_id


async def test_the_run_of_a_report_is_as_the_claim_leaves_it(client: Client) -> None:
    id, lease_id = await run_running(client, retryPolicy={"retries": 1})

    result = await exchange(client, reports=[report(id, "FAILED", lease_id)], claim=CLAIM | {"start": True})

    assert [each["result"]["taskRun"]["stateType"] for each in result["results"]] == ["RUNNING"]
    assert run_ids(result["deliveries"]) == [id]


async def test_the_run_of_a_report_is_as_a_cached_result_leaves_it(client: Client) -> None:
    id, lease_id = await run_running(client, retryPolicy={"retries": 1}, cacheKey="k", parameters={"a": 1})
    other = await create_task_run(client)
    await set_task_run_state(client, other, "COMPLETED", data="result", details={"cacheKey": "k"})

    result = await exchange(client, reports=[report(id, "FAILED", lease_id)], claim=CLAIM | {"start": True})

    (row,) = result["results"]
    assert (row["result"]["status"], row["result"]["taskRun"]["stateName"]) == ("REJECT", "Cached")
    assert result["deliveries"] == []


async def test_the_run_of_a_report_is_as_the_claim_of_another_request_leaves_it(server: RunningServer) -> None:
    client = server.client
    id, lease_id = await run_running(client, retryPolicy={"retries": 1})
    database = server.services.database
    failed = StateChange(id, propose(StateType.FAILED), lease_id=lease_id)
    (demand,) = claim_request(1).demands

    reported, claimed = await database.write_all(
        exchange_items, [failed, replace(claim_request(1), demands=[replace(demand, starts=True)])]
    )

    assert isinstance(reported, TaskRunTransitionResult)
    assert isinstance(claimed, Claim)
    assert [each.task_run.id for each in claimed.deliveries] == [id]
    assert reported.task_run.state_type is StateType.RUNNING


async def test_a_slot_that_a_report_frees_is_taken_by_the_same_exchange(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="db", limit=1)
    first, lease_id = await run_running(client, tags=["db"])
    second = await create_scheduled(client, tags=["db"])
    before = (await exchange(client, claim=CLAIM | {"start": True}))["deliveries"]

    result = await exchange(client, reports=[report(first, "COMPLETED", lease_id)], claim=CLAIM | {"start": True})

    assert before == []
    assert [(each["taskRun"]["id"], each["taskRun"]["stateType"]) for each in result["deliveries"]] == [
        (second, "RUNNING")
    ]


async def test_a_lease_that_a_report_ends_cannot_be_renewed_by_the_same_exchange(client: Client) -> None:
    id, lease_id = await run_running(client)

    result = await exchange(client, reports=[report(id, "COMPLETED", lease_id)], renew=[lease_id])

    assert [each["status"] for each in result["leases"]] == ["LOST"]


async def test_a_report_that_fails_does_not_affect_the_rest(client: Client) -> None:
    (id, lease_id), (_, going_lease) = await run_running(client), await run_running(client)
    (new,) = await create_many(client, 1)

    result = await exchange(
        client,
        reports=[report(UNKNOWN_ID, "COMPLETED", lease_id), report(id, "COMPLETED", lease_id)],
        renew=[UNKNOWN_ID, going_lease],
        claim=CLAIM,
    )

    assert [each["error"] for each in result["results"]] == [
        {
            "code": "NOT_FOUND",
            "message": f"No task run has the id {UNKNOWN_ID}.",
            "argument": "reports.0.taskRunId",
        },
        None,
    ]
    assert [each["status"] for each in result["leases"]] == ["LOST", "HELD"]
    assert run_ids(result["deliveries"]) == [new]
    assert (await state_of(client, id))[0] == "Completed"


async def test_a_report_under_a_lost_lease_is_aborted(client: Client) -> None:
    id, _ = await run_running(client)

    result = await exchange(client, reports=[report(id, "COMPLETED", UNKNOWN_ID)])

    assert [each["result"]["status"] for each in result["results"]] == ["ABORT"]
    assert (await state_of(client, id))[0] == "Running"


async def test_a_report_that_would_exceed_a_queue_fails_alone(database_url: str, tmp_path: Any) -> None:
    async with run_server(tmp_path, database_url=database_url, max_scheduled_per_key=1) as server:
        client = server.client
        await create_many(client, 1)
        paused, other = [
            (await client.execute("CreateTaskRun", input={"taskKey": "t"}))["taskRun"]["id"] for _ in range(2)
        ]

        result = await exchange(client, reports=[report(paused, "SCHEDULED"), report(other, "RUNNING")])

        assert [each["error"] and each["error"]["code"] for each in result["results"]] == ["QUEUE_FULL", None]
        assert result["results"][0]["error"]["argument"] == "reports.0.state"
        assert [(await state_of(client, id))[0] for id in (paused, other)] == ["Pending", "Running"]


async def test_a_cancellation_is_reported_to_the_renewal(client: Client) -> None:
    id, lease_id = await run_running(client)
    await set_task_run_state(client, id, "CANCELLING")

    result = await exchange(client, renew=[lease_id])

    assert [each["cancelRequested"] for each in result["leases"]] == [True]


@pytest.mark.parametrize(
    ("wrong", "argument"),
    [
        ({"reports": [report(UNKNOWN_ID, "RUNNING")] * 1001}, "reports"),
        ({"reports": [report("nonsense", "RUNNING")]}, "reports.0.taskRunId"),
        ({"reports": [report(UNKNOWN_ID, "RUNNING", "nonsense")]}, "reports.0.leaseId"),
        ({"renew": [UNKNOWN_ID] * 1001}, "renew"),
        ({"renew": ["nonsense"]}, "renew.0"),
        ({"renewLeaseSeconds": 0}, "renewLeaseSeconds"),
        ({"renewLeaseSeconds": 86_401}, "renewLeaseSeconds"),
        ({"claim": CLAIM | {"taskKeys": []}}, "claim.taskKeys"),
        ({"claim": CLAIM | {"limit": 0}}, "claim.limit"),
        ({"claim": CLAIM | {"limit": 501}}, "claim.limit"),
        ({"claim": CLAIM | {"leaseSeconds": 0}}, "claim.leaseSeconds"),
    ],
)
async def test_an_invalid_argument_is_named_and_changes_nothing(
    client: Client, wrong: dict[str, Any], argument: str
) -> None:
    id, lease_id = await run_running(client)
    (new,) = await create_many(client, 1)
    valid = {"reports": [report(id, "COMPLETED", lease_id)], "renew": [lease_id], "claim": CLAIM}
    before = [await state_of(client, each) for each in (id, new)]

    error = await client.execute_refused("ExchangeTaskRuns", **valid | wrong)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", argument)
    assert [await state_of(client, each) for each in (id, new)] == before


async def test_task_keys_are_served_in_round_robin_across_exchanges(client: Client) -> None:
    await create_many(client, 3, "a")
    await create_many(client, 3, "b")

    claimed = [(await exchange(client, claim={"taskKeys": ["a", "b"], "limit": 1}))["deliveries"] for _ in range(6)]

    assert [each["taskRun"]["taskKey"] for deliveries in claimed for each in deliveries] == ["a", "b"] * 3


async def test_each_of_many_exchanges_gets_its_own_results(client: Client) -> None:
    running = [await run_running(client) for _ in range(8)]
    new = await create_many(client, 16)

    results = await asyncio.gather(
        *(
            exchange(
                client,
                reports=[report(id, "COMPLETED", lease_id, data=number)],
                renew=[lease_id],
                claim=CLAIM | {"limit": 2},
            )
            for number, (id, lease_id) in enumerate(running)
        )
    )

    assert [each["results"][0]["taskRunId"] for each in results] == [id for id, _ in running]
    assert [each["leases"][0]["leaseId"] for each in results] == [lease_id for _, lease_id in running]
    assert [len(each["deliveries"]) for each in results] == [2] * 8
    assert sorted(id for each in results for id in run_ids(each["deliveries"])) == sorted(new)


async def test_deliveries_of_exchanges_are_counted_in_the_metrics(server: RunningServer) -> None:
    await create_many(server.client, 3)
    before = await scrape(server)

    await exchange(server.client, claim=CLAIM)

    after = await scrape(server)
    name = 'runyard_deliveries_total{attempt="first"}'
    assert after[name] - before[name] == 3


async def test_an_unacknowledged_run_of_an_exchange_is_redelivered_in_time(server: RunningServer) -> None:
    (id,) = await create_many(server.client, 1)
    await exchange(server.client, claim=CLAIM)
    # The sweeper knows of the lease.
    await asyncio.wait_for(server.clock.wait_for_waiter(5), TIMEOUT_SECONDS)

    server.clock.advance(30)

    (delivery,) = (await server.client.execute("ClaimTaskRuns", taskKeys=["t"], waitSeconds=60))["deliveries"]
    assert (delivery["taskRun"]["id"], delivery["attempt"]) == (id, 2)

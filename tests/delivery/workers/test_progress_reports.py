"""reportTaskRunProgress: the progress of a run, as the worker that holds its lease reported it last."""

from typing import Any

import pytest

from tests.builders.api_runs import create_task_run, set_task_run_state
from tests.builders.ids import UNKNOWN_ID
from tests.builders.queued_runs import create_many, create_scheduled, lease_ids, run_under_lease
from tests.client import Client
from tests.serving import SQLITE_ONLY, RunningServer


async def report(client: Client, lease_id: str, done: float, **fields: Any) -> dict[str, Any]:
    (lease,) = (await client.execute("ReportTaskRunProgress", reports=[{"leaseId": lease_id, "done": done, **fields}]))[
        "leases"
    ]
    return lease


async def progress_of(client: Client, id: str) -> Any:
    return (await client.execute("GetTaskRun", id=id))["progress"]


async def test_a_report_replaces_the_one_before(server: RunningServer) -> None:
    client = server.client
    await create_scheduled(client)
    id, lease_id = await run_under_lease(client, "RUNNING")
    await report(client, lease_id, 3, total=10, message="a.png")
    server.clock.advance(5)

    lease = await report(client, lease_id, 4.5)

    assert lease == {
        "leaseId": lease_id,
        "status": "HELD",
        "leaseExpiresAt": "2030-01-01T12:01:00.000000Z",
        "cancelRequested": False,
    }
    assert await progress_of(client, id) == {
        "done": 4.5,
        "total": None,
        "message": None,
        "updatedAt": "2030-01-01T12:00:05.000000Z",
    }


async def test_a_report_sets_no_state_and_does_not_change_updated_at(server: RunningServer) -> None:
    client = server.client
    await create_scheduled(client)
    id, lease_id = await run_under_lease(client, "RUNNING")
    before = await client.execute("GetTaskRun", id=id)
    server.clock.advance(5)

    await report(client, lease_id, 1, total=2, message="half")

    after = await client.execute("GetTaskRun", id=id)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"progress", "estimatedRunTimeSeconds"}


async def test_a_report_under_a_lost_lease_changes_nothing(server: RunningServer) -> None:
    client = server.client
    await create_scheduled(client)
    id, lease_id = await run_under_lease(client, "RUNNING")
    await report(client, lease_id, 1)
    server.clock.advance(60)

    lease = await report(client, lease_id, 2)

    assert lease == {"leaseId": lease_id, "status": "LOST", "leaseExpiresAt": None, "cancelRequested": False}
    assert (await progress_of(client, id))["done"] == 1


async def test_each_report_of_a_batch_has_its_own_result(client: Client) -> None:
    await create_many(client, 2)
    deliveries = (await client.execute("ClaimTaskRuns", taskKeys=["t"], limit=2))["deliveries"]
    first, second = lease_ids(deliveries)
    reports = [
        {"leaseId": second, "done": 1},
        {"leaseId": UNKNOWN_ID, "done": 2},
        {"leaseId": first, "done": 3},
        {"leaseId": first, "done": 4},
    ]

    leases = (await client.execute("ReportTaskRunProgress", reports=reports))["leases"]

    assert [each["leaseId"] for each in leases] == [second, UNKNOWN_ID, first, first]
    assert [each["status"] for each in leases] == ["HELD", "LOST", "HELD", "HELD"]
    done = {each["leaseId"]: (await progress_of(client, each["taskRun"]["id"]))["done"] for each in deliveries}
    assert done == {first: 4, second: 1}


async def test_a_report_acknowledges_the_lease_and_does_not_extend_it_again(server: RunningServer) -> None:
    client = server.client
    await create_scheduled(client)
    claimed = await client.execute("ClaimTaskRuns", taskKeys=["t"], leaseSeconds=300)
    (lease_id,) = lease_ids(claimed["deliveries"])
    server.clock.advance(10)

    first = await report(client, lease_id, 1)
    server.clock.advance(10)
    second = await report(client, lease_id, 2)

    assert first["leaseExpiresAt"] == second["leaseExpiresAt"] == "2030-01-01T12:05:10.000000Z"


async def test_a_report_returns_that_the_run_is_being_cancelled(client: Client) -> None:
    await create_scheduled(client)
    id, lease_id = await run_under_lease(client, "RUNNING")
    await set_task_run_state(client, id, "CANCELLING")

    lease = await report(client, lease_id, 1)

    assert (lease["status"], lease["cancelRequested"]) == ("HELD", True)


async def test_the_progress_remains_after_the_end(client: Client) -> None:
    await create_scheduled(client)
    id, lease_id = await run_under_lease(client, "RUNNING")
    await report(client, lease_id, 7)

    await set_task_run_state(client, id, "COMPLETED", lease_id=lease_id)

    assert (await progress_of(client, id))["done"] == 7


async def test_a_retried_run_begins_without_progress(client: Client) -> None:
    await create_task_run(client, "SCHEDULED", retryPolicy={"retries": 1})
    id, lease_id = await run_under_lease(client, "RUNNING")
    await report(client, lease_id, 7)
    await set_task_run_state(client, id, "FAILED", lease_id=lease_id)
    before = await progress_of(client, id)

    await run_under_lease(client, "RUNNING")

    assert before["done"] == 7
    assert await progress_of(client, id) is None


async def test_a_started_claim_delivers_runs_without_progress(client: Client) -> None:
    await create_scheduled(client)
    id, lease_id = await run_under_lease(client, "RUNNING")
    await report(client, lease_id, 7)
    await client.execute("ReleaseTaskRuns", leaseIds=[lease_id])
    document = """mutation { claimTaskRuns(taskKeys: ["t"], start: true) {
        deliveries { taskRun { id stateType progress { done } } } } }"""

    response = await client.http.post("/graphql", json={"query": document})

    (delivery,) = response.json()["data"]["claimTaskRuns"]["deliveries"]
    assert delivery["taskRun"] == {"id": id, "stateType": "RUNNING", "progress": None}
    assert await progress_of(client, id) is None


async def test_lists_return_the_progress_of_each_run(client: Client) -> None:
    await create_many(client, 2)
    id, lease_id = await run_under_lease(client, "RUNNING")
    await report(client, lease_id, 7, total=9, message="a")
    query = "{ taskRuns { nodes { id progress { done total message updatedAt } } } }"

    response = await client.http.post("/graphql", json={"query": query})

    progress = {"done": 7, "total": 9, "message": "a", "updatedAt": "2030-01-01T12:00:00.000000Z"}
    nodes = response.json()["data"]["taskRuns"]["nodes"]
    assert [each["progress"] for each in nodes if each["id"] == id] == [progress]
    assert [each["progress"] for each in nodes if each["id"] != id] == [None]


@pytest.mark.parametrize(
    ("fields", "argument"),
    [
        ({"done": -1}, "reports.0.done"),
        ({"done": 1, "total": -0.5}, "reports.0.total"),
        ({"done": 1, "message": "a" * 1001}, "reports.0.message"),
        ({"done": 1, "leaseId": "no id"}, "reports.0.leaseId"),
    ],
)
@SQLITE_ONLY
async def test_an_invalid_report_is_refused_and_changes_nothing(
    client: Client, fields: dict[str, Any], argument: str
) -> None:
    await create_scheduled(client)
    id, lease_id = await run_under_lease(client, "RUNNING")

    error = await client.execute_refused("ReportTaskRunProgress", reports=[{"leaseId": lease_id, **fields}])

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", argument)
    assert await progress_of(client, id) is None


@SQLITE_ONLY
async def test_an_amount_must_be_finite(client: Client) -> None:
    reports = f'[{{leaseId: "{UNKNOWN_ID}", done: 1e999}}]'
    document = f"mutation {{ reportTaskRunProgress(reports: {reports}) {{ leases {{ status }} }} }}"

    response = await client.http.post("/graphql", json={"query": document})

    (error,) = response.json()["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"


async def test_the_limits_of_a_report_are_accepted(client: Client) -> None:
    await create_scheduled(client)
    id, lease_id = await run_under_lease(client, "RUNNING")

    await report(client, lease_id, 2, total=1, message="é" * 1000)

    progress = await progress_of(client, id)
    assert (progress["done"], progress["total"], progress["message"]) == (2, 1, "é" * 1000)


@SQLITE_ONLY
async def test_more_than_a_thousand_reports_are_refused(client: Client) -> None:
    error = await client.execute_refused("ReportTaskRunProgress", reports=[{"leaseId": UNKNOWN_ID, "done": 1}] * 1001)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "reports")

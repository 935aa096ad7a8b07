"""deleteTaskRun: deletes the run with everything that belongs to it."""

import pytest

from tests.builders.api_runs import create_flow_run, create_task_run
from tests.builders.ids import UNKNOWN_ID
from tests.client import Client
from tests.tables import count_rows


async def test_a_deleted_run_no_longer_exists(client: Client) -> None:
    id, other = await create_task_run(client), await create_task_run(client)

    deleted = (await client.execute("DeleteTaskRun", id=id))["deletedId"]

    assert deleted == id
    assert await client.execute("GetTaskRun", id=id) is None
    assert [run["id"] for run in (await client.execute("ListTaskRuns"))["nodes"]] == [other]


@pytest.mark.parametrize("state", ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "CANCELLING", "PAUSED"])
async def test_a_run_may_be_deleted_in_any_state(client: Client, state: str) -> None:
    id = await create_task_run(client, state)

    assert (await client.execute("DeleteTaskRun", id=id))["deletedId"] == id


async def test_its_states_and_queue_entry_are_deleted(client: Client, database_url: str) -> None:
    id, other = await create_task_run(client, "SCHEDULED"), await create_task_run(client, "SCHEDULED")
    await client.execute("SetTaskRunState", id=id, state={"type": "SCHEDULED"})
    assert await count_rows(database_url, ["task_run_state"]) == {"task_run_state": 3}
    assert await count_rows(database_url, ["queue_entry"]) == {"queue_entry": 2}

    await client.execute("DeleteTaskRun", id=id)

    assert await count_rows(database_url, ["task_run_state"]) == {"task_run_state": 1}
    assert await count_rows(database_url, ["queue_entry"]) == {"queue_entry": 1}
    kept = await client.execute("GetTaskRun", id=other)
    assert len(kept["states"]) == 1
    assert kept["queueEntry"]["taskKey"] == "t"


async def test_a_deleted_run_is_not_delivered(client: Client) -> None:
    deleted, kept = await create_task_run(client, "SCHEDULED"), await create_task_run(client, "SCHEDULED")
    await client.execute("DeleteTaskRun", id=deleted)

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        (delivery,) = await socket.deliveries(1)

    assert delivery["taskRun"]["id"] == kept


async def test_a_worker_that_holds_it_loses_its_lease(client: Client) -> None:
    id = await create_task_run(client, "SCHEDULED")
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)

        await client.execute("DeleteTaskRun", id=id)

        (lease,) = (await client.execute("AcknowledgeTaskRuns", leaseIds=[delivery["leaseId"]]))["leases"]
    assert lease["status"] == "LOST"


async def test_its_subflow_is_kept_without_a_parent(client: Client) -> None:
    id = await create_task_run(client)
    child_id = await create_flow_run(client, parentTaskRunId=id)

    await client.execute("DeleteTaskRun", id=id)

    flow_run = await client.execute("GetFlowRun", id=child_id)
    assert (flow_run["parentTaskRunId"], flow_run["stateType"]) == (None, "PENDING")


async def test_deleting_it_again_is_not_found(client: Client) -> None:
    id, _ = await create_task_run(client), await create_task_run(client)
    await client.execute("DeleteTaskRun", id=id)

    error = await client.execute_refused("DeleteTaskRun", id=id)

    assert error == {"message": f"id: No task run has the id {id}.", "code": "NOT_FOUND", "argument": "id"}
    assert (await client.execute("ListTaskRuns"))["totalCount"] == 1


async def test_one_of_ten_concurrent_deletes_succeeds(client: Client) -> None:
    id = await create_task_run(client)

    async with client.socket() as socket:
        # While the first write is in progress, the deletes are batched into one transaction.
        await socket.subscribe("CreateTaskRun", input={"taskKey": "t"})
        deletes = [await socket.subscribe("DeleteTaskRun", id=id) for _ in range(10)]
        messages = [await socket.receive() for _ in range(22)]

    results = [each["payload"] for each in messages if each["id"] in deletes and each["type"] == "next"]
    assert [result["data"] for result in results].count({"deleteTaskRun": {"deletedId": id}}) == 1
    assert [each["errors"][0]["extensions"]["code"] for each in results if "errors" in each] == ["NOT_FOUND"] * 9


async def test_an_unknown_run_is_not_found_and_nothing_is_deleted(client: Client) -> None:
    await create_task_run(client)

    error = await client.execute_refused("DeleteTaskRun", id=UNKNOWN_ID)

    assert error["code"] == "NOT_FOUND"
    assert (await client.execute("ListTaskRuns"))["totalCount"] == 1


async def test_a_malformed_id_is_refused_and_nothing_is_deleted(client: Client) -> None:
    await create_task_run(client)

    error = await client.execute_refused("DeleteTaskRun", id="nonsense")

    assert error == {
        "message": "id: must be a UUID; got 'nonsense'.",
        "code": "BAD_USER_INPUT",
        "argument": "id",
    }
    assert (await client.execute("ListTaskRuns"))["totalCount"] == 1


async def test_its_keys_can_be_reused_afterwards(client: Client) -> None:
    keys = {"taskKey": "t", "dynamicKey": "1"}
    first = await client.execute("CreateTaskRun", input=keys)
    await client.execute("DeleteTaskRun", id=first["taskRun"]["id"])

    second = await client.execute("CreateTaskRun", input=keys)

    assert second["created"] is True
    assert second["taskRun"]["id"] != first["taskRun"]["id"]

"""deleteTaskRun: the run is gone, with all that was its own."""

import pytest

from tests.client import Client
from tests.tables import count_rows

NOWHERE = "01a206b2-304f-7000-b2ee-99ddb7de4877"


async def create(client: Client, state: str = "PENDING", **fields: str) -> str:
    payload = await client.ask("CreateTaskRun", input={"taskKey": "t", "state": {"type": state}, **fields})
    return payload["taskRun"]["id"]


async def test_a_deleted_run_is_not_there_any_more(client: Client) -> None:
    id, other = await create(client), await create(client)

    deleted = await client.ask("DeleteTaskRun", id=id)

    assert deleted == id
    assert await client.ask("GetTaskRun", id=id) is None
    assert [run["id"] for run in (await client.ask("ListTaskRuns"))["nodes"]] == [other]


@pytest.mark.parametrize("state", ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "CANCELLING", "PAUSED"])
async def test_a_run_may_be_deleted_in_whatever_state(client: Client, state: str) -> None:
    id = await create(client, state)

    assert await client.ask("DeleteTaskRun", id=id) == id


async def test_its_states_and_its_place_in_the_queue_go_with_it(client: Client, database_url: str) -> None:
    id, other = await create(client, "SCHEDULED"), await create(client, "SCHEDULED")
    await client.ask("SetTaskRunState", id=id, state={"type": "SCHEDULED"})
    assert await count_rows(database_url, ["task_run_state"]) == {"task_run_state": 3}
    assert await count_rows(database_url, ["queue_entry"]) == {"queue_entry": 2}

    await client.ask("DeleteTaskRun", id=id)

    assert await count_rows(database_url, ["task_run_state"]) == {"task_run_state": 1}
    assert await count_rows(database_url, ["queue_entry"]) == {"queue_entry": 1}
    kept = await client.ask("GetTaskRun", id=other)
    assert len(kept["states"]) == 1
    assert kept["queueEntry"]["taskKey"] == "t"


async def test_a_deleted_run_is_not_delivered(client: Client) -> None:
    deleted, kept = await create(client, "SCHEDULED"), await create(client, "SCHEDULED")
    await client.ask("DeleteTaskRun", id=deleted)

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"], prefetch=2)
        (delivery,) = await socket.deliveries(1)

    assert delivery["taskRun"]["id"] == kept


async def test_a_worker_that_has_it_loses_its_lease(client: Client) -> None:
    id = await create(client, "SCHEDULED")
    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)

        await client.ask("DeleteTaskRun", id=id)

        (lease,) = await client.ask("AcknowledgeTaskRuns", leaseIds=[delivery["leaseId"]])
    assert lease["status"] == "LOST"


async def test_a_subflow_outlives_the_task_run_that_stands_for_it(client: Client) -> None:
    id = await create(client)
    flow = (await client.ask("CreateFlow", input={"name": "f"}))["flow"]
    child = await client.ask("CreateFlowRun", input={"flowId": flow["id"], "parentTaskRunId": id})

    await client.ask("DeleteTaskRun", id=id)

    flow_run = await client.ask("GetFlowRun", id=child["flowRun"]["id"])
    assert (flow_run["parentTaskRunId"], flow_run["stateType"]) == (None, "PENDING")


async def test_the_second_time_it_is_not_found(client: Client) -> None:
    id, _ = await create(client), await create(client)
    await client.ask("DeleteTaskRun", id=id)

    error = await client.refused("DeleteTaskRun", id=id)

    assert error == {"message": f"No task run has the id {id}.", "code": "NOT_FOUND"}
    assert (await client.ask("ListTaskRuns"))["totalCount"] == 1


async def test_of_ten_concurrent_deletes_one_finds_it(client: Client) -> None:
    id = await create(client)

    async with client.socket() as socket:
        # While the first write is under way, the deletes gather for one transaction.
        await socket.subscribe("CreateTaskRun", input={"taskKey": "t"})
        deletes = [await socket.subscribe("DeleteTaskRun", id=id) for _ in range(10)]
        messages = [await socket.receive() for _ in range(22)]

    answers = [each["payload"] for each in messages if each["id"] in deletes and each["type"] == "next"]
    assert [answer["data"] for answer in answers].count({"deleteTaskRun": id}) == 1
    assert [each["errors"][0]["extensions"]["code"] for each in answers if "errors" in each] == ["NOT_FOUND"] * 9


async def test_a_run_that_never_was_is_not_found_and_nothing_is_deleted(client: Client) -> None:
    await create(client)

    error = await client.refused("DeleteTaskRun", id=NOWHERE)

    assert error["code"] == "NOT_FOUND"
    assert (await client.ask("ListTaskRuns"))["totalCount"] == 1


async def test_a_malformed_id_is_refused_and_nothing_is_deleted(client: Client) -> None:
    await create(client)

    error = await client.refused("DeleteTaskRun", id="nonsense")

    assert error == {
        "message": "id: 'nonsense' is no id; ids are UUIDs.",
        "code": "BAD_USER_INPUT",
        "argument": "id",
    }
    assert (await client.ask("ListTaskRuns"))["totalCount"] == 1


async def test_its_keys_make_a_new_run_afterwards(client: Client) -> None:
    keys = {"taskKey": "t", "dynamicKey": "1"}
    first = await client.ask("CreateTaskRun", input=keys)
    await client.ask("DeleteTaskRun", id=first["taskRun"]["id"])

    second = await client.ask("CreateTaskRun", input=keys)

    assert second["created"] is True
    assert second["taskRun"]["id"] != first["taskRun"]["id"]

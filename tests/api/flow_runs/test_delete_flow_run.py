"""deleteFlowRun: the flow run is gone, with its task runs and all states."""

from typing import Any

import pytest

from tests.client import Client
from tests.tables import count_rows

NOWHERE = "01a206b2-304f-7000-b2ee-99ddb7de4877"
TABLES = ("flow_run", "flow_run_state", "task_run", "task_run_state", "concurrency_slot", "task_run_state_cache")


async def rows(database_url: str) -> dict[str, int]:
    """How many rows the server's database has of each."""
    return await count_rows(database_url, TABLES)


async def create(client: Client, state: str = "RUNNING", **fields: Any) -> str:
    flow = (await client.ask("CreateFlow", input={"name": "f"}))["flow"]
    payload = await client.ask("CreateFlowRun", input={"flowId": flow["id"], "state": {"type": state}, **fields})
    return payload["flowRun"]["id"]


async def create_task_run(client: Client, flow_run_id: str | None = None, **fields: Any) -> str:
    input = {"taskKey": "t", "flowRunId": flow_run_id, **fields}
    return (await client.ask("CreateTaskRun", input=input))["taskRun"]["id"]


async def test_a_deleted_flow_run_takes_its_task_runs_along_and_no_others(client: Client) -> None:
    id, other = await create(client), await create(client)
    its = [await create_task_run(client, id) for _ in range(2)]
    kept = [await create_task_run(client, flow_run_id) for flow_run_id in (other, None)]

    deleted = await client.ask("DeleteFlowRun", id=id)

    assert deleted == id
    assert await client.ask("GetFlowRun", id=id) is None
    assert [await client.ask("GetTaskRun", id=each) for each in its] == [None, None]
    assert [run["id"] for run in (await client.ask("ListTaskRuns"))["nodes"]] == kept[::-1]
    assert (await client.ask("GetFlowRun", id=other))["id"] == other


async def test_all_states_slots_and_kept_results_go_with_it(client: Client, database_url: str) -> None:
    await client.ask("CreateConcurrencyLimit", tag="x", limit=1)
    id = await create(client)
    holder, maker = await create_task_run(client, id, tags=["x"]), await create_task_run(client, id)
    await client.ask("SetTaskRunState", id=holder, state={"type": "RUNNING"})
    await client.ask("SetTaskRunState", id=maker, state={"type": "COMPLETED", "details": {"cacheKey": "k"}})
    assert await rows(database_url) == {
        "flow_run": 1,
        "flow_run_state": 1,
        "task_run": 2,
        "task_run_state": 4,
        "concurrency_slot": 1,
        "task_run_state_cache": 1,
    }

    await client.ask("DeleteFlowRun", id=id)

    assert await rows(database_url) == dict.fromkeys(TABLES, 0)
    assert (await client.ask("GetConcurrencyLimit", tag="x"))["activeSlots"] == []


@pytest.mark.parametrize("state", ["SCHEDULED", "PENDING", "COMPLETED", "CANCELLING", "PAUSED"])
async def test_a_flow_run_may_be_deleted_in_whatever_state(client: Client, state: str) -> None:
    id = await create(client, state)

    assert await client.ask("DeleteFlowRun", id=id) == id


async def test_a_task_run_of_it_can_not_be_moved_any_more(client: Client) -> None:
    id = await create(client)
    task_run_id = await create_task_run(client, id)
    await client.ask("DeleteFlowRun", id=id)

    error = await client.refused("SetTaskRunState", id=task_run_id, state={"type": "RUNNING"})

    assert error["code"] == "NOT_FOUND"


async def test_its_flow_stays_and_so_do_the_subflows_of_its_task_runs(client: Client) -> None:
    id = await create(client)
    subflow_id = await create(client, parentTaskRunId=await create_task_run(client, id))
    flow_id = (await client.ask("GetFlowRun", id=id))["flowId"]

    await client.ask("DeleteFlowRun", id=id)

    subflow = await client.ask("GetFlowRun", id=subflow_id)
    assert (subflow["parentTaskRunId"], subflow["stateType"]) == (None, "RUNNING")
    assert (await client.ask("GetFlow", id=flow_id))["name"] == "f"


async def test_the_task_run_of_a_deleted_subflow_stays_as_it_is(client: Client) -> None:
    task_run_id = await create_task_run(client, await create(client))
    subflow_id = await create(client, parentTaskRunId=task_run_id)
    before = await client.ask("GetTaskRun", id=task_run_id)

    await client.ask("DeleteFlowRun", id=subflow_id)

    assert await client.ask("GetTaskRun", id=task_run_id) == {**before, "childFlowRun": None}


async def test_the_second_time_it_is_not_found(client: Client, database_url: str) -> None:
    id, _ = await create(client), await create(client)
    await client.ask("DeleteFlowRun", id=id)
    before = await rows(database_url)

    error = await client.refused("DeleteFlowRun", id=id)

    assert error == {"message": f"No flow run has the id {id}.", "code": "NOT_FOUND"}
    assert await rows(database_url) == before


async def test_a_task_run_s_id_is_no_flow_run_s(client: Client, database_url: str) -> None:
    task_run_id = await create_task_run(client, await create(client))
    before = await rows(database_url)

    error = await client.refused("DeleteFlowRun", id=task_run_id)

    assert error["code"] == "NOT_FOUND"
    assert await rows(database_url) == before


async def test_a_malformed_id_is_refused_and_nothing_is_deleted(client: Client, database_url: str) -> None:
    await create(client)
    before = await rows(database_url)

    error = await client.refused("DeleteFlowRun", id="nonsense")

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "id")
    assert await rows(database_url) == before


async def test_its_idempotency_key_makes_a_new_flow_run_afterwards(client: Client) -> None:
    first = await create(client, idempotencyKey="k")
    await client.ask("DeleteFlowRun", id=first)

    second = await create(client, idempotencyKey="k")

    assert second != first

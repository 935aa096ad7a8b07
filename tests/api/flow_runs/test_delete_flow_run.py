"""deleteFlowRun: deletes the flow run with its task runs and all states."""

import pytest

from tests.builders.api_runs import create_flow, create_flow_run, create_task_run, read_slot_holders
from tests.client import Client
from tests.tables import count_rows

TABLES = ("flow_run", "flow_run_state", "task_run", "task_run_state", "concurrency_slot", "task_run_state_cache")


async def row_counts(database_url: str) -> dict[str, int]:
    """Count the rows of each of `TABLES`."""
    return await count_rows(database_url, TABLES)


async def test_deleting_a_flow_run_deletes_its_own_task_runs_only(client: Client) -> None:
    id, other = await create_flow_run(client, "RUNNING"), await create_flow_run(client, "RUNNING")
    task_run_ids = [await create_task_run(client, flowRunId=id) for _ in range(2)]
    kept = [await create_task_run(client, flowRunId=flow_run_id) for flow_run_id in (other, None)]

    deleted = (await client.execute("DeleteFlowRun", id=id))["deletedId"]

    assert deleted == id
    assert await client.execute("GetFlowRun", id=id) is None
    assert [await client.execute("GetTaskRun", id=each) for each in task_run_ids] == [None, None]
    assert [run["id"] for run in (await client.execute("ListTaskRuns"))["nodes"]] == kept[::-1]
    assert (await client.execute("GetFlowRun", id=other))["id"] == other


async def test_its_states_slots_and_cached_results_are_deleted(client: Client, database_url: str) -> None:
    await client.execute("SetConcurrencyLimit", tag="x", limit=1)
    id = await create_flow_run(client, "RUNNING")
    holder, cached = (
        await create_task_run(client, flowRunId=id, tags=["x"]),
        await create_task_run(client, flowRunId=id),
    )
    await client.execute("SetTaskRunState", id=holder, state={"type": "RUNNING"})
    await client.execute("SetTaskRunState", id=cached, state={"type": "COMPLETED", "details": {"cacheKey": "k"}})
    assert await row_counts(database_url) == {
        "flow_run": 1,
        "flow_run_state": 1,
        "task_run": 2,
        "task_run_state": 4,
        "concurrency_slot": 1,
        "task_run_state_cache": 1,
    }

    await client.execute("DeleteFlowRun", id=id)

    assert await row_counts(database_url) == dict.fromkeys(TABLES, 0)
    assert await read_slot_holders(client, "x") == []


@pytest.mark.parametrize("state", ["SCHEDULED", "PENDING", "COMPLETED", "CANCELLING", "PAUSED"])
async def test_a_flow_run_may_be_deleted_in_any_state(client: Client, state: str) -> None:
    id = await create_flow_run(client, state)

    assert (await client.execute("DeleteFlowRun", id=id))["deletedId"] == id


async def test_setting_the_state_of_its_task_run_is_not_found(client: Client) -> None:
    id = await create_flow_run(client, "RUNNING")
    task_run_id = await create_task_run(client, flowRunId=id)
    await client.execute("DeleteFlowRun", id=id)

    error = await client.execute_refused("SetTaskRunState", id=task_run_id, state={"type": "RUNNING"})

    assert error["code"] == "NOT_FOUND"


async def test_its_flow_and_the_subflows_of_its_task_runs_are_kept(client: Client) -> None:
    flow_id = await create_flow(client, "f")
    id = await create_flow_run(client, "RUNNING", flowId=flow_id)
    subflow_id = await create_flow_run(client, "RUNNING", parentTaskRunId=await create_task_run(client, flowRunId=id))

    await client.execute("DeleteFlowRun", id=id)

    subflow = await client.execute("GetFlowRun", id=subflow_id)
    assert (subflow["parentTaskRunId"], subflow["stateType"]) == (None, "RUNNING")
    assert (await client.execute("GetFlow", id=flow_id))["name"] == "f"


async def test_the_parent_task_run_of_a_deleted_subflow_is_unchanged(client: Client) -> None:
    task_run_id = await create_task_run(client, flowRunId=await create_flow_run(client, "RUNNING"))
    subflow_id = await create_flow_run(client, "RUNNING", parentTaskRunId=task_run_id)
    before = await client.execute("GetTaskRun", id=task_run_id)

    await client.execute("DeleteFlowRun", id=subflow_id)

    assert await client.execute("GetTaskRun", id=task_run_id) == {**before, "childFlowRun": None}


async def test_deleting_it_again_is_not_found(client: Client, database_url: str) -> None:
    id, _ = await create_flow_run(client, "RUNNING"), await create_flow_run(client, "RUNNING")
    await client.execute("DeleteFlowRun", id=id)
    before = await row_counts(database_url)

    error = await client.execute_refused("DeleteFlowRun", id=id)

    assert error == {"message": f"id: No flow run has the id {id}.", "code": "NOT_FOUND", "argument": "id"}
    assert await row_counts(database_url) == before


async def test_a_task_run_id_is_not_found(client: Client, database_url: str) -> None:
    task_run_id = await create_task_run(client, flowRunId=await create_flow_run(client, "RUNNING"))
    before = await row_counts(database_url)

    error = await client.execute_refused("DeleteFlowRun", id=task_run_id)

    assert error["code"] == "NOT_FOUND"
    assert await row_counts(database_url) == before


async def test_a_malformed_id_is_refused_and_nothing_is_deleted(client: Client, database_url: str) -> None:
    await create_flow_run(client, "RUNNING")
    before = await row_counts(database_url)

    error = await client.execute_refused("DeleteFlowRun", id="nonsense")

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "id")
    assert await row_counts(database_url) == before


async def test_its_idempotency_key_can_be_reused_afterwards(client: Client) -> None:
    first = await create_flow_run(client, "RUNNING", idempotencyKey="k")
    await client.execute("DeleteFlowRun", id=first)

    second = await create_flow_run(client, "RUNNING", idempotencyKey="k")

    assert second != first

"""deleteFlow: deletes the flow with everything that belongs to it."""

from tests.builders.api_runs import (
    create_flow_run,
    create_objects,
    create_task_run,
    read_slot_holders,
    set_task_run_state,
)
from tests.builders.ids import UNKNOWN_ID
from tests.client import Client
from tests.tables import count_rows

TABLES = ("flow", "deployment", "flow_run", "flow_run_state", "task_run", "task_run_state", "concurrency_slot")


async def row_counts(database_url: str) -> dict[str, int]:
    """Count the rows of each of `TABLES`."""
    return await count_rows(database_url, TABLES)


async def create(client: Client, name: str) -> dict[str, str]:
    """Create a flow with a deployment, a flow run and a RUNNING task run that holds a slot of `x`; return ids by query."""
    ids = await create_objects(client, name, tags=["x"])
    await set_task_run_state(client, ids["TaskRun"], "RUNNING")
    return {f"Get{type}": id for type, id in ids.items()}


async def test_deleting_a_flow_deletes_its_deployments_runs_and_slots_only(client: Client, database_url: str) -> None:
    await client.execute("SetConcurrencyLimit", tag="x", limit=2)
    ids, others = await create(client, "etl"), await create(client, "other")
    counts_of_one_flow = {name: count // 2 for name, count in (await row_counts(database_url)).items()}

    deleted = (await client.execute("DeleteFlow", id=ids["GetFlow"]))["deletedId"]

    assert deleted == ids["GetFlow"]
    assert [await client.execute(query, id=id) for query, id in ids.items()] == [None] * 4
    assert await row_counts(database_url) == counts_of_one_flow
    assert [(await client.execute(query, id=id))["id"] for query, id in others.items()] == list(others.values())
    assert await read_slot_holders(client, "x") == [others["GetTaskRun"]]


async def test_background_runs_are_kept(client: Client) -> None:
    flow_id = (await create(client, "etl"))["GetFlow"]
    background = await create_task_run(client)

    await client.execute("DeleteFlow", id=flow_id)

    assert [run["id"] for run in (await client.execute("ListTaskRuns"))["nodes"]] == [background]


async def test_a_subflow_of_another_flow_is_kept_without_its_parent(client: Client) -> None:
    ids, others = await create(client, "etl"), await create(client, "other")
    subflow_id = await create_flow_run(client, flowId=others["GetFlow"], parentTaskRunId=ids["GetTaskRun"])

    await client.execute("DeleteFlow", id=ids["GetFlow"])

    run = await client.execute("GetFlowRun", id=subflow_id)
    assert (run["parentTaskRunId"], run["stateType"]) == (None, "PENDING")


async def test_deleting_it_again_is_not_found(client: Client, database_url: str) -> None:
    ids, _ = await create(client, "etl"), await create(client, "other")
    await client.execute("DeleteFlow", id=ids["GetFlow"])
    before = await row_counts(database_url)

    error = await client.execute_refused("DeleteFlow", id=ids["GetFlow"])

    assert error == {"message": f"id: No flow has the id {ids['GetFlow']}.", "code": "NOT_FOUND", "argument": "id"}
    assert await row_counts(database_url) == before


async def test_an_unknown_flow_is_not_found(client: Client) -> None:
    error = await client.execute_refused("DeleteFlow", id=UNKNOWN_ID)

    assert error["code"] == "NOT_FOUND"


async def test_a_malformed_id_is_refused_and_nothing_is_deleted(client: Client, database_url: str) -> None:
    await create(client, "etl")
    before = await row_counts(database_url)

    error = await client.execute_refused("DeleteFlow", id="nonsense")

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "id")
    assert await row_counts(database_url) == before


async def test_its_name_can_be_reused_afterwards(client: Client) -> None:
    first = await create(client, "etl")
    await client.execute("DeleteFlow", id=first["GetFlow"])

    second = await client.execute("CreateFlow", input={"name": "etl"})

    assert (second["created"], second["flow"]["id"] != first["GetFlow"]) == (True, True)

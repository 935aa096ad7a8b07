"""deleteFlow: the flow is gone, with all that belongs to it."""

from typing import Any

from tests.client import Client
from tests.tables import count_rows

NOWHERE = "01a206b2-304f-7000-b2ee-99ddb7de4877"
TABLES = ("flow", "deployment", "flow_run", "flow_run_state", "task_run", "task_run_state", "concurrency_slot")


async def rows(database_url: str) -> dict[str, int]:
    """How many rows the server's database has of each."""
    return await count_rows(database_url, TABLES)


async def create(client: Client, name: str) -> dict[str, str]:
    """A flow with a deployment, a flow run and a RUNNING task run that holds a slot of `x`; their ids."""
    flow_id = (await client.ask("CreateFlow", input={"name": name}))["flow"]["id"]
    deployment = await client.ask("CreateDeployment", input={"flowId": flow_id, "name": "nightly"})
    deployment_id = deployment["deployment"]["id"]
    state = {"type": "RUNNING"}
    flow_run = await client.ask("CreateFlowRun", input={"deploymentId": deployment_id, "state": state})
    flow_run_id = flow_run["flowRun"]["id"]
    input: dict[str, Any] = {"taskKey": "t", "flowRunId": flow_run_id, "tags": ["x"]}
    task_run_id = (await client.ask("CreateTaskRun", input=input))["taskRun"]["id"]
    await client.ask("SetTaskRunState", id=task_run_id, state=state)
    return {
        "GetFlow": flow_id,
        "GetDeployment": deployment_id,
        "GetFlowRun": flow_run_id,
        "GetTaskRun": task_run_id,
    }


async def test_a_deleted_flow_takes_its_deployments_flow_runs_task_runs_and_their_slots_along(
    client: Client, database_url: str
) -> None:
    await client.ask("CreateConcurrencyLimit", tag="x", limit=2)
    ids, others = await create(client, "etl"), await create(client, "other")
    one_flow_s = {name: count // 2 for name, count in (await rows(database_url)).items()}

    deleted = await client.ask("DeleteFlow", id=ids["GetFlow"])

    assert deleted == ids["GetFlow"]
    assert [await client.ask(query, id=id) for query, id in ids.items()] == [None] * 4
    assert await rows(database_url) == one_flow_s
    assert [(await client.ask(query, id=id))["id"] for query, id in others.items()] == list(others.values())
    assert (await client.ask("GetConcurrencyLimit", tag="x"))["activeSlots"] == [others["GetTaskRun"]]


async def test_background_runs_stay(client: Client) -> None:
    flow_id = (await create(client, "etl"))["GetFlow"]
    background = (await client.ask("CreateTaskRun", input={"taskKey": "t"}))["taskRun"]["id"]

    await client.ask("DeleteFlow", id=flow_id)

    assert [run["id"] for run in (await client.ask("ListTaskRuns"))["nodes"]] == [background]


async def test_a_subflow_of_another_flow_stays_without_its_task_run(client: Client) -> None:
    ids, others = await create(client, "etl"), await create(client, "other")
    subflow = await client.ask(
        "CreateFlowRun", input={"flowId": others["GetFlow"], "parentTaskRunId": ids["GetTaskRun"]}
    )

    await client.ask("DeleteFlow", id=ids["GetFlow"])

    run = await client.ask("GetFlowRun", id=subflow["flowRun"]["id"])
    assert (run["parentTaskRunId"], run["stateType"]) == (None, "PENDING")


async def test_the_second_time_it_is_not_found(client: Client, database_url: str) -> None:
    ids, _ = await create(client, "etl"), await create(client, "other")
    await client.ask("DeleteFlow", id=ids["GetFlow"])
    before = await rows(database_url)

    error = await client.refused("DeleteFlow", id=ids["GetFlow"])

    assert error == {"message": f"No flow has the id {ids['GetFlow']}.", "code": "NOT_FOUND"}
    assert await rows(database_url) == before


async def test_a_flow_that_never_was_is_not_found(client: Client) -> None:
    error = await client.refused("DeleteFlow", id=NOWHERE)

    assert error["code"] == "NOT_FOUND"


async def test_a_malformed_id_is_refused_and_nothing_is_deleted(client: Client, database_url: str) -> None:
    await create(client, "etl")
    before = await rows(database_url)

    error = await client.refused("DeleteFlow", id="nonsense")

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "id")
    assert await rows(database_url) == before


async def test_its_name_makes_a_new_flow_afterwards(client: Client) -> None:
    first = await create(client, "etl")
    await client.ask("DeleteFlow", id=first["GetFlow"])

    second = await client.ask("CreateFlow", input={"name": "etl"})

    assert (second["created"], second["flow"]["id"] != first["GetFlow"]) == (True, True)

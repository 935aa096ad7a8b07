"""Create flows, deployments and runs, and set their states, through the API as clients do."""

from typing import Any

from tests.client import Client

State = str | dict[str, Any]
"""The type of a state, or a whole state as the API takes it."""


async def create_flow(client: Client, name: str = "etl", **fields: Any) -> str:
    """Create a flow, or find the one with this name, and return its id."""
    return (await client.execute("CreateFlow", input={"name": name, **fields}))["flow"]["id"]


async def create_deployment(client: Client, flow_id: str, name: str = "nightly", **fields: Any) -> str:
    """Create a deployment and return its id. Fails if it exists."""
    payload = await client.execute("CreateDeployment", input={"flowId": flow_id, "name": name, **fields})
    assert payload["created"] is True
    return payload["deployment"]["id"]


async def create_flow_run(client: Client, state: State | None = None, **fields: Any) -> str:
    """Create a flow run, by default PENDING and of the flow `etl`, and return its id."""
    if not fields.keys() & {"flowId", "deploymentId"}:
        fields["flowId"] = await create_flow(client)
    return (await client.execute("CreateFlowRun", input=_run_input(state, fields)))["flowRun"]["id"]


async def create_task_run(client: Client, state: State | None = None, **fields: Any) -> str:
    """Create a task run, by default PENDING and with the task key `t`, and return its id."""
    input = _run_input(state, {"taskKey": "t", **fields})
    return (await client.execute("CreateTaskRun", input=input))["taskRun"]["id"]


async def create_task_runs(client: Client, count: int, state: State | None = None, **fields: Any) -> list[str]:
    """Create equal task runs in one request and return their ids."""
    input = _run_input(state, {"taskKey": "t", **fields})
    payloads = (await client.execute("CreateTaskRuns", inputs=[input] * count))["results"]
    return [payload["taskRun"]["id"] for payload in payloads]


async def create_objects(client: Client, name: str, **task_run_fields: Any) -> dict[str, str]:
    """Create a flow, a deployment of it, a flow run of both and a task run in it, all with this name.

    Return their ids by GraphQL type.
    """
    flow = await create_flow(client, name)
    deployment = await create_deployment(client, flow, name)
    flow_run = await create_flow_run(client, "RUNNING", deploymentId=deployment, name=name)
    task_run = await create_task_run(client, flowRunId=flow_run, name=name, **task_run_fields)
    return {"Flow": flow, "Deployment": deployment, "FlowRun": flow_run, "TaskRun": task_run}


async def set_task_run_state(
    client: Client, id: str, type: str, *, lease_id: str | None = None, force: bool = False, **state: Any
) -> dict[str, Any]:
    """Propose a state of this type, with the other fields of `state`, and return the result."""
    return await client.execute("SetTaskRunState", id=id, state={"type": type, **state}, leaseId=lease_id, force=force)


async def set_flow_run_state(
    client: Client, id: str, type: str, *, force: bool = False, **state: Any
) -> dict[str, Any]:
    """Propose a state of this type, with the other fields of `state`, and return the result."""
    return await client.execute("SetFlowRunState", id=id, state={"type": type, **state}, force=force)


async def set_states_in_turn(client: Client, id: str, *types: str, force: bool = False) -> None:
    """Set these states of a task run, one after another. Fails unless each is accepted and new."""
    for type in types:
        result = await set_task_run_state(client, id, type, force=force)
        assert (result["status"], result["stateCreated"]) == ("ACCEPT", True)


async def read_state_names(client: Client, id: str) -> list[str]:
    """Return the names of a task run's states, oldest first."""
    return [state["name"] for state in (await client.execute("GetTaskRun", id=id))["states"]]


async def count_task_runs(client: Client) -> int:
    """Return the number of all task runs."""
    return (await client.execute("ListTaskRuns"))["totalCount"]


async def read_slot_holders(client: Client, tag: str) -> list[str]:
    """Return the ids of the task runs that hold the slots of a concurrency limit."""
    limit = await client.execute("GetConcurrencyLimit", tag=tag)
    return [slot["taskRunId"] for slot in limit["slots"]]


def _run_input(state: State | None, fields: dict[str, Any]) -> dict[str, Any]:
    if state is None:
        return fields
    return {**fields, "state": {"type": state} if isinstance(state, str) else state}

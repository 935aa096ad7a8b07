"""node and nodes: objects of any type by id."""

import pytest

from tests.builders.api_runs import create_objects, set_flow_run_state, set_task_run_state
from tests.builders.ids import UNKNOWN_ID
from tests.client import Client
from tests.serving import SQLITE_ONLY, RunningServer


async def create_nodes(client: Client) -> dict[str, str]:
    """Create one object of each type and return their ids by type."""
    ids = await create_objects(client, "f")
    queue_id = (await client.execute("ListTaskQueues", taskKeys=["t"]))[0]["id"]
    state_id = (await client.execute("GetTaskRun", id=ids["TaskRun"]))["stateId"]
    limit = (await client.execute("SetConcurrencyLimit", tag="t", limit=1))["concurrencyLimit"]
    return {**ids, "ConcurrencyLimit": limit["id"], "State": state_id, "TaskQueue": queue_id}


async def test_each_type_is_found_by_id(client: Client) -> None:
    for kind, id in (await create_nodes(client)).items():
        assert await client.execute("GetNode", id=id) == {"__typename": kind, "id": id}
        if kind != "TaskQueue":
            assert await client.execute("GetNode", id=id.upper()) == {"__typename": kind, "id": id}


async def test_an_unknown_id_is_null(client: Client) -> None:
    assert await client.execute("GetNode", id=UNKNOWN_ID) is None


async def test_several_nodes_are_returned_in_the_order_of_the_ids(client: Client) -> None:
    ids = await create_nodes(client)
    requested = [ids["Flow"], UNKNOWN_ID, ids["TaskRun"], ids["Flow"], ids["ConcurrencyLimit"]]

    found = await client.execute("GetNodes", ids=requested)

    assert [node and (node["__typename"], node["id"]) for node in found] == [
        ("Flow", ids["Flow"]),
        None,
        ("TaskRun", ids["TaskRun"]),
        ("Flow", ids["Flow"]),
        ("ConcurrencyLimit", ids["ConcurrencyLimit"]),
    ]
    assert await client.execute("GetNodes", ids=[]) == []


async def test_a_node_has_the_fields_of_its_type(client: Client) -> None:
    ids = await create_nodes(client)
    query = """query ($ids: [ID!]!) { nodes(ids: $ids) {
        ... on TaskRun { taskKey } ... on ConcurrencyLimit { limit slots { taskRunId } } ... on Deployment { flow { name } }
    } }"""

    result = await client.http.post("/graphql", json={"query": query, "variables": {"ids": [*ids.values()]}})

    assert result.json()["data"]["nodes"] == [
        {},
        {"flow": {"name": "f"}},
        {},
        {"taskKey": "t"},
        {"limit": 1, "slots": []},
        {},
        {},
    ]


async def test_each_state_of_a_run_is_found_by_id(client: Client) -> None:
    ids = await create_objects(client, "f")
    await set_task_run_state(client, ids["TaskRun"], "RUNNING")
    await set_flow_run_state(client, ids["FlowRun"], "RUNNING")
    runs = [await client.execute(f"Get{kind}", id=ids[kind]) for kind in ("TaskRun", "FlowRun")]
    states = [state for run in runs for state in run["states"]]
    query = "query ($ids: [ID!]!) { nodes(ids: $ids) { ... on State { id type name timestamp } } }"

    result = await client.http.post(
        "/graphql", json={"query": query, "variables": {"ids": [state["id"] for state in states]}}
    )

    fields = ("id", "type", "name", "timestamp")
    assert result.json()["data"]["nodes"] == [{name: state[name] for name in fields} for state in states]
    assert len(states) == 4


async def test_a_queue_is_found_by_id_with_its_statistics(client: Client) -> None:
    await client.execute("CreateTaskRun", input={"taskKey": "t", "state": {"type": "SCHEDULED"}})
    queues = await client.execute("ListTaskQueues", taskKeys=["t", "none"])
    query = "query ($ids: [ID!]!) { nodes(ids: $ids) { ... on TaskQueue { taskKey scheduled maxRetry } } }"

    result = await client.http.post(
        "/graphql", json={"query": query, "variables": {"ids": [queue["id"] for queue in queues]}}
    )

    assert result.json()["data"]["nodes"] == [
        {"taskKey": "t", "scheduled": 1, "maxRetry": 10_000},
        {"taskKey": "none", "scheduled": 0, "maxRetry": 10_000},
    ]


async def test_a_state_of_a_deleted_run_is_null(client: Client) -> None:
    ids = await create_nodes(client)
    await client.execute("DeleteTaskRun", id=ids["TaskRun"])

    assert await client.execute("GetNode", id=ids["State"]) is None


@SQLITE_ONLY
async def test_each_type_is_read_once_for_any_number_of_ids(server: RunningServer) -> None:
    ids = await create_nodes(server.client)

    async with server.record_reads() as statements:
        await server.client.execute("GetNodes", ids=[*ids.values()] * 10)

    # One per type, a second one for states of flow runs and for the slots of the concurrency limits, and one for pauses.
    assert len(statements) == 10


@SQLITE_ONLY
async def test_a_task_run_is_found_by_the_first_statement(server: RunningServer) -> None:
    ids = await create_nodes(server.client)

    async with server.record_reads() as statements:
        await server.client.execute("GetNode", id=ids["TaskRun"])

    assert len(statements) == 1


@pytest.mark.parametrize(
    ("operation", "variables", "argument"),
    [("GetNode", {"id": "nonsense"}, "id"), ("GetNodes", {"ids": [UNKNOWN_ID, "nonsense"]}, "ids.1")],
)
async def test_a_malformed_id_is_named(
    client: Client, operation: str, variables: dict[str, object], argument: str
) -> None:
    error = await client.execute_refused(operation, **variables)

    assert error == {
        "message": f"{argument}: must be a UUID or the id of a task queue; got 'nonsense'.",
        "code": "BAD_USER_INPUT",
        "argument": argument,
    }


async def test_more_than_a_thousand_ids_are_refused(client: Client) -> None:
    error = await client.execute_refused("GetNodes", ids=[UNKNOWN_ID] * 1001)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "ids")

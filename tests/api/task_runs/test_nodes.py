"""node and nodes: anything by its id, whatever kind it is."""

import pytest

from tests.client import Client
from tests.serving import ON_SQLITE, Serving

NOWHERE = "01a206b2-304f-7000-b2ee-99ddb7de4877"


async def create_all(client: Client) -> dict[str, str]:
    """The id of one of each kind."""
    flow = (await client.ask("CreateFlow", input={"name": "f"}))["flow"]["id"]
    deployment = await client.ask("CreateDeployment", input={"name": "d", "flowId": flow})
    flow_run = await client.ask("CreateFlowRun", input={"flowId": flow})
    task_run = await client.ask("CreateTaskRun", input={"taskKey": "t"})
    limit = await client.ask("CreateConcurrencyLimit", tag="t", limit=1)
    return {
        "Flow": flow,
        "Deployment": deployment["deployment"]["id"],
        "FlowRun": flow_run["flowRun"]["id"],
        "TaskRun": task_run["taskRun"]["id"],
        "ConcurrencyLimit": limit["id"],
    }


async def test_each_kind_is_found_by_its_id(client: Client) -> None:
    for kind, id in (await create_all(client)).items():
        assert await client.ask("GetNode", id=id.upper()) == {"__typename": kind, "id": id}


async def test_nothing_is_found_where_nothing_has_the_id(client: Client) -> None:
    assert await client.ask("GetNode", id=NOWHERE) is None


async def test_several_are_found_in_the_order_of_the_ids(client: Client) -> None:
    ids = await create_all(client)
    asked = [ids["Flow"], NOWHERE, ids["TaskRun"], ids["Flow"], ids["ConcurrencyLimit"]]

    found = await client.ask("GetNodes", ids=asked)

    assert [node and (node["__typename"], node["id"]) for node in found] == [
        ("Flow", ids["Flow"]),
        None,
        ("TaskRun", ids["TaskRun"]),
        ("Flow", ids["Flow"]),
        ("ConcurrencyLimit", ids["ConcurrencyLimit"]),
    ]
    assert await client.ask("GetNodes", ids=[]) == []


async def test_a_node_shows_the_fields_of_its_kind(client: Client) -> None:
    ids = await create_all(client)
    query = """query ($ids: [ID!]!) { nodes(ids: $ids) {
        ... on TaskRun { taskKey } ... on ConcurrencyLimit { limit activeSlots } ... on Deployment { flow { name } }
    } }"""

    answer = await client.http.post("/graphql", json={"query": query, "variables": {"ids": [*ids.values()]}})

    assert answer.json()["data"]["nodes"] == [
        {},
        {"flow": {"name": "f"}},
        {},
        {"taskKey": "t"},
        {"limit": 1, "activeSlots": []},
    ]


@ON_SQLITE
async def test_each_kind_is_looked_at_once(server: Serving) -> None:
    ids = await create_all(server.client)

    async with server.counting() as statements:
        await server.client.ask("GetNodes", ids=[*ids.values()] * 10)

    # The fifth kind needs a second one, for its slots.
    assert len(statements) == 6


@ON_SQLITE
async def test_a_task_run_is_found_at_first_sight(server: Serving) -> None:
    ids = await create_all(server.client)

    async with server.counting() as statements:
        await server.client.ask("GetNode", id=ids["TaskRun"])

    assert len(statements) == 1


@pytest.mark.parametrize(
    ("operation", "variables", "argument"),
    [("GetNode", {"id": "nonsense"}, "id"), ("GetNodes", {"ids": [NOWHERE, "nonsense"]}, "ids.1")],
)
async def test_a_malformed_id_is_named(
    client: Client, operation: str, variables: dict[str, object], argument: str
) -> None:
    error = await client.refused(operation, **variables)

    assert error == {
        "message": f"{argument}: 'nonsense' is no id; ids are UUIDs.",
        "code": "BAD_USER_INPUT",
        "argument": argument,
    }


async def test_more_than_a_thousand_ids_are_refused(client: Client) -> None:
    error = await client.refused("GetNodes", ids=[NOWHERE] * 1001)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "ids")

"""flowRun.taskRuns and flow.flowRuns: lists of many parents, read together."""

from typing import Any

import pytest

from tests.client import Client
from tests.serving import ON_SQLITE, Serving


async def create_all(client: Client, flow_runs: int = 3) -> list[str]:
    """The ids of so many flow runs of one flow, the first with no task run, the second with one, ..."""
    flow = (await client.ask("CreateFlow", input={"name": "f"}))["flow"]["id"]
    ids: list[str] = []
    for number in range(flow_runs):
        payload = await client.ask("CreateFlowRun", input={"flowId": flow, "name": str(number)})
        ids.append(payload["flowRun"]["id"])
        inputs = [
            {"taskKey": "t", "name": f"{number}{'abcdefg'[each]}", "flowRunId": ids[-1]} for each in range(number)
        ]
        await client.ask("CreateTaskRuns", inputs=inputs)
    return ids


def task_runs(page: dict[str, Any]) -> dict[str, list[str]]:
    """The names of the task runs of each flow run, by its name."""
    return {node["name"]: [run["name"] for run in node["taskRuns"]["nodes"]] for node in page["nodes"]}


async def test_each_flow_run_has_its_own_task_runs(client: Client) -> None:
    await create_all(client)

    page = await client.ask("ListTaskRunsOfFlowRuns")

    assert task_runs(page) == {"2": ["2b", "2a"], "1": ["1a"], "0": []}
    assert [node["taskRuns"]["totalCount"] for node in page["nodes"]] == [2, 1, 0]


@pytest.mark.parametrize(
    ("window", "expected", "around"),
    [
        ({"firstTaskRuns": 2}, ["4d", "4c"], (False, True)),
        ({"lastTaskRuns": 2}, ["4b", "4a"], (True, False)),
        ({"firstTaskRuns": 2, "offset": 1}, ["4c", "4b"], (True, True)),
        ({"lastTaskRuns": 2, "offset": 3}, ["4d"], (False, True)),
        ({"firstTaskRuns": 2, "offset": 9}, [], (True, False)),
        ({"firstTaskRuns": 0}, [], (False, True)),
        ({"firstTaskRuns": 2, "taskRunSort": "NAME_ASC"}, ["4a", "4b"], (False, True)),
        ({"taskRunFilter": {"name": {"any": ["4b", "3c"]}}}, ["4b"], (False, False)),
        ({"taskRunFilter": {"flowRun": {"name": {"any": ["3"]}}}}, [], (False, False)),
    ],
)
async def test_a_nested_list_is_paged_as_any_other(
    client: Client, window: dict[str, Any], expected: list[str], around: tuple[bool, bool]
) -> None:
    await create_all(client, 5)

    page = await client.ask("ListTaskRunsOfFlowRuns", **window)

    (node,) = (node for node in page["nodes"] if node["name"] == "4")
    assert task_runs(page)["4"] == expected
    assert (node["taskRuns"]["pageInfo"]["hasPreviousPage"], node["taskRuns"]["pageInfo"]["hasNextPage"]) == around


TASK_RUNS_AFTER = """query ($ids: [ID!]!, $after: String, $before: String) {
    nodes(ids: $ids) { ... on FlowRun { taskRuns(after: $after, before: $before, sort: NAME_ASC) {
        nodes { name } edges { cursor } pageInfo { hasNextPage hasPreviousPage } totalCount
    } } }
}"""


async def send(client: Client, query: str, **variables: Any) -> dict[str, Any]:
    return (await client.http.post("/graphql", json={"query": query, "variables": variables})).json()


async def test_a_nested_list_goes_on_from_a_cursor(client: Client) -> None:
    id = (await create_all(client, 5))[-1]
    (node,) = (await send(client, TASK_RUNS_AFTER, ids=[id]))["data"]["nodes"]
    cursors = [edge["cursor"] for edge in node["taskRuns"]["edges"]]

    (after,) = (await send(client, TASK_RUNS_AFTER, ids=[id], after=cursors[1]))["data"]["nodes"]
    (before,) = (await send(client, TASK_RUNS_AFTER, ids=[id], before=cursors[1]))["data"]["nodes"]

    assert [run["name"] for run in after["taskRuns"]["nodes"]] == ["4c", "4d"]
    assert after["taskRuns"]["pageInfo"] == {"hasNextPage": False, "hasPreviousPage": True}
    assert after["taskRuns"]["totalCount"] == 4
    assert [run["name"] for run in before["taskRuns"]["nodes"]] == ["4a"]
    assert before["taskRuns"]["pageInfo"] == {"hasNextPage": True, "hasPreviousPage": False}


async def test_a_cursor_of_one_parent_does_not_fit_another(client: Client) -> None:
    ids = await create_all(client, 4)
    (node,) = (await send(client, TASK_RUNS_AFTER, ids=[ids[3]]))["data"]["nodes"]
    cursor = node["taskRuns"]["edges"][0]["cursor"]

    answer = await send(client, TASK_RUNS_AFTER, ids=[ids[3], ids[2]], after=cursor)

    assert [run["name"] for run in answer["data"]["nodes"][0]["taskRuns"]["nodes"]] == ["3b", "3c"]
    assert answer["data"]["nodes"][1] is None
    (error,) = answer["errors"]
    assert (error["path"], error["extensions"]["argument"]) == (["nodes", 1, "taskRuns"], "after")


async def test_each_flow_has_its_own_flow_runs(client: Client) -> None:
    await create_all(client)
    await client.ask("CreateFlow", input={"name": "g"})

    page = await client.ask("ListFlows", firstFlowRuns=2, flowRunSort="NAME_ASC")

    assert [
        (flow["name"], flow["flowRuns"]["totalCount"], [run["name"] for run in flow["flowRuns"]["nodes"]])
        for flow in page["nodes"]
    ] == [("g", 0, []), ("f", 3, ["0", "1"])]


# --- what it costs ---


NESTED = """{
    flows { totalCount nodes {
        flowRuns(first: 5) { totalCount nodes {
            flow { name } deployment { name } parentTaskRun { name } states { name }
            taskRuns(first: 3, sort: START_TIME_DESC) {
                totalCount
                nodes { flowRun { flow { name } } childFlowRun { id } states { name } queueEntry { attempt } }
                pageInfo { hasNextPage hasPreviousPage endCursor }
            }
            others: taskRuns(last: 1) { nodes { name } }
        } }
    } }
}"""


@pytest.mark.parametrize("flow_runs", [2, 5])
@ON_SQLITE
async def test_however_many_rows_nested_lists_cost_the_same(server: Serving, flow_runs: int) -> None:
    await create_all(server.client, flow_runs)

    async with server.counting() as statements:
        answer = await send(server.client, NESTED)

    assert "errors" not in answer
    (flow,) = answer["data"]["flows"]["nodes"]
    assert flow["flowRuns"]["totalCount"] == flow_runs
    # Flows and their count; flow runs and theirs; two pages of task runs and a count; flow and states of flow runs; flow
    # runs, children, states and places in the queue of task runs; the flows of their flow runs.
    assert len(statements) == 14


@ON_SQLITE
async def test_nothing_is_counted_that_nobody_asks_for(server: Serving) -> None:
    await create_all(server.client)

    async with server.counting() as statements:
        answer = await send(server.client, "{ taskRuns(first: 1) { nodes { id } pageInfo { hasNextPage endCursor } } }")

    assert answer["data"]["taskRuns"]["pageInfo"]["hasNextPage"] is True
    assert len(statements) == 1
    assert "count(" not in statements[0]


@ON_SQLITE
async def test_each_page_takes_one_statement_and_each_count_one(server: Serving) -> None:
    query = "{ a: taskRunCount b: taskRuns { nodes { id } } c: taskRuns { nodes { name } totalCount } }"

    async with server.counting() as statements:
        answer = await send(server.client, query)

    assert answer["data"]["a"] == 0
    assert len(statements) == 4
    assert sum("count(" in statement for statement in statements) == 2

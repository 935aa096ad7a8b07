"""flowRun.taskRuns and flow.flowRuns: the lists of many parents are read in batches."""

from typing import Any

import pytest

from tests.builders.api_runs import create_flow, create_flow_run, create_task_run
from tests.client import Client
from tests.serving import SQLITE_ONLY, RunningServer


async def create_flow_runs(client: Client, count: int = 3) -> list[str]:
    """Create flow runs of one flow, the first with no task run, the second with one, and so on; return their ids."""
    flow_id = await create_flow(client, "f")
    ids = [await create_flow_run(client, flowId=flow_id, name=str(number)) for number in range(count)]
    for number, id in enumerate(ids):
        for letter in "abcdefg"[:number]:
            await create_task_run(client, name=f"{number}{letter}", flowRunId=id)
    return ids


def task_run_names(page: dict[str, Any]) -> dict[str, list[str]]:
    """Return the names of the task runs of each flow run, by the name of the flow run."""
    return {node["name"]: [run["name"] for run in node["taskRuns"]["nodes"]] for node in page["nodes"]}


async def test_each_flow_run_has_its_own_task_runs(client: Client) -> None:
    await create_flow_runs(client)

    page = await client.execute("ListTaskRunsOfFlowRuns")

    assert task_run_names(page) == {"2": ["2b", "2a"], "1": ["1a"], "0": []}
    assert [node["taskRuns"]["totalCount"] for node in page["nodes"]] == [2, 1, 0]


@pytest.mark.parametrize(
    ("window", "expected", "has_pages"),
    [
        ({"firstTaskRuns": 2}, ["4d", "4c"], (False, True)),
        ({"lastTaskRuns": 2}, ["4b", "4a"], (True, False)),
        ({"firstTaskRuns": 2, "offset": 1}, ["4c", "4b"], (True, True)),
        ({"lastTaskRuns": 2, "offset": 3}, ["4d"], (False, True)),
        ({"firstTaskRuns": 2, "offset": 9}, [], (True, False)),
        ({"firstTaskRuns": 0}, [], (False, True)),
        ({"firstTaskRuns": 2, "taskRunSort": "NAME_ASC"}, ["4a", "4b"], (False, True)),
        ({"taskRunFilter": {"name": {"in": ["4b", "3c"]}}}, ["4b"], (False, False)),
        ({"taskRunFilter": {"flowRun": {"name": {"in": ["3"]}}}}, [], (False, False)),
    ],
)
async def test_a_nested_list_is_paged_like_any_other_list(
    client: Client, window: dict[str, Any], expected: list[str], has_pages: tuple[bool, bool]
) -> None:
    await create_flow_runs(client, 5)

    page = await client.execute("ListTaskRunsOfFlowRuns", **window)

    (node,) = (node for node in page["nodes"] if node["name"] == "4")
    assert task_run_names(page)["4"] == expected
    assert (node["taskRuns"]["pageInfo"]["hasPreviousPage"], node["taskRuns"]["pageInfo"]["hasNextPage"]) == has_pages


TASK_RUNS_AFTER = """query ($ids: [ID!]!, $after: String, $before: String) {
    nodes(ids: $ids) { ... on FlowRun { taskRuns(after: $after, before: $before, sort: NAME_ASC) {
        nodes { name } edges { cursor } pageInfo { hasNextPage hasPreviousPage } totalCount
    } } }
}"""


async def send(client: Client, query: str, **variables: Any) -> dict[str, Any]:
    return (await client.http.post("/graphql", json={"query": query, "variables": variables})).json()


async def test_a_nested_list_continues_from_a_cursor(client: Client) -> None:
    id = (await create_flow_runs(client, 5))[-1]
    (node,) = (await send(client, TASK_RUNS_AFTER, ids=[id]))["data"]["nodes"]
    cursors = [edge["cursor"] for edge in node["taskRuns"]["edges"]]

    (after,) = (await send(client, TASK_RUNS_AFTER, ids=[id], after=cursors[1]))["data"]["nodes"]
    (before,) = (await send(client, TASK_RUNS_AFTER, ids=[id], before=cursors[1]))["data"]["nodes"]

    assert [run["name"] for run in after["taskRuns"]["nodes"]] == ["4c", "4d"]
    assert after["taskRuns"]["pageInfo"] == {"hasNextPage": False, "hasPreviousPage": True}
    assert after["taskRuns"]["totalCount"] == 4
    assert [run["name"] for run in before["taskRuns"]["nodes"]] == ["4a"]
    assert before["taskRuns"]["pageInfo"] == {"hasNextPage": True, "hasPreviousPage": False}


async def test_a_cursor_of_another_parent_is_refused(client: Client) -> None:
    ids = await create_flow_runs(client, 4)
    (node,) = (await send(client, TASK_RUNS_AFTER, ids=[ids[3]]))["data"]["nodes"]
    cursor = node["taskRuns"]["edges"][0]["cursor"]

    result = await send(client, TASK_RUNS_AFTER, ids=[ids[3], ids[2]], after=cursor)

    assert [run["name"] for run in result["data"]["nodes"][0]["taskRuns"]["nodes"]] == ["3b", "3c"]
    assert result["data"]["nodes"][1] is None
    (error,) = result["errors"]
    assert (error["path"], error["extensions"]["argument"]) == (["nodes", 1, "taskRuns"], "after")


async def test_each_flow_has_its_own_flow_runs(client: Client) -> None:
    await create_flow_runs(client)
    await create_flow(client, "g")

    page = await client.execute("ListFlows", firstFlowRuns=2, flowRunSort="NAME_ASC")

    assert [
        (flow["name"], flow["flowRuns"]["totalCount"], [run["name"] for run in flow["flowRuns"]["nodes"]])
        for flow in page["nodes"]
    ] == [("g", 0, []), ("f", 3, ["0", "1"])]


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
@SQLITE_ONLY
async def test_nested_lists_take_a_constant_number_of_statements(server: RunningServer, flow_runs: int) -> None:
    await create_flow_runs(server.client, flow_runs)

    async with server.record_reads() as statements:
        result = await send(server.client, NESTED)

    assert "errors" not in result
    (flow,) = result["data"]["flows"]["nodes"]
    assert flow["flowRuns"]["totalCount"] == flow_runs
    # Flows and their count; flow runs and their count; two pages of task runs and a count; flow and states of flow runs;
    # flow runs, children, states and queue entries of task runs; the flows of their flow runs.
    assert len(statements) == 14


@SQLITE_ONLY
async def test_an_unselected_total_count_takes_no_statement(server: RunningServer) -> None:
    await create_flow_runs(server.client)

    async with server.record_reads() as statements:
        result = await send(server.client, "{ taskRuns(first: 1) { nodes { id } pageInfo { hasNextPage endCursor } } }")

    assert result["data"]["taskRuns"]["pageInfo"]["hasNextPage"] is True
    assert len(statements) == 1
    assert "count(" not in statements[0]


@SQLITE_ONLY
async def test_each_page_and_each_count_takes_one_statement(server: RunningServer) -> None:
    query = "{ a: taskRunCount b: taskRuns { nodes { id } } c: taskRuns { nodes { name } totalCount } }"

    async with server.record_reads() as statements:
        result = await send(server.client, query)

    assert result["data"]["a"] == 0
    assert len(statements) == 4
    assert sum("count(" in statement for statement in statements) == 2

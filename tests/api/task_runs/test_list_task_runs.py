"""taskRuns: filters and first pages, newest first."""

from typing import Any

import pytest

from tests.builders.ids import UNKNOWN_ID
from tests.client import Client

RUNS = {"A": ("mail", "PENDING"), "B": ("scan", "RUNNING"), "C": ("mail", "COMPLETED"), "D": ("sort", "SCHEDULED")}
"""Task key and state type of each run by name, in the order of creation."""


async def create_runs(client: Client) -> dict[str, str]:
    """Create `RUNS` and return their ids by name."""
    inputs = [{"name": name, "taskKey": key, "state": {"type": type}} for name, (key, type) in RUNS.items()]
    payloads = (await client.execute("CreateTaskRuns", inputs=inputs))["results"]
    return dict(zip(RUNS, (payload["taskRun"]["id"] for payload in payloads), strict=True))


async def names(client: Client, filter: dict[str, Any] | None, first: int | None = None) -> str:
    """Return the names of the runs on the page, in order."""
    page = await client.execute("ListTaskRuns", filter=filter, first=first)
    return "".join(run["name"] for run in page["nodes"])


async def test_all_runs_are_listed_newest_first(client: Client) -> None:
    ids = await create_runs(client)

    page = await client.execute("ListTaskRuns")

    assert [run["id"] for run in page["nodes"]] == [ids[name] for name in "DCBA"]
    assert page["totalCount"] == 4
    assert page["nodes"][1] == {
        "id": ids["C"],
        "name": "C",
        "taskKey": "mail",
        "tags": [],
        "stateType": "COMPLETED",
        "stateName": "Completed",
        "runCount": 0,
        "expectedStartTime": "2030-01-01T12:00:00.000000Z",
        "startTime": None,
        "endTime": None,
        "estimatedRunTimeSeconds": 0.0,
    }


async def test_without_runs_the_list_is_empty(client: Client) -> None:
    assert await client.execute("ListTaskRuns") == {
        "totalCount": 0,
        "nodes": [],
        "edges": [],
        "pageInfo": {"hasNextPage": False, "hasPreviousPage": False, "startCursor": None, "endCursor": None},
    }


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"in": []}, ""),
        ({"in": ["B"]}, "B"),
        ({"in": ["D"]}, "D"),
        ({"in": ["A", "C"]}, "CA"),
        ({"in": ["A", "A"]}, "A"),
        ({"in": ["A", UNKNOWN_ID]}, "A"),
        ({"in": [UNKNOWN_ID]}, ""),
        ({"in": None}, "DCBA"),
        ({"notIn": []}, "DCBA"),
        ({"notIn": ["B"]}, "DCA"),
        ({"notIn": ["A", "D"]}, "CB"),
        ({"notIn": [UNKNOWN_ID]}, "DCBA"),
        ({"isNull": True}, ""),
        ({"isNull": False}, "DCBA"),
        ({"isNull": None}, "DCBA"),
        ({"in": ["A", "B"], "notIn": ["B", "C"]}, "A"),
        ({"in": ["A", "B"], "isNull": True}, ""),
        ({}, "DCBA"),
    ],
)
async def test_a_filter_by_id_matches(client: Client, filter: dict[str, Any], expected: str) -> None:
    ids = await create_runs(client)
    by_id = {
        operator: [ids.get(each, each) for each in value] if isinstance(value, list) else value
        for operator, value in filter.items()
    }

    page = await client.execute("ListTaskRuns", filter={"id": by_id})

    assert "".join(run["name"] for run in page["nodes"]) == expected
    assert page["totalCount"] == len(expected)


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"in": []}, ""),
        ({"in": ["mail"]}, "CA"),
        ({"in": ["sort"]}, "D"),
        ({"in": ["mail", "sort"]}, "DCA"),
        ({"in": ["scan", "sort", "none"]}, "DB"),
        ({"in": ["MAIL"]}, ""),
        ({"in": ["mai"]}, ""),
        ({"in": [""]}, ""),
        ({"notIn": []}, "DCBA"),
        ({"notIn": ["mail"]}, "DB"),
        ({"notIn": ["mail", "scan"]}, "D"),
        ({"notIn": ["none"]}, "DCBA"),
        ({"isNull": True}, ""),
        ({"isNull": False}, "DCBA"),
        ({"in": ["mail", "scan"], "notIn": ["mail"]}, "B"),
        ({}, "DCBA"),
    ],
)
async def test_a_filter_by_task_key_matches(client: Client, filter: dict[str, Any], expected: str) -> None:
    await create_runs(client)

    page = await client.execute("ListTaskRuns", filter={"taskKey": filter})

    assert "".join(run["name"] for run in page["nodes"]) == expected
    assert page["totalCount"] == len(expected)


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"in": []}, ""),
        ({"in": ["RUNNING"]}, "B"),
        ({"in": ["FAILED"]}, ""),
        ({"in": ["PENDING", "SCHEDULED"]}, "DA"),
        ({"notIn": []}, "DCBA"),
        ({"notIn": ["RUNNING"]}, "DCA"),
        ({"notIn": ["RUNNING", "COMPLETED"]}, "DA"),
        ({"isNull": True}, ""),
        ({"isNull": False}, "DCBA"),
        ({"in": ["PENDING", "RUNNING"], "notIn": ["PENDING"]}, "B"),
        ({}, "DCBA"),
    ],
)
async def test_a_filter_by_state_type_matches(client: Client, filter: dict[str, Any], expected: str) -> None:
    await create_runs(client)

    page = await client.execute("ListTaskRuns", filter={"state": {"type": filter}})

    assert "".join(run["name"] for run in page["nodes"]) == expected
    assert page["totalCount"] == len(expected)


@pytest.mark.parametrize("filter", [None, {}, {"id": None}, {"taskKey": {}, "state": {}}, {"state": {"type": None}}])
async def test_a_filter_without_a_condition_matches_every_run(client: Client, filter: dict[str, Any] | None) -> None:
    await create_runs(client)

    assert await names(client, filter) == "DCBA"


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"taskKey": {"in": ["mail"]}, "state": {"type": {"in": ["PENDING"]}}}, "A"),
        ({"taskKey": {"in": ["mail"]}, "state": {"type": {"in": ["RUNNING"]}}}, ""),
        ({"taskKey": {"notIn": ["mail"]}, "state": {"type": {"notIn": ["RUNNING"]}}}, "D"),
        ({"taskKey": {"in": ["mail", "scan"]}, "state": {"type": {"notIn": ["COMPLETED"]}}}, "BA"),
        ({"taskKey": {"in": ["mail"]}, "id": {"in": []}}, ""),
        ({"taskKey": {"in": ["mail"]}, "id": {"notIn": []}}, "CA"),
    ],
)
async def test_conditions_on_several_fields_are_combined_with_and(
    client: Client, filter: dict[str, Any], expected: str
) -> None:
    await create_runs(client)

    assert await names(client, filter) == expected


async def test_a_filter_matches_the_current_state_not_earlier_ones(client: Client) -> None:
    ids = await create_runs(client)
    await client.execute("SetTaskRunState", id=ids["A"], state={"type": "RUNNING"})

    assert await names(client, {"state": {"type": {"in": ["PENDING"]}}}) == ""
    assert await names(client, {"state": {"type": {"in": ["RUNNING"]}}}) == "BA"


async def test_ids_in_a_filter_may_be_upper_case_or_without_hyphens(client: Client) -> None:
    ids = await create_runs(client)

    assert await names(client, {"id": {"in": [ids["B"].upper(), ids["C"].replace("-", "")]}}) == "CB"


@pytest.mark.parametrize(
    ("filter", "argument"),
    [
        ({"id": {"in": [UNKNOWN_ID, "nonsense"]}}, "filter.id.in.1"),
        ({"id": {"notIn": ["nonsense"]}}, "filter.id.notIn.0"),
    ],
)
async def test_a_malformed_id_in_a_filter_is_named_by_its_path(
    client: Client, filter: dict[str, Any], argument: str
) -> None:
    error = await client.execute_refused("ListTaskRuns", filter=filter)

    assert error == {
        "message": f"{argument}: must be a UUID; got 'nonsense'.",
        "code": "BAD_USER_INPUT",
        "argument": argument,
    }


@pytest.mark.parametrize(
    "filter",
    [
        {"nothing": {"in": []}},
        {"taskKey": {"likes": "m"}},
        {"state": {"type": {"in": ["running"]}}},
        {"taskKey": {"in": [None]}},
    ],
)
async def test_an_invalid_filter_is_refused(client: Client, filter: dict[str, Any]) -> None:
    error = await client.execute_refused("ListTaskRuns", filter=filter)

    assert error["code"] == "BAD_USER_INPUT"


@pytest.mark.parametrize(
    ("first", "expected", "has_next_page"),
    [(1, "D", True), (3, "DCB", True), (4, "DCBA", False), (5, "DCBA", False), (1000, "DCBA", False)],
)
async def test_a_page_has_the_requested_number_of_runs(
    client: Client, first: int, expected: str, has_next_page: bool
) -> None:
    await create_runs(client)

    page = await client.execute("ListTaskRuns", first=first)

    assert "".join(run["name"] for run in page["nodes"]) == expected
    assert page["totalCount"] == 4
    cursors = [edge["cursor"] for edge in page["edges"]]
    assert len(set(cursors)) == len(expected)
    assert page["pageInfo"] == {
        "hasNextPage": has_next_page,
        "hasPreviousPage": False,
        "startCursor": cursors[0],
        "endCursor": cursors[-1],
    }


async def test_a_page_of_size_zero_is_empty_and_has_a_next_page(client: Client) -> None:
    await create_runs(client)

    assert await client.execute("ListTaskRuns", first=0) == {
        "totalCount": 4,
        "nodes": [],
        "edges": [],
        "pageInfo": {"hasNextPage": True, "hasPreviousPage": False, "startCursor": None, "endCursor": None},
    }


async def test_the_page_and_the_total_count_follow_the_filter(client: Client) -> None:
    await create_runs(client)

    page = await client.execute("ListTaskRuns", filter={"taskKey": {"in": ["mail"]}}, first=1)

    assert ([run["name"] for run in page["nodes"]], page["totalCount"]) == (["C"], 2)
    assert page["pageInfo"]["hasNextPage"] is True


async def test_a_page_has_fifty_runs_by_default(client: Client) -> None:
    await client.execute("CreateTaskRuns", inputs=[{"taskKey": "t"}] * 51)

    page = await client.execute("ListTaskRuns")

    assert (len(page["nodes"]), page["totalCount"], page["pageInfo"]["hasNextPage"]) == (50, 51, True)


@pytest.mark.parametrize("first", [1001, -1])
async def test_a_page_size_out_of_range_is_refused(client: Client, first: int) -> None:
    error = await client.execute_refused("ListTaskRuns", first=first)

    assert error == {
        "message": f"first: must be between 0 and 1,000; got {first:,}.",
        "code": "BAD_USER_INPUT",
        "argument": "first",
    }


async def test_edges_and_nodes_have_the_same_runs_in_order(client: Client) -> None:
    await create_runs(client)
    query = "{ taskRuns { edges { cursor node { name } } nodes { name } } }"

    page = (await client.http.post("/graphql", json={"query": query})).json()["data"]["taskRuns"]

    assert [edge["node"] for edge in page["edges"]] == page["nodes"] == [{"name": name} for name in "DCBA"]


async def test_a_run_keeps_its_cursor_when_later_runs_are_created(client: Client) -> None:
    await create_runs(client)
    before = (await client.execute("ListTaskRuns"))["pageInfo"]["startCursor"]

    await client.execute("CreateTaskRun", input={"taskKey": "t"})

    assert (await client.execute("ListTaskRuns"))["edges"][1]["cursor"] == before

"""taskRuns: the first pages of the runs that a filter lets through, the latest first."""

from typing import Any

import pytest

from tests.client import Client

NOWHERE = "01a206b2-304f-7000-b2ee-99ddb7de4877"

RUNS = {"A": ("mail", "PENDING"), "B": ("scan", "RUNNING"), "C": ("mail", "COMPLETED"), "D": ("sort", "SCHEDULED")}
"""What there is to list: name, task key and type of state; created in this order."""


async def create_runs(client: Client) -> dict[str, str]:
    """The ids of RUNS, by name."""
    inputs = [{"name": name, "taskKey": key, "state": {"type": type}} for name, (key, type) in RUNS.items()]
    payloads = await client.ask("CreateTaskRuns", inputs=inputs)
    return dict(zip(RUNS, (payload["taskRun"]["id"] for payload in payloads), strict=True))


async def names(client: Client, filter: dict[str, Any] | None, first: int | None = None) -> str:
    """The names of the runs in the page, in their order."""
    page = await client.ask("ListTaskRuns", filter=filter, first=first)
    return "".join(run["name"] for run in page["nodes"])


async def test_all_runs_are_listed_the_latest_first(client: Client) -> None:
    ids = await create_runs(client)

    page = await client.ask("ListTaskRuns")

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


async def test_where_there_are_no_runs_the_list_is_empty(client: Client) -> None:
    assert await client.ask("ListTaskRuns") == {
        "totalCount": 0,
        "nodes": [],
        "edges": [],
        "pageInfo": {"hasNextPage": False, "hasPreviousPage": False, "startCursor": None, "endCursor": None},
    }


# --- filters ---


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"any": []}, ""),
        ({"any": ["B"]}, "B"),
        ({"any": ["D"]}, "D"),
        ({"any": ["A", "C"]}, "CA"),
        ({"any": ["A", "A"]}, "A"),
        ({"any": ["A", NOWHERE]}, "A"),
        ({"any": [NOWHERE]}, ""),
        ({"any": None}, "DCBA"),
        ({"notAny": []}, "DCBA"),
        ({"notAny": ["B"]}, "DCA"),
        ({"notAny": ["A", "D"]}, "CB"),
        ({"notAny": [NOWHERE]}, "DCBA"),
        ({"isNull": True}, ""),
        ({"isNull": False}, "DCBA"),
        ({"isNull": None}, "DCBA"),
        ({"any": ["A", "B"], "notAny": ["B", "C"]}, "A"),
        ({"any": ["A", "B"], "isNull": True}, ""),
        ({}, "DCBA"),
    ],
)
async def test_a_filter_by_id_lets_through(client: Client, filter: dict[str, Any], expected: str) -> None:
    ids = await create_runs(client)
    by_id = {
        operator: [ids.get(each, each) for each in value] if isinstance(value, list) else value
        for operator, value in filter.items()
    }

    page = await client.ask("ListTaskRuns", filter={"id": by_id})

    assert "".join(run["name"] for run in page["nodes"]) == expected
    assert page["totalCount"] == len(expected)


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"any": []}, ""),
        ({"any": ["mail"]}, "CA"),
        ({"any": ["sort"]}, "D"),
        ({"any": ["mail", "sort"]}, "DCA"),
        ({"any": ["scan", "sort", "none"]}, "DB"),
        ({"any": ["MAIL"]}, ""),
        ({"any": ["mai"]}, ""),
        ({"any": [""]}, ""),
        ({"notAny": []}, "DCBA"),
        ({"notAny": ["mail"]}, "DB"),
        ({"notAny": ["mail", "scan"]}, "D"),
        ({"notAny": ["none"]}, "DCBA"),
        ({"isNull": True}, ""),
        ({"isNull": False}, "DCBA"),
        ({"any": ["mail", "scan"], "notAny": ["mail"]}, "B"),
        ({}, "DCBA"),
    ],
)
async def test_a_filter_by_task_key_lets_through(client: Client, filter: dict[str, Any], expected: str) -> None:
    await create_runs(client)

    page = await client.ask("ListTaskRuns", filter={"taskKey": filter})

    assert "".join(run["name"] for run in page["nodes"]) == expected
    assert page["totalCount"] == len(expected)


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"any": []}, ""),
        ({"any": ["RUNNING"]}, "B"),
        ({"any": ["FAILED"]}, ""),
        ({"any": ["PENDING", "SCHEDULED"]}, "DA"),
        ({"notAny": []}, "DCBA"),
        ({"notAny": ["RUNNING"]}, "DCA"),
        ({"notAny": ["RUNNING", "COMPLETED"]}, "DA"),
        ({"isNull": True}, ""),
        ({"isNull": False}, "DCBA"),
        ({"any": ["PENDING", "RUNNING"], "notAny": ["PENDING"]}, "B"),
        ({}, "DCBA"),
    ],
)
async def test_a_filter_by_type_of_state_lets_through(client: Client, filter: dict[str, Any], expected: str) -> None:
    await create_runs(client)

    page = await client.ask("ListTaskRuns", filter={"state": {"type": filter}})

    assert "".join(run["name"] for run in page["nodes"]) == expected
    assert page["totalCount"] == len(expected)


@pytest.mark.parametrize("filter", [None, {}, {"id": None}, {"taskKey": {}, "state": {}}, {"state": {"type": None}}])
async def test_a_filter_without_a_condition_lets_every_run_through(
    client: Client, filter: dict[str, Any] | None
) -> None:
    await create_runs(client)

    assert await names(client, filter) == "DCBA"


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"taskKey": {"any": ["mail"]}, "state": {"type": {"any": ["PENDING"]}}}, "A"),
        ({"taskKey": {"any": ["mail"]}, "state": {"type": {"any": ["RUNNING"]}}}, ""),
        ({"taskKey": {"notAny": ["mail"]}, "state": {"type": {"notAny": ["RUNNING"]}}}, "D"),
        ({"taskKey": {"any": ["mail", "scan"]}, "state": {"type": {"notAny": ["COMPLETED"]}}}, "BA"),
        ({"taskKey": {"any": ["mail"]}, "id": {"any": []}}, ""),
        ({"taskKey": {"any": ["mail"]}, "id": {"notAny": []}}, "CA"),
    ],
)
async def test_conditions_on_several_fields_are_joined_by_and(
    client: Client, filter: dict[str, Any], expected: str
) -> None:
    await create_runs(client)

    assert await names(client, filter) == expected


async def test_a_filter_sees_the_current_state_not_earlier_ones(client: Client) -> None:
    ids = await create_runs(client)
    await client.ask("SetTaskRunState", id=ids["A"], state={"type": "RUNNING"})

    assert await names(client, {"state": {"type": {"any": ["PENDING"]}}}) == ""
    assert await names(client, {"state": {"type": {"any": ["RUNNING"]}}}) == "BA"


async def test_ids_in_a_filter_are_read_in_upper_case_too(client: Client) -> None:
    ids = await create_runs(client)

    assert await names(client, {"id": {"any": [ids["B"].upper(), ids["C"].replace("-", "")]}}) == "CB"


@pytest.mark.parametrize(
    ("filter", "argument"),
    [
        ({"id": {"any": [NOWHERE, "nonsense"]}}, "filter.id.any.1"),
        ({"id": {"notAny": ["nonsense"]}}, "filter.id.notAny.0"),
    ],
)
async def test_a_malformed_id_in_a_filter_is_named_by_its_place(
    client: Client, filter: dict[str, Any], argument: str
) -> None:
    error = await client.refused("ListTaskRuns", filter=filter)

    assert error == {
        "message": f"{argument}: 'nonsense' is no id; ids are UUIDs.",
        "code": "BAD_USER_INPUT",
        "argument": argument,
    }


@pytest.mark.parametrize(
    "filter",
    [
        {"nothing": {"any": []}},
        {"taskKey": {"likes": "m"}},
        {"state": {"type": {"any": ["running"]}}},
        {"taskKey": {"any": [None]}},
    ],
)
async def test_what_is_no_filter_is_refused(client: Client, filter: dict[str, Any]) -> None:
    error = await client.refused("ListTaskRuns", filter=filter)

    assert error["code"] == "BAD_USER_INPUT"


# --- pages ---


@pytest.mark.parametrize(
    ("first", "expected", "has_next_page"),
    [(1, "D", True), (3, "DCB", True), (4, "DCBA", False), (5, "DCBA", False), (1000, "DCBA", False)],
)
async def test_a_page_has_as_many_runs_as_were_asked_for(
    client: Client, first: int, expected: str, has_next_page: bool
) -> None:
    await create_runs(client)

    page = await client.ask("ListTaskRuns", first=first)

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


async def test_a_page_of_none_is_empty_and_tells_of_the_rest(client: Client) -> None:
    await create_runs(client)

    assert await client.ask("ListTaskRuns", first=0) == {
        "totalCount": 4,
        "nodes": [],
        "edges": [],
        "pageInfo": {"hasNextPage": True, "hasPreviousPage": False, "startCursor": None, "endCursor": None},
    }


async def test_the_count_and_the_page_are_of_the_filter(client: Client) -> None:
    await create_runs(client)

    page = await client.ask("ListTaskRuns", filter={"taskKey": {"any": ["mail"]}}, first=1)

    assert ([run["name"] for run in page["nodes"]], page["totalCount"]) == (["C"], 2)
    assert page["pageInfo"]["hasNextPage"] is True


async def test_left_out_a_page_has_fifty_runs(client: Client) -> None:
    await client.ask("CreateTaskRuns", inputs=[{"taskKey": "t"}] * 51)

    page = await client.ask("ListTaskRuns")

    assert (len(page["nodes"]), page["totalCount"], page["pageInfo"]["hasNextPage"]) == (50, 51, True)


@pytest.mark.parametrize("first", [1001, -1])
async def test_a_page_out_of_bounds_is_refused(client: Client, first: int) -> None:
    error = await client.refused("ListTaskRuns", first=first)

    assert error == {
        "message": f"first: has to be from 0 to 1,000, not {first}.",
        "code": "BAD_USER_INPUT",
        "argument": "first",
    }


async def test_an_edge_holds_the_run_at_its_place(client: Client) -> None:
    await create_runs(client)
    query = "{ taskRuns { edges { cursor node { name } } nodes { name } } }"

    page = (await client.http.post("/graphql", json={"query": query})).json()["data"]["taskRuns"]

    assert [edge["node"] for edge in page["edges"]] == page["nodes"] == [{"name": name} for name in "DCBA"]


async def test_a_run_keeps_its_cursor_when_later_ones_come(client: Client) -> None:
    await create_runs(client)
    before = (await client.ask("ListTaskRuns"))["pageInfo"]["startCursor"]

    await client.ask("CreateTaskRun", input={"taskKey": "t"})

    assert (await client.ask("ListTaskRuns"))["edges"][1]["cursor"] == before

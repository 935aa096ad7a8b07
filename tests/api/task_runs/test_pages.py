"""Pagination of lists: forwards and backwards, in every sort order, by cursors that are valid for their own list only."""

import base64
from typing import Any

import orjson
import pytest

from db.enums import DeploymentSort, FlowRunSort, FlowSort, TaskRunSort
from tests.builders.api_runs import create_objects, create_task_run, set_task_run_state
from tests.client import Client

LISTS = ("ListTaskRuns", "ListFlowRuns", "ListFlows", "ListDeployments")


async def create_named_objects(client: Client) -> None:
    """Create seven objects of each type, named a to g, in this order."""
    for name in "abcdefg":
        await create_objects(client, name)


def names(page: dict[str, Any]) -> str:
    return "".join(node["name"] for node in page["nodes"])


def has_previous_and_next(page: dict[str, Any]) -> tuple[bool, bool]:
    """Return whether there are items before the page, and after it."""
    return page["pageInfo"]["hasPreviousPage"], page["pageInfo"]["hasNextPage"]


@pytest.mark.parametrize("operation", LISTS)
async def test_a_list_can_be_paged_forwards(client: Client, operation: str) -> None:
    await create_named_objects(client)

    first = await client.execute(operation, first=3)
    second = await client.execute(operation, first=3, after=first["pageInfo"]["endCursor"])
    third = await client.execute(operation, first=3, after=second["pageInfo"]["endCursor"])
    beyond = await client.execute(operation, first=3, after=third["pageInfo"]["endCursor"])

    assert [names(page) for page in (first, second, third, beyond)] == ["gfe", "dcb", "a", ""]
    assert [has_previous_and_next(page) for page in (first, second, third, beyond)] == [
        (False, True),
        (True, True),
        (True, False),
        (True, False),
    ]
    assert [page["totalCount"] for page in (first, beyond)] == [7, 7]


@pytest.mark.parametrize("operation", LISTS)
async def test_a_list_can_be_paged_backwards(client: Client, operation: str) -> None:
    await create_named_objects(client)

    last = await client.execute(operation, last=3)
    second = await client.execute(operation, last=3, before=last["pageInfo"]["startCursor"])
    first = await client.execute(operation, last=3, before=second["pageInfo"]["startCursor"])
    beyond = await client.execute(operation, last=3, before=first["pageInfo"]["startCursor"])

    assert [names(page) for page in (beyond, first, second, last)] == ["", "g", "fed", "cba"]
    assert [has_previous_and_next(page) for page in (beyond, first, second, last)] == [
        (False, True),
        (False, True),
        (True, True),
        (True, False),
    ]


async def test_two_cursors_limit_a_page_to_the_items_between_them(client: Client) -> None:
    await create_named_objects(client)
    cursors = [edge["cursor"] for edge in (await client.execute("ListTaskRuns"))["edges"]]

    async def page(**window: Any) -> tuple[str, tuple[bool, bool]]:
        found = await client.execute("ListTaskRuns", **window)
        return names(found), has_previous_and_next(found)

    assert await page(after=cursors[1], before=cursors[5]) == ("edc", (True, True))
    assert await page(after=cursors[1], before=cursors[5], first=2) == ("ed", (True, True))
    assert await page(after=cursors[1], before=cursors[5], last=2) == ("dc", (True, True))
    assert await page(after=cursors[3], before=cursors[3]) == ("", (True, True))
    assert await page(before=cursors[2]) == ("gf", (False, True))
    assert await page(before=cursors[0]) == ("", (False, True))
    assert await page(after=cursors[6]) == ("", (True, False))
    assert await page(after=cursors[2], first=0) == ("", (True, True))
    assert await page(before=cursors[2], last=0) == ("", (True, True))
    assert await page(last=0) == ("", (True, False))


async def test_before_alone_returns_the_last_fifty_items_before_it(client: Client) -> None:
    inputs = [{"taskKey": "t", "name": str(number)} for number in range(60)]
    await client.execute("CreateTaskRuns", inputs=inputs)
    cursors = [edge["cursor"] for edge in (await client.execute("ListTaskRuns", first=60))["edges"]]

    page = await client.execute("ListTaskRuns", before=cursors[55])

    assert [run["name"] for run in page["nodes"]] == [str(59 - index) for index in range(5, 55)]
    assert has_previous_and_next(page) == (True, True)


@pytest.mark.parametrize(
    ("window", "expected", "has_pages"),
    [
        ({"offset": 2, "first": 3}, "edc", (True, True)),
        ({"offset": 0, "first": 3}, "gfe", (False, True)),
        ({"offset": 5}, "ba", (True, False)),
        ({"offset": 7}, "", (True, False)),
        ({"offset": 2_000_000_000}, "", (True, False)),
        ({"offset": 2, "last": 3}, "edc", (True, True)),
        ({"offset": 6, "last": 3}, "g", (False, True)),
        ({"offset": None, "first": None, "after": None}, "gfedcba", (False, False)),
    ],
)
async def test_an_offset_skips_the_first_items(
    client: Client, window: dict[str, Any], expected: str, has_pages: tuple[bool, bool]
) -> None:
    await create_named_objects(client)

    page = await client.execute("ListTaskRuns", **window)

    assert (names(page), has_previous_and_next(page)) == (expected, has_pages)


async def test_an_offset_into_an_empty_list_skips_nothing(client: Client) -> None:
    assert has_previous_and_next(await client.execute("ListTaskRuns", offset=3)) == (False, False)


async def test_a_cursor_stays_valid_when_its_row_is_deleted(client: Client) -> None:
    await create_named_objects(client)
    page = await client.execute("ListTaskRuns", first=1)
    await client.execute("DeleteTaskRun", id=page["nodes"][0]["id"])

    after = await client.execute("ListTaskRuns", first=2, after=page["pageInfo"]["endCursor"])

    assert (names(after), has_previous_and_next(after)) == ("fe", (False, True))


async def create_runs_with_times(client: Client) -> None:
    """Create the runs a, c (started and ended, tied), b (started), d, e (neither; e is due later than d)."""
    due = {"details": {"scheduledTime": "2031-01-01T00:00:00Z"}}
    for name, state in {
        "a": {"type": "RUNNING"},
        "b": {"type": "RUNNING"},
        "c": {"type": "RUNNING"},
        "d": {"type": "SCHEDULED"},
        "e": {"type": "SCHEDULED", **due},
    }.items():
        id = await create_task_run(client, state, name=name)
        if name in "ac":
            await set_task_run_state(client, id, "COMPLETED")


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("", "edcba"),
        ("ID_DESC", "edcba"),
        ("NAME_ASC", "abcde"),
        ("NAME_DESC", "edcba"),
        ("CREATED_ASC", "abcde"),
        ("CREATED_DESC", "edcba"),
        ("EXPECTED_START_TIME_ASC", "abcde"),
        ("EXPECTED_START_TIME_DESC", "edcba"),
        ("NEXT_SCHEDULED_START_TIME_ASC", "abcde"),
        ("START_TIME_ASC", "deabc"),
        ("START_TIME_DESC", "cbaed"),
        ("END_TIME_ASC", "bdeac"),
        ("END_TIME_DESC", "caedb"),
    ],
)
async def test_task_runs_are_returned_in_the_order_of_each_sort(client: Client, sort: str, expected: str) -> None:
    """Nulls sort before all values: first in ascending order, last in descending order."""
    await create_runs_with_times(client)
    order = {"sort": sort} if sort else {}

    assert names(await client.execute("ListTaskRuns", **order)) == expected
    for size in (1, 2, 3):
        found, after = "", None
        for _ in range(5):
            page = await client.execute("ListTaskRuns", **order, first=size, after=after)
            found, after = found + names(page), page["pageInfo"]["endCursor"] or after
        assert found == expected


@pytest.mark.parametrize(
    ("operation", "sort"),
    [
        *(("ListFlowRuns", sort) for sort in FlowRunSort),
        *(("ListFlows", sort) for sort in FlowSort),
        *(("ListDeployments", sort) for sort in DeploymentSort),
    ],
)
async def test_other_lists_are_returned_in_the_order_of_each_sort(client: Client, operation: str, sort: str) -> None:
    await create_named_objects(client)
    is_ascending = sort.endswith("_ASC")

    page = await client.execute(operation, sort=sort, first=4)
    rest = await client.execute(operation, sort=sort, after=page["pageInfo"]["endCursor"])
    last = await client.execute(operation, sort=sort, last=2, before=page["pageInfo"]["endCursor"])

    assert names(page) + names(rest) == ("abcdefg" if is_ascending else "gfedcba")
    assert names(last) == ("bc" if is_ascending else "fe")


@pytest.mark.parametrize("operation", LISTS)
async def test_a_null_sort_is_refused(client: Client, operation: str) -> None:
    assert (await client.execute_refused(operation, sort=None))["code"] == "BAD_USER_INPUT"


async def test_names_are_sorted_by_code_point(client: Client) -> None:
    for name in ("b", "B", "é", "a", "Z", "日", "_"):
        await create_task_run(client, name=name)

    assert names(await client.execute("ListTaskRuns", sort="NAME_ASC")) == "BZ_abé日"


@pytest.mark.parametrize(
    ("window", "argument", "message"),
    [
        ({"first": 1, "last": 1}, "last", "cannot be combined with `first`."),
        ({"first": 1001}, "first", "must be between 0 and 1,000; got 1,001."),
        ({"first": -1}, "first", "must be between 0 and 1,000; got -1."),
        ({"last": 1001}, "last", "must be between 0 and 1,000; got 1,001."),
        ({"last": -1}, "last", "must be between 0 and 1,000; got -1."),
        ({"offset": -1}, "offset", "must be between 0 and 2,147,483,647; got -1."),
        ({"after": "nonsense"}, "after", "is not a valid cursor. Use a cursor from `edges` or `pageInfo`."),
        ({"before": "é"}, "before", "is not a valid cursor. Use a cursor from `edges` or `pageInfo`."),
        ({"after": ""}, "after", "is not a valid cursor. Use a cursor from `edges` or `pageInfo`."),
        ({"after": "MTox"}, "after", "is not a valid cursor. Use a cursor from `edges` or `pageInfo`."),
    ],
)
@pytest.mark.parametrize("operation", LISTS)
async def test_an_invalid_page_argument_is_refused_by_name(
    client: Client, operation: str, window: dict[str, Any], argument: str, message: str
) -> None:
    assert await client.execute_refused(operation, **window) == {
        "message": f"{argument}: {message}",
        "code": "BAD_USER_INPUT",
        "argument": argument,
    }


async def test_an_offset_together_with_a_cursor_is_refused(client: Client) -> None:
    await create_named_objects(client)
    cursor = (await client.execute("ListTaskRuns"))["pageInfo"]["startCursor"]

    error = await client.execute_refused("ListTaskRuns", after=cursor, offset=1)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "offset")


async def test_an_unknown_sort_is_refused(client: Client) -> None:
    assert (await client.execute_refused("ListTaskRuns", sort="ID_ASC"))["code"] == "BAD_USER_INPUT"


OTHER_LIST = "is a cursor of another list. Use a cursor only with the same list, filter and sort order."


@pytest.mark.parametrize("argument", ["after", "before"])
@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("ListTaskRuns", {"sort": "NAME_ASC"}),
        ("ListTaskRuns", {"sort": "START_TIME_ASC"}),
        ("ListTaskRuns", {"filter": {"name": {"in": ["a"]}}}),
        ("ListTaskRuns", {"filter": {"name": {"in": ["a", "b"]}}, "sort": "START_TIME_DESC"}),
        ("ListTaskRuns", {"filter": {"not": {}}, "sort": "START_TIME_DESC"}),
        ("ListFlowRuns", {"sort": "START_TIME_DESC"}),
        ("ListFlows", {}),
        ("ListFlows", {"sort": "NAME_ASC"}),
    ],
)
async def test_a_cursor_of_another_list_is_refused(
    client: Client, operation: str, arguments: dict[str, Any], argument: str
) -> None:
    await create_named_objects(client)
    filter = {"name": {"in": ["a"]}}
    cursor = (await client.execute("ListTaskRuns", sort="START_TIME_DESC", filter=filter))["pageInfo"]["endCursor"]

    error = await client.execute_refused(operation, **{argument: cursor}, **arguments)

    assert error == {"message": f"{argument}: {OTHER_LIST}", "code": "BAD_USER_INPUT", "argument": argument}


async def test_a_cursor_of_another_version_is_refused(client: Client) -> None:
    cursor = base64.urlsafe_b64encode(orjson.dumps([1, "a", None, "b"])).decode().rstrip("=")

    error = await client.execute_refused("ListTaskRuns", after=cursor)

    assert error["message"] == "after: is a cursor of another server version. Start again from the first page."


@pytest.mark.parametrize("sort", TaskRunSort)
@pytest.mark.parametrize(
    "changed", [(2, 5), (2, "nonsense"), (2, []), (3, "nonsense"), (3, None), (3, 7), (2, None), (0, True), (0, None)]
)
async def test_a_forged_cursor_causes_no_internal_error(
    client: Client, sort: TaskRunSort, changed: tuple[int, Any]
) -> None:
    await create_named_objects(client)
    cursor = (await client.execute("ListTaskRuns", sort=sort))["pageInfo"]["startCursor"]
    content = orjson.loads(base64.urlsafe_b64decode(cursor + "=="))
    content[changed[0]] = changed[1]
    forged = base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")

    result = await client.send("ListTaskRuns", sort=sort, after=forged)

    codes = [error["extensions"]["code"] for error in result.get("errors", [])]
    assert codes in ([], ["BAD_USER_INPUT"])

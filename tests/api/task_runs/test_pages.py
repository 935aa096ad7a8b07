"""Pages of lists: forwards and backwards, in every order, by cursors that fit their list alone."""

import base64
from typing import Any

import orjson
import pytest

from db.enums import FlowRunSort, TaskRunSort
from tests.client import Client

LISTS = ("ListTaskRuns", "ListFlowRuns", "ListFlows", "ListDeployments")


async def create_all(client: Client) -> None:
    """Seven of each kind, named a to g; created in this order."""
    flow = (await client.ask("CreateFlow", input={"name": "a"}))["flow"]["id"]
    for name in "abcdefg":
        await client.ask("CreateFlow", input={"name": name})
        await client.ask("CreateDeployment", input={"name": name, "flowId": flow})
        await client.ask("CreateFlowRun", input={"name": name, "flowId": flow})
        await client.ask("CreateTaskRun", input={"name": name, "taskKey": "t"})


def names(page: dict[str, Any]) -> str:
    return "".join(node["name"] for node in page["nodes"])


def sides(page: dict[str, Any]) -> tuple[bool, bool]:
    """Whether there is anything before the page, and after it."""
    return page["pageInfo"]["hasPreviousPage"], page["pageInfo"]["hasNextPage"]


@pytest.mark.parametrize("operation", LISTS)
async def test_a_list_is_walked_forwards(client: Client, operation: str) -> None:
    await create_all(client)

    first = await client.ask(operation, first=3)
    second = await client.ask(operation, first=3, after=first["pageInfo"]["endCursor"])
    third = await client.ask(operation, first=3, after=second["pageInfo"]["endCursor"])
    beyond = await client.ask(operation, first=3, after=third["pageInfo"]["endCursor"])

    assert [names(page) for page in (first, second, third, beyond)] == ["gfe", "dcb", "a", ""]
    assert [sides(page) for page in (first, second, third, beyond)] == [
        (False, True),
        (True, True),
        (True, False),
        (True, False),
    ]
    assert [page["totalCount"] for page in (first, beyond)] == [7, 7]


@pytest.mark.parametrize("operation", LISTS)
async def test_a_list_is_walked_backwards(client: Client, operation: str) -> None:
    await create_all(client)

    last = await client.ask(operation, last=3)
    second = await client.ask(operation, last=3, before=last["pageInfo"]["startCursor"])
    first = await client.ask(operation, last=3, before=second["pageInfo"]["startCursor"])
    beyond = await client.ask(operation, last=3, before=first["pageInfo"]["startCursor"])

    assert [names(page) for page in (beyond, first, second, last)] == ["", "g", "fed", "cba"]
    assert [sides(page) for page in (beyond, first, second, last)] == [
        (False, True),
        (False, True),
        (True, True),
        (True, False),
    ]


async def test_between_two_cursors_lies_what_lies_between_them(client: Client) -> None:
    await create_all(client)
    cursors = [edge["cursor"] for edge in (await client.ask("ListTaskRuns"))["edges"]]

    async def page(**window: Any) -> tuple[str, tuple[bool, bool]]:
        found = await client.ask("ListTaskRuns", **window)
        return names(found), sides(found)

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


async def test_before_alone_is_the_last_fifty_before_it(client: Client) -> None:
    inputs = [{"taskKey": "t", "name": str(number)} for number in range(60)]
    await client.ask("CreateTaskRuns", inputs=inputs)
    cursors = [edge["cursor"] for edge in (await client.ask("ListTaskRuns", first=60))["edges"]]

    page = await client.ask("ListTaskRuns", before=cursors[55])

    assert [run["name"] for run in page["nodes"]] == [str(59 - place) for place in range(5, 55)]
    assert sides(page) == (True, True)


@pytest.mark.parametrize(
    ("window", "expected", "around"),
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
async def test_an_offset_leaves_out_the_first_ones(
    client: Client, window: dict[str, Any], expected: str, around: tuple[bool, bool]
) -> None:
    await create_all(client)

    page = await client.ask("ListTaskRuns", **window)

    assert (names(page), sides(page)) == (expected, around)


async def test_an_offset_leaves_out_nothing_of_an_empty_list(client: Client) -> None:
    assert sides(await client.ask("ListTaskRuns", offset=3)) == (False, False)


async def test_a_cursor_holds_its_place_when_its_row_is_gone(client: Client) -> None:
    await create_all(client)
    page = await client.ask("ListTaskRuns", first=1)
    await client.ask("DeleteTaskRun", id=page["nodes"][0]["id"])

    after = await client.ask("ListTaskRuns", first=2, after=page["pageInfo"]["endCursor"])

    assert (names(after), sides(after)) == ("fe", (False, True))


# --- orders ---


async def make_times(client: Client) -> None:
    """Runs a, c (started and ended, tied), b (started), d, e (neither; e is due later than d)."""
    due = {"details": {"scheduledTime": "2031-01-01T00:00:00Z"}}
    for name, state in {
        "a": {"type": "RUNNING"},
        "b": {"type": "RUNNING"},
        "c": {"type": "RUNNING"},
        "d": {"type": "SCHEDULED"},
        "e": {"type": "SCHEDULED", **due},
    }.items():
        payload = await client.ask("CreateTaskRun", input={"name": name, "taskKey": "t", "state": state})
        if name in "ac":
            await client.ask("SetTaskRunState", id=payload["taskRun"]["id"], state={"type": "COMPLETED"})


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (None, "edcba"),
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
        ("END_TIME_DESC", "caedb"),
    ],
)
async def test_runs_come_in_the_order_of_a_sort(client: Client, sort: str | None, expected: str) -> None:
    """Nulls are less than anything: first where it ascends, last where it descends."""
    await make_times(client)

    assert names(await client.ask("ListTaskRuns", sort=sort)) == expected
    for size in (1, 2, 3):
        found, after = "", None
        for _ in range(5):
            page = await client.ask("ListTaskRuns", sort=sort, first=size, after=after)
            found, after = found + names(page), page["pageInfo"]["endCursor"] or after
        assert found == expected


@pytest.mark.parametrize("sort", FlowRunSort)
async def test_flow_runs_come_in_the_order_of_each_sort(client: Client, sort: FlowRunSort) -> None:
    await create_all(client)
    ascends = sort.endswith("_ASC")

    page = await client.ask("ListFlowRuns", sort=sort, first=4)
    rest = await client.ask("ListFlowRuns", sort=sort, after=page["pageInfo"]["endCursor"])

    assert names(page) + names(rest) == ("abcdefg" if ascends else "gfedcba")


async def test_names_are_in_the_order_of_their_characters(client: Client) -> None:
    for name in ("b", "B", "é", "a", "Z", "日", "_"):
        await client.ask("CreateTaskRun", input={"name": name, "taskKey": "t"})

    assert names(await client.ask("ListTaskRuns", sort="NAME_ASC")) == "BZ_abé日"


# --- what is refused ---


@pytest.mark.parametrize(
    ("window", "argument", "message"),
    [
        ({"first": 1, "last": 1}, "last", "can not be given together with first."),
        ({"first": 1001}, "first", "has to be from 0 to 1,000, not 1001."),
        ({"first": -1}, "first", "has to be from 0 to 1,000, not -1."),
        ({"last": 1001}, "last", "has to be from 0 to 1,000, not 1001."),
        ({"last": -1}, "last", "has to be from 0 to 1,000, not -1."),
        ({"offset": -1}, "offset", "has to be from 0 to 2,147,483,647, not -1."),
        ({"after": "nonsense"}, "after", "is no cursor: take one from an edge or from pageInfo."),
        ({"before": "é"}, "before", "is no cursor: take one from an edge or from pageInfo."),
        ({"after": ""}, "after", "is no cursor: take one from an edge or from pageInfo."),
        ({"after": "MTox"}, "after", "is no cursor: take one from an edge or from pageInfo."),
    ],
)
@pytest.mark.parametrize("operation", LISTS)
async def test_what_is_no_page_is_refused_by_name(
    client: Client, operation: str, window: dict[str, Any], argument: str, message: str
) -> None:
    assert await client.refused(operation, **window) == {
        "message": f"{argument}: {message}",
        "code": "BAD_USER_INPUT",
        "argument": argument,
    }


async def test_an_offset_from_a_cursor_is_refused(client: Client) -> None:
    await create_all(client)
    cursor = (await client.ask("ListTaskRuns"))["pageInfo"]["startCursor"]

    error = await client.refused("ListTaskRuns", after=cursor, offset=1)

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "offset")


async def test_an_unknown_sort_is_refused(client: Client) -> None:
    assert (await client.refused("ListTaskRuns", sort="ID_ASC"))["code"] == "BAD_USER_INPUT"


OTHER = "is a cursor of another list: a cursor fits the filter and sort that it came with."


@pytest.mark.parametrize("argument", ["after", "before"])
@pytest.mark.parametrize(
    ("operation", "asked"),
    [
        ("ListTaskRuns", {"sort": "NAME_ASC"}),
        ("ListTaskRuns", {"sort": "START_TIME_ASC"}),
        ("ListTaskRuns", {"filter": {"name": {"any": ["a"]}}}),
        ("ListTaskRuns", {"filter": {"name": {"any": ["a", "b"]}}, "sort": "START_TIME_DESC"}),
        ("ListTaskRuns", {"filter": {"not": {}}, "sort": "START_TIME_DESC"}),
        ("ListFlowRuns", {"sort": "START_TIME_DESC"}),
        ("ListFlows", {}),
    ],
)
async def test_a_cursor_of_another_list_is_refused(
    client: Client, operation: str, asked: dict[str, Any], argument: str
) -> None:
    await create_all(client)
    filter = {"name": {"any": ["a"]}}
    cursor = (await client.ask("ListTaskRuns", sort="START_TIME_DESC", filter=filter))["pageInfo"]["endCursor"]

    error = await client.refused(operation, **{argument: cursor}, **asked)

    assert error == {"message": f"{argument}: {OTHER}", "code": "BAD_USER_INPUT", "argument": argument}


async def test_a_cursor_of_another_version_is_refused(client: Client) -> None:
    cursor = base64.urlsafe_b64encode(orjson.dumps([1, "a", None, "b"])).decode().rstrip("=")

    error = await client.refused("ListTaskRuns", after=cursor)

    assert error["message"] == "after: is a cursor of another version of this server; begin again with the first page."


@pytest.mark.parametrize("sort", TaskRunSort)
@pytest.mark.parametrize(
    "changed", [(2, 5), (2, "nonsense"), (2, []), (3, "nonsense"), (3, None), (3, 7), (2, None), (0, True), (0, None)]
)
async def test_a_forged_cursor_does_no_harm(client: Client, sort: TaskRunSort, changed: tuple[int, Any]) -> None:
    await create_all(client)
    cursor = (await client.ask("ListTaskRuns", sort=sort))["pageInfo"]["startCursor"]
    content = orjson.loads(base64.urlsafe_b64decode(cursor + "=="))
    content[changed[0]] = changed[1]
    forged = base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")

    answer = await client.send("ListTaskRuns", sort=sort, after=forged)

    codes = [error["extensions"]["code"] for error in answer.get("errors", [])]
    assert codes in ([], ["BAD_USER_INPUT"])

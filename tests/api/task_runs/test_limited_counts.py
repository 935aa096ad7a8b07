"""Counts with `atMost`: counting stops at a number, which then means that many or more."""

from typing import Any

import pytest

from tests.builders.api_runs import create_flow_run, create_task_run, create_task_runs
from tests.client import Client
from tests.serving import SQLITE_ONLY, RunningServer

TAGGED = {"tags": {"all": ["x"]}}


@pytest.mark.parametrize(
    ("at_most", "filter", "expected"),
    [
        (None, None, 7),
        (1, None, 1),
        (6, None, 6),
        (7, None, 7),
        (8, None, 7),
        (2**31 - 1, None, 7),
        (2, TAGGED, 2),
        (5, TAGGED, 3),
        (5, {"name": {"in": ["nobody"]}}, 0),
    ],
)
async def test_a_count_stops_at_the_number(
    client: Client, at_most: int | None, filter: dict[str, Any] | None, expected: int
) -> None:
    await create_task_runs(client, 4)
    await create_task_runs(client, 3, tags=["x"])

    count = await client.execute("CountTaskRuns", filter=filter, atMost=at_most)
    page = await client.execute("ListTaskRuns", filter=filter, atMost=at_most, first=1)

    assert (count, page["totalCount"]) == (expected, expected)


async def test_the_counts_of_several_lists_stop_separately(client: Client) -> None:
    flow_runs = [await create_flow_run(client, "RUNNING", name=name) for name in ("none", "one", "three")]
    for flow_run, count in zip(flow_runs, (0, 1, 3), strict=True):
        for _ in range(count):
            await create_task_run(client, flowRunId=flow_run, tags=["x"])

    page = await client.execute("ListTaskRunsOfFlowRuns", taskRunFilter=TAGGED, atMost=2)

    counts = {node["name"]: node["taskRuns"]["totalCount"] for node in page["nodes"]}
    assert counts == {"none": 0, "one": 1, "three": 2}


@SQLITE_ONLY
async def test_the_statement_stops_counting(server: RunningServer) -> None:
    await create_task_runs(server.client, 3)

    async with server.record_reads() as statements:
        await server.client.execute("CountTaskRuns", atMost=2)

    (statement,) = statements
    assert "LIMIT" in statement


@SQLITE_ONLY
@pytest.mark.parametrize("at_most", [0, -1])
async def test_a_number_below_1_is_refused(client: Client, at_most: int) -> None:
    for operation in ("CountTaskRuns", "ListTaskRuns"):
        error = await client.execute_refused(operation, atMost=at_most)

        message = f"atMost: must be at least 1; got {at_most}."
        assert error == {"message": message, "code": "BAD_USER_INPUT", "argument": "atMost"}

"""A root field that fails is null, and the other root fields of the operation keep their results."""

from typing import Any

import pytest

from tests.builders.api_runs import count_task_runs, create_task_run
from tests.builders.ids import UNKNOWN_ID
from tests.client import Client


async def post(client: Client, query: str) -> dict[str, Any]:
    response = await client.http.post("/graphql", json={"query": query})
    assert response.status_code == 200
    return response.json()


def paths_and_codes(result: dict[str, Any]) -> list[tuple[list[str], str]]:
    return [(error["path"], error["extensions"]["code"]) for error in result["errors"]]


async def test_a_mutation_that_succeeded_is_reported_beside_one_that_failed(client: Client) -> None:
    result = await post(
        client,
        f"""mutation {{
          a: createTaskRun(input: {{taskKey: "x", name: "kept"}}) {{ taskRun {{ name }} created }}
          b: updateTaskRun(id: "{UNKNOWN_ID}", input: {{name: "z"}}) {{ taskRun {{ id }} }}
        }}""",
    )

    assert result["data"] == {"a": {"taskRun": {"name": "kept"}, "created": True}, "b": None}
    assert paths_and_codes(result) == [(["b"], "NOT_FOUND")]
    assert [run["name"] for run in (await client.execute("ListTaskRuns"))["nodes"]] == ["kept"]


async def test_a_failed_mutation_does_not_stop_the_mutations_after_it(client: Client) -> None:
    result = await post(
        client,
        f"""mutation {{
          a: deleteTaskRun(id: "{UNKNOWN_ID}") {{ deletedId }}
          b: createTaskRun(input: {{taskKey: "x"}}) {{ created }}
        }}""",
    )

    assert result["data"] == {"a": None, "b": {"created": True}}
    assert paths_and_codes(result) == [(["a"], "NOT_FOUND")]
    assert await count_task_runs(client) == 1


@pytest.mark.parametrize(
    ("failing", "code"),
    [
        ("taskRuns(first: 5000) { totalCount }", "BAD_USER_INPUT"),
        ('taskRunCount(filter: {id: {in: ["nonsense"]}})', "BAD_USER_INPUT"),
        ('nodes(ids: ["nonsense"]) { id }', "BAD_USER_INPUT"),
    ],
)
async def test_a_query_that_failed_leaves_the_others_their_results(client: Client, failing: str, code: str) -> None:
    id = await create_task_run(client, name="kept")

    result = await post(client, f'{{ a: taskRun(id: "{id}") {{ name }} b: {failing} c: taskRunCount }}')

    assert result["data"] == {"a": {"name": "kept"}, "b": None, "c": 1}
    assert paths_and_codes(result) == [(["b"], code)]


async def test_the_only_root_field_is_null_when_it_fails(client: Client) -> None:
    result = await post(client, "{ taskRuns(first: 5000) { nodes { id } } }")

    assert result["data"] == {"taskRuns": None}
    assert paths_and_codes(result) == [(["taskRuns"], "BAD_USER_INPUT")]

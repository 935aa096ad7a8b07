"""createTaskRuns: creates up to 1,000 runs atomically."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.builders.api_runs import count_task_runs
from tests.builders.ids import UNKNOWN_ID
from tests.client import Client
from tests.serving import RunningServer, run_server


async def test_results_come_in_the_order_of_the_inputs(client: Client) -> None:
    keys = ["c", "a", "b", "a"]

    payloads = (await client.execute("CreateTaskRuns", inputs=[{"taskKey": key} for key in keys]))["results"]

    assert [payload["taskRun"]["taskKey"] for payload in payloads] == keys
    assert [payload["created"] for payload in payloads] == [True] * 4
    assert len({payload["taskRun"]["id"] for payload in payloads}) == 4
    assert await count_task_runs(client) == 4


async def test_each_run_has_its_own_initial_state(client: Client) -> None:
    types = ["SCHEDULED", "RUNNING", "PENDING", "COMPLETED"]

    payloads = (
        await client.execute("CreateTaskRuns", inputs=[{"taskKey": "t", "state": {"type": type}} for type in types])
    )["results"]

    assert [payload["taskRun"]["stateType"] for payload in payloads] == types


async def test_a_key_repeated_in_one_call_creates_one_run(client: Client) -> None:
    same = {"taskKey": "t", "dynamicKey": "1"}

    first, other, again = (
        await client.execute("CreateTaskRuns", inputs=[same, {"taskKey": "t"}, {**same, "name": "x"}])
    )["results"]

    assert first["created"] is True
    assert other["created"] is True
    assert again == {"created": False, "taskRun": first["taskRun"], "error": None}
    assert await count_task_runs(client) == 2


async def test_an_existing_run_is_returned_along_with_the_new_ones(client: Client) -> None:
    known = await client.execute("CreateTaskRun", input={"taskKey": "t", "dynamicKey": "1"})

    old, new = (
        await client.execute(
            "CreateTaskRuns",
            inputs=[
                {"taskKey": "t", "dynamicKey": "1", "state": {"type": "RUNNING"}},
                {"taskKey": "t", "dynamicKey": "2"},
            ],
        )
    )["results"]

    assert (old["created"], old["taskRun"]["id"]) == (False, known["taskRun"]["id"])
    assert old["taskRun"]["stateType"] == "PENDING"
    assert new["created"] is True
    assert await count_task_runs(client) == 2


async def test_each_scheduled_background_run_is_queued(server: RunningServer) -> None:
    client = server.client
    due = [server.clock.in_seconds(seconds) for seconds in (60, 30)]

    payloads = (
        await client.execute(
            "CreateTaskRuns",
            inputs=[
                *({"taskKey": "t", "state": {"type": "SCHEDULED", "details": {"scheduledTime": time}}} for time in due),
                {"taskKey": "t"},
            ],
        )
    )["results"]

    runs = [await client.execute("GetTaskRun", id=payload["taskRun"]["id"]) for payload in payloads]
    assert [run["queueEntry"] and run["queueEntry"]["availableAt"] for run in runs] == [
        "2030-01-01T12:01:00.000000Z",
        "2030-01-01T12:00:30.000000Z",
        None,
    ]


async def test_an_empty_list_of_inputs_returns_an_empty_list(client: Client) -> None:
    assert (await client.execute("CreateTaskRuns", inputs=[]))["results"] == []


async def test_a_thousand_runs_are_created_in_one_call(client: Client) -> None:
    payloads = (await client.execute("CreateTaskRuns", inputs=[{"taskKey": "t"}] * 1000))["results"]

    assert len({payload["taskRun"]["id"] for payload in payloads}) == 1000
    assert await count_task_runs(client) == 1000


async def test_more_than_a_thousand_runs_are_refused_and_none_is_created(client: Client) -> None:
    error = await client.execute_refused("CreateTaskRuns", inputs=[{"taskKey": "t"}] * 1001)

    assert error == {
        "message": "inputs: must have at most 1,000 items; got 1,001.",
        "code": "BAD_USER_INPUT",
        "argument": "inputs",
    }
    assert await count_task_runs(client) == 0


@pytest.mark.parametrize(
    ("wrong", "code", "argument"),
    [
        ({"flowRunId": UNKNOWN_ID}, "NOT_FOUND", "inputs.1.flowRunId"),
        ({"flowRunId": "nonsense"}, "BAD_USER_INPUT", "inputs.1.flowRunId"),
        ({"cacheKey": "x" * 2001}, "BAD_USER_INPUT", "inputs.1.cacheKey"),
        (
            {"state": {"type": "RUNNING", "details": {"transitionId": "1"}}},
            "BAD_USER_INPUT",
            "inputs.1.state.details.transitionId",
        ),
    ],
)
async def test_one_invalid_run_is_named_by_its_index_and_none_is_created(
    client: Client, wrong: dict[str, Any], code: str, argument: str
) -> None:
    inputs = [{"taskKey": "t", "state": {"type": "SCHEDULED"}}, {"taskKey": "t", **wrong}, {"taskKey": "t"}]

    error = await client.execute_refused("CreateTaskRuns", inputs=inputs)

    assert (error["code"], error["argument"]) == (code, argument)
    assert error["message"].startswith(f"{argument}: ")
    assert await count_task_runs(client) == 0


async def test_a_refused_call_does_not_affect_concurrent_calls(client: Client) -> None:
    shared = {"taskKey": "t", "dynamicKey": "1"}
    refused = [shared, {"taskKey": "t", "flowRunId": UNKNOWN_ID}]

    results = await asyncio.gather(
        *(client.send("CreateTaskRuns", inputs=inputs) for inputs in ([{"taskKey": "u"}], refused, [shared]))
    )

    assert ["errors" in result for result in results] == [False, True, False]
    assert results[0]["data"]["createTaskRuns"]["results"][0]["created"] is True
    assert results[2]["data"]["createTaskRuns"]["results"][0]["created"] is True
    assert await count_task_runs(client) == 2


async def test_fifty_concurrent_calls_with_one_key_create_one_run(client: Client) -> None:
    payloads = await asyncio.gather(
        *(
            client.execute("CreateTaskRuns", inputs=[{"taskKey": "t", "dynamicKey": "1"}, {"taskKey": "own"}])
            for _ in range(50)
        )
    )

    results = [payload["results"] for payload in payloads]
    assert len({shared["taskRun"]["id"] for shared, _ in results}) == 1
    assert [shared["created"] for shared, _ in results].count(True) == 1
    assert [own["created"] for _, own in results].count(True) == 50
    assert await count_task_runs(client) == 51


@pytest.mark.parametrize("field", ["taskKey", "dynamicKey", "name"])
async def test_a_string_with_a_nul_is_refused_and_nothing_is_created(client: Client, field: str) -> None:
    error = await client.execute_refused("CreateTaskRuns", inputs=[{"taskKey": "t", field: "a\0b"}])

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", f"inputs.0.{field}")
    assert await count_task_runs(client) == 0


@pytest.mark.parametrize("key", ["", " ", "a'b", 'a"b', "a\\b", "\u2028", "😀", "x" * 1000])
async def test_a_key_with_any_other_characters_is_found_again(client: Client, key: str) -> None:
    inputs = [{"taskKey": key, "dynamicKey": key}]
    (first,) = (await client.execute("CreateTaskRuns", inputs=inputs))["results"]

    (second,) = (await client.execute("CreateTaskRuns", inputs=inputs))["results"]

    assert second == {"created": False, "taskRun": first["taskRun"], "error": None}
    assert (first["taskRun"]["taskKey"], first["taskRun"]["dynamicKey"]) == (key, key)


@pytest.mark.parametrize(
    "field",
    [
        "parameters: 1e400",
        "parameters: {deep: [1e400]}",
        "taskInputs: {x: -1e400}",
        "retryPolicy: {retryDelaySeconds: [1e400]}",
        "retryPolicy: {retryJitterFactor: 1e400}",
        "state: {type: COMPLETED, data: 1e400}",
    ],
)
async def test_a_number_beyond_the_float_range_is_refused_and_nothing_is_created(client: Client, field: str) -> None:
    query = f'mutation {{ createTaskRuns(inputs: [{{taskKey: "t", {field}}}]) {{ results {{ created }} }} }}'

    result = (await client.http.post("/graphql", json={"query": query})).json()

    assert [error["extensions"]["code"] for error in result["errors"]] == ["BAD_USER_INPUT"]
    assert await count_task_runs(client) == 0


async def test_with_partial_the_runs_that_do_not_fail_are_created(database_url: str, tmp_path: Path) -> None:
    async with run_server(tmp_path, database_url=database_url, max_scheduled_per_key=1) as server:
        scheduled = {"taskKey": "t", "state": {"type": "SCHEDULED"}}
        known = (await server.client.execute("CreateTaskRun", input={"taskKey": "u", "dynamicKey": "1"}))["taskRun"]

        results = (
            await server.client.execute(
                "CreateTaskRuns",
                partial=True,
                inputs=[
                    scheduled,
                    scheduled,
                    {"taskKey": "t", "flowRunId": UNKNOWN_ID},
                    {"taskKey": "t"},
                    {"taskKey": "u", "dynamicKey": "1"},
                ],
            )
        )["results"]

        assert [each["error"] for each in results] == [
            None,
            {
                "code": "QUEUE_FULL",
                "message": "The queue of task key 't' has reached the limit of 1 waiting runs on its scheduled side. "
                "Retry later.",
                "argument": "inputs.1.taskKey",
            },
            {
                "code": "NOT_FOUND",
                "message": f"No flow run has the id {UNKNOWN_ID}.",
                "argument": "inputs.2.flowRunId",
            },
            None,
            None,
        ]
        assert [each["created"] for each in results] == [True, False, False, True, False]
        assert [each["taskRun"] and each["taskRun"]["stateType"] for each in results] == [
            "SCHEDULED",
            None,
            None,
            "PENDING",
            "PENDING",
        ]
        assert results[4]["taskRun"]["id"] == known["id"]
        assert await count_task_runs(server.client) == 3


async def test_with_partial_a_state_that_the_rules_refuse_is_a_conflict(client: Client) -> None:
    await client.execute("SetConcurrencyLimit", tag="db", limit=0)
    running = {"taskKey": "t", "state": {"type": "RUNNING"}}

    results = (await client.execute("CreateTaskRuns", partial=True, inputs=[{**running, "tags": ["db"]}, running]))[
        "results"
    ]

    assert [(each["error"] and (each["error"]["code"], each["error"]["argument"])) for each in results] == [
        ("CONFLICT", "inputs.0.state"),
        None,
    ]
    assert await count_task_runs(client) == 1


@pytest.mark.parametrize("partial", [False, True])
async def test_invalid_input_fails_the_whole_request_with_partial_too(client: Client, partial: bool) -> None:
    error = await client.execute_refused(
        "CreateTaskRuns", partial=partial, inputs=[{"taskKey": "t"}, {"taskKey": "t", "flowRunId": "nonsense"}]
    )

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "inputs.1.flowRunId")
    assert await count_task_runs(client) == 0

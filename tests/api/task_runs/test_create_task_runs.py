"""createTaskRuns: up to 1,000 runs in one transaction, all of them or none."""

import asyncio
from typing import Any

import pytest

from tests.client import Client
from tests.serving import Serving

NOWHERE = "01a206b2-304f-7000-b2ee-99ddb7de4877"


async def count_runs(client: Client) -> int:
    return (await client.ask("ListTaskRuns"))["totalCount"]


async def test_results_come_in_the_order_of_the_inputs(client: Client) -> None:
    keys = ["c", "a", "b", "a"]

    payloads = await client.ask("CreateTaskRuns", inputs=[{"taskKey": key} for key in keys])

    assert [payload["taskRun"]["taskKey"] for payload in payloads] == keys
    assert [payload["created"] for payload in payloads] == [True] * 4
    assert len({payload["taskRun"]["id"] for payload in payloads}) == 4
    assert await count_runs(client) == 4


async def test_each_run_takes_its_own_first_state(client: Client) -> None:
    types = ["SCHEDULED", "RUNNING", "PENDING", "COMPLETED"]

    payloads = await client.ask("CreateTaskRuns", inputs=[{"taskKey": "t", "state": {"type": type}} for type in types])

    assert [payload["taskRun"]["stateType"] for payload in payloads] == types


async def test_a_key_named_twice_in_one_call_makes_one_run(client: Client) -> None:
    same = {"taskKey": "t", "dynamicKey": "1"}

    first, other, again = await client.ask("CreateTaskRuns", inputs=[same, {"taskKey": "t"}, {**same, "name": "x"}])

    assert first["created"] is True
    assert other["created"] is True
    assert again == {"created": False, "taskRun": first["taskRun"]}
    assert await count_runs(client) == 2


async def test_a_run_that_is_there_already_is_answered_beside_the_new_ones(client: Client) -> None:
    known = await client.ask("CreateTaskRun", input={"taskKey": "t", "dynamicKey": "1"})

    old, new = await client.ask(
        "CreateTaskRuns",
        inputs=[{"taskKey": "t", "dynamicKey": "1", "state": {"type": "RUNNING"}}, {"taskKey": "t", "dynamicKey": "2"}],
    )

    assert (old["created"], old["taskRun"]["id"]) == (False, known["taskRun"]["id"])
    assert old["taskRun"]["stateType"] == "PENDING"
    assert new["created"] is True
    assert await count_runs(client) == 2


async def test_scheduled_background_runs_are_queued_each(server: Serving) -> None:
    client = server.client
    due = [server.clock.in_seconds(seconds) for seconds in (60, 30)]

    payloads = await client.ask(
        "CreateTaskRuns",
        inputs=[
            *({"taskKey": "t", "state": {"type": "SCHEDULED", "details": {"scheduledTime": time}}} for time in due),
            {"taskKey": "t"},
        ],
    )

    runs = [await client.ask("GetTaskRun", id=payload["taskRun"]["id"]) for payload in payloads]
    assert [run["queueEntry"] and run["queueEntry"]["availableAt"] for run in runs] == [
        "2030-01-01T12:01:00.000000Z",
        "2030-01-01T12:00:30.000000Z",
        None,
    ]


async def test_no_runs_at_all_is_an_empty_answer(client: Client) -> None:
    assert await client.ask("CreateTaskRuns", inputs=[]) == []


async def test_a_thousand_runs_are_made_at_once(client: Client) -> None:
    payloads = await client.ask("CreateTaskRuns", inputs=[{"taskKey": "t"}] * 1000)

    assert len({payload["taskRun"]["id"] for payload in payloads}) == 1000
    assert await count_runs(client) == 1000


async def test_more_than_a_thousand_runs_are_refused_and_none_is_made(client: Client) -> None:
    error = await client.refused("CreateTaskRuns", inputs=[{"taskKey": "t"}] * 1001)

    assert error == {
        "message": "inputs: takes at most 1,000 items at once, not 1,001.",
        "code": "BAD_USER_INPUT",
        "argument": "inputs",
    }
    assert await count_runs(client) == 0


@pytest.mark.parametrize(
    ("wrong", "code", "argument"),
    [
        ({"flowRunId": NOWHERE}, "CONFLICT", "inputs.1.flowRunId"),
        ({"flowRunId": "nonsense"}, "BAD_USER_INPUT", "inputs.1.flowRunId"),
        ({"cacheKey": "x" * 2001}, "BAD_USER_INPUT", "inputs.1.cacheKey"),
        (
            {"state": {"type": "RUNNING", "details": {"transitionId": "1"}}},
            "BAD_USER_INPUT",
            "inputs.1.state.details.transitionId",
        ),
    ],
)
async def test_one_refused_run_is_named_by_its_place_and_refuses_them_all(
    client: Client, wrong: dict[str, Any], code: str, argument: str
) -> None:
    inputs = [{"taskKey": "t", "state": {"type": "SCHEDULED"}}, {"taskKey": "t", **wrong}, {"taskKey": "t"}]

    error = await client.refused("CreateTaskRuns", inputs=inputs)

    assert (error["code"], error["argument"]) == (code, argument)
    assert error["message"].startswith(f"{argument}: ")
    assert await count_runs(client) == 0


async def test_a_refused_call_is_forgotten_by_the_calls_beside_it(client: Client) -> None:
    shared = {"taskKey": "t", "dynamicKey": "1"}
    refused = [shared, {"taskKey": "t", "flowRunId": NOWHERE}]

    answers = await asyncio.gather(
        *(client.send("CreateTaskRuns", inputs=inputs) for inputs in ([{"taskKey": "u"}], refused, [shared]))
    )

    assert ["errors" in answer for answer in answers] == [False, True, False]
    assert answers[0]["data"]["createTaskRuns"][0]["created"] is True
    assert answers[2]["data"]["createTaskRuns"][0]["created"] is True
    assert await count_runs(client) == 2


async def test_fifty_concurrent_calls_with_one_key_make_it_once(client: Client) -> None:
    answers = await asyncio.gather(
        *(
            client.ask("CreateTaskRuns", inputs=[{"taskKey": "t", "dynamicKey": "1"}, {"taskKey": "own"}])
            for _ in range(50)
        )
    )

    assert len({shared["taskRun"]["id"] for shared, _ in answers}) == 1
    assert [shared["created"] for shared, _ in answers].count(True) == 1
    assert [own["created"] for _, own in answers].count(True) == 50
    assert await count_runs(client) == 51


@pytest.mark.parametrize("field", ["taskKey", "dynamicKey", "name"])
async def test_a_text_with_a_zero_character_is_refused_and_nothing_is_made(client: Client, field: str) -> None:
    error = await client.refused("CreateTaskRuns", inputs=[{"taskKey": "t", field: "a\0b"}])

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", f"inputs.0.{field}")
    assert await count_runs(client) == 0


@pytest.mark.parametrize("key", ["", " ", "a'b", 'a"b', "a\\b", "\u2028", "😀", "x" * 1000])
async def test_a_key_of_any_other_characters_is_found_again(client: Client, key: str) -> None:
    inputs = [{"taskKey": key, "dynamicKey": key}]
    (first,) = await client.ask("CreateTaskRuns", inputs=inputs)

    (second,) = await client.ask("CreateTaskRuns", inputs=inputs)

    assert second == {"created": False, "taskRun": first["taskRun"]}
    assert (first["taskRun"]["taskKey"], first["taskRun"]["dynamicKey"]) == (key, key)


@pytest.mark.parametrize(
    "field",
    [
        "parameters: 1e400",
        "parameters: {deep: [1e400]}",
        "taskInputs: {x: -1e400}",
        "empiricalPolicy: {retryDelaySeconds: [1e400]}",
        "empiricalPolicy: {retryJitterFactor: 1e400}",
        "state: {type: COMPLETED, data: 1e400}",
    ],
)
async def test_a_number_beyond_all_numbers_is_refused_and_nothing_is_made(client: Client, field: str) -> None:
    query = f'mutation {{ createTaskRuns(inputs: [{{taskKey: "t", {field}}}]) {{ created }} }}'

    answer = (await client.http.post("/graphql", json={"query": query})).json()

    assert [error["extensions"]["code"] for error in answer["errors"]] == ["BAD_USER_INPUT"]
    assert await count_runs(client) == 0

"""createTaskRun: creates the run with the given keys at most once."""

import asyncio
import re

import pytest

from queries import document
from tests.builders.api_runs import count_task_runs
from tests.builders.ids import UNKNOWN_ID
from tests.client import Client
from tests.serving import SQLITE_ONLY, RunningServer

NOW = "2030-01-01T12:00:00.000000Z"


async def test_a_run_created_with_only_its_task_key_is_pending_and_named(client: Client) -> None:
    payload = await client.execute("CreateTaskRun", input={"taskKey": "send-mail"})

    run = await client.execute("GetTaskRun", id=payload["taskRun"]["id"])
    assert payload["created"] is True
    assert re.fullmatch(r"[a-z]+-[a-z]+", run.pop("name"))
    state = run.pop("state")
    assert run.pop("states") == [state]
    assert (state["type"], state["name"], state["timestamp"]) == ("PENDING", "Pending", NOW)
    assert state["details"]["taskRunId"] == run["id"]
    assert run == {
        "id": run["id"],
        "createdAt": NOW,
        "updatedAt": NOW,
        "taskKey": "send-mail",
        "dynamicKey": run["dynamicKey"],
        "taskVersion": None,
        "cacheKey": None,
        "cacheExpiresAt": None,
        "retryPolicy": {"retries": None, "retryDelaySeconds": None, "retryJitterFactor": None},
        "tags": [],
        "taskInputs": {},
        "parameters": None,
        "priority": 0,
        "expiresAt": None,
        "timeoutSeconds": None,
        "uniqueKey": None,
        "metadata": None,
        "progress": None,
        "flowRunId": None,
        "flowRun": None,
        "childFlowRun": None,
        "stateId": state["id"],
        "stateType": "PENDING",
        "stateName": "Pending",
        "runCount": 0,
        "flowRunRunCount": 0,
        "traceParent": None,
        "expectedStartTime": NOW,
        "nextScheduledStartTime": None,
        "startTime": None,
        "endTime": None,
        "totalRunTimeSeconds": 0.0,
        "estimatedRunTimeSeconds": 0.0,
        "estimatedStartTimeDeltaSeconds": 0.0,
        "queueEntry": None,
    }


@SQLITE_ONLY
@pytest.mark.parametrize("type", ["PENDING", "SCHEDULED"])
async def test_the_queue_entry_of_a_new_run_is_returned_without_a_read(server: RunningServer, type: str) -> None:
    async with server.record_reads() as statements:
        payload = await server.client.execute("CreateTaskRun", input={"taskKey": "t", "state": {"type": type}})

    assert statements == []
    run = await server.client.execute("GetTaskRun", id=payload["taskRun"]["id"])
    queued = None if type == "PENDING" else {"availableAt": NOW, "attempt": 0}
    assert payload["taskRun"]["queueEntry"] == queued
    assert run["queueEntry"] == (queued and run["queueEntry"] | queued)


async def test_creating_twice_with_one_key_returns_the_first_run_unchanged(client: Client) -> None:
    first = await client.execute("CreateTaskRun", input={"taskKey": "t", "dynamicKey": "1", "name": "first"})

    second = await client.execute(
        "CreateTaskRun", input={"taskKey": "t", "dynamicKey": "1", "name": "second", "state": {"type": "COMPLETED"}}
    )

    assert second == {"created": False, "taskRun": first["taskRun"]}


async def test_fifty_concurrent_creates_of_one_key_create_one_run(client: Client) -> None:
    payloads = await asyncio.gather(
        *(client.execute("CreateTaskRun", input={"taskKey": "t", "dynamicKey": "1"}) for _ in range(50))
    )

    assert len({payload["taskRun"]["id"] for payload in payloads}) == 1
    assert [payload["created"] for payload in payloads].count(True) == 1
    assert (await client.execute("ListTaskRuns"))["totalCount"] == 1


async def test_a_scheduled_background_run_is_queued_from_its_scheduled_time(server: RunningServer) -> None:
    state = {"type": "SCHEDULED", "details": {"scheduledTime": server.clock.in_seconds(90)}}

    run = (await server.client.execute("CreateTaskRun", input={"taskKey": "t", "state": state}))["taskRun"]

    assert run["nextScheduledStartTime"] == "2030-01-01T12:01:30.000000Z"
    assert run["queueEntry"] == {"availableAt": "2030-01-01T12:01:30.000000Z", "attempt": 0}


@pytest.mark.parametrize(
    ("wrong", "argument"),
    [
        ({"flowRunId": "nonsense"}, "input.flowRunId"),
        ({"cacheKey": "x" * 2001}, "input.cacheKey"),
        ({"retryPolicy": {"retryDelaySeconds": [1.0] * 51}}, "input.retryPolicy.retryDelaySeconds"),
        ({"retryPolicy": {"retryJitterFactor": -0.1}}, "input.retryPolicy.retryJitterFactor"),
        ({"taskInputs": [1]}, "input.taskInputs"),
        ({"state": {"type": "RUNNING", "details": {"transitionId": "1"}}}, "input.state.details.transitionId"),
    ],
)
async def test_a_malformed_argument_is_named_and_nothing_is_created(
    client: Client, wrong: dict[str, object], argument: str
) -> None:
    error = await client.execute_refused("CreateTaskRun", input={"taskKey": "t", **wrong})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", argument)
    assert error["message"].startswith(f"{argument}: ")
    assert (await client.execute("ListTaskRuns"))["totalCount"] == 0


async def test_an_unknown_flow_run_is_not_found_and_nothing_is_created(client: Client) -> None:
    error = await client.execute_refused("CreateTaskRun", input={"taskKey": "t", "flowRunId": UNKNOWN_ID})

    assert (error["code"], error["argument"]) == ("NOT_FOUND", "input.flowRunId")
    assert (await client.execute("ListTaskRuns"))["totalCount"] == 0


TRACE_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER_TRACE_PARENT = "00-11111111111111111111111111111111-2222222222222222-00"


@pytest.mark.parametrize(
    ("of_input", "of_request", "stored"),
    [
        (TRACE_PARENT, None, TRACE_PARENT),
        (TRACE_PARENT, OTHER_TRACE_PARENT, TRACE_PARENT),
        (None, OTHER_TRACE_PARENT, OTHER_TRACE_PARENT),
        (None, None, None),
    ],
)
async def test_the_trace_parent_of_the_input_precedes_that_of_the_request(
    client: Client, of_input: str | None, of_request: str | None, stored: str | None
) -> None:
    variables = {"input": {"taskKey": "t", "traceParent": of_input}}
    body = {"query": document("CreateTaskRun")[0], "variables": variables}
    headers = {} if of_request is None else {"traceparent": of_request}

    response = await client.http.post("/graphql", json=body, headers=headers)

    id = response.json()["data"]["createTaskRun"]["taskRun"]["id"]
    assert (await client.execute("GetTaskRun", id=id))["traceParent"] == stored


@pytest.mark.parametrize("text", ["", "nonsense", TRACE_PARENT.upper(), "01" + TRACE_PARENT[2:], TRACE_PARENT + "-00"])
async def test_an_invalid_trace_parent_is_refused(client: Client, text: str) -> None:
    single = await client.execute_refused("CreateTaskRun", input={"taskKey": "t", "traceParent": text})
    batch = await client.execute_refused(
        "CreateTaskRuns", partial=True, inputs=[{"taskKey": "t"}, {"taskKey": "t", "traceParent": text}]
    )

    assert [(each["code"], each["argument"]) for each in (single, batch)] == [
        ("BAD_USER_INPUT", "input.traceParent"),
        ("BAD_USER_INPUT", "inputs.1.traceParent"),
    ]
    assert single["message"] == f"input.traceParent: must be a W3C `traceparent` of version 00; got {text!r:.80}."
    assert await count_task_runs(client) == 0

"""Flows and flow runs: what task runs belong to."""

import re
from typing import Any

import pytest

from tests.client import Client
from tests.serving import Serving

NOW = "2030-01-01T12:00:00.000000Z"
NOWHERE = "01a206b2-304f-7000-b2ee-99ddb7de4877"
TRANSITION = "0d0c3f3e-5d43-4a58-8f7c-6f2b8c0e9a11"


async def create_flow(client: Client, name: str = "etl") -> str:
    return (await client.ask("CreateFlow", input={"name": name}))["flow"]["id"]


async def create_flow_run(client: Client, **input: Any) -> str:
    input.setdefault("flowId", await create_flow(client))
    return (await client.ask("CreateFlowRun", input=input))["flowRun"]["id"]


async def set_state(client: Client, id: str, type: str, **details: Any) -> dict[str, Any]:
    return await client.ask("SetFlowRunState", id=id, state={"type": type, "details": details})


async def ask_at_once(client: Client, count: int, operation: str, **variables: Any) -> list[dict[str, Any]]:
    """The values of as many operations, which gather for one transaction while another write is under way."""
    async with client.socket() as socket:
        first = await socket.subscribe("CreateTaskRun", input={"taskKey": "t"})
        for _ in range(count):
            await socket.subscribe(operation, **variables)
        messages = [await socket.receive() for _ in range(2 + 2 * count)]
    data = [each["payload"]["data"] for each in messages if each["type"] == "next" and each["id"] != first]
    return [value for each in data for value in each.values()]


# --- createFlow ---


async def test_a_flow_is_created_with_its_name_and_tags(client: Client) -> None:
    payload = await client.ask("CreateFlow", input={"name": "etl", "tags": ["b", "a", "b"]})

    assert payload["created"] is True
    assert payload["flow"] == {"id": payload["flow"]["id"], "name": "etl", "tags": ["b", "a", "b"]}
    assert await client.ask("GetFlow", id=payload["flow"]["id"]) == {**payload["flow"], "created": NOW, "updated": NOW}


async def test_creating_a_flow_twice_answers_the_first_one_unchanged(server: Serving) -> None:
    client = server.client
    first = await client.ask("CreateFlow", input={"name": "etl", "tags": ["a"]})
    server.clock.advance(5)

    second = await client.ask("CreateFlow", input={"name": "etl", "tags": ["b"]})

    assert second == {"created": False, "flow": first["flow"]}
    assert (await client.ask("GetFlow", id=first["flow"]["id"]))["updated"] == NOW


async def test_twenty_concurrent_creates_of_one_name_make_one_flow(client: Client) -> None:
    payloads = await ask_at_once(client, 20, "CreateFlow", input={"name": "etl"})

    assert (len(payloads), len({payload["flow"]["id"] for payload in payloads})) == (20, 1)
    assert [payload["created"] for payload in payloads].count(True) == 1


@pytest.mark.parametrize("name", ["", " ", "a b-c_d.e:f", "ünïcödé ✓", "ETL"])
async def test_a_flow_may_have_any_other_name(client: Client, name: str) -> None:
    await create_flow(client, "etl")

    payload = await client.ask("CreateFlow", input={"name": name})

    assert (payload["created"], payload["flow"]["name"]) == (True, name)


@pytest.mark.parametrize("banned", ["/", "%", "&", ">", "<"])
async def test_a_flow_s_name_may_not_contain(client: Client, banned: str) -> None:
    error = await client.refused("CreateFlow", input={"name": f"a{banned}b"})

    assert error == {
        "message": f"input.name: may not contain {banned}",
        "code": "BAD_USER_INPUT",
        "argument": "input.name",
    }


async def test_a_flow_that_is_not_there_is_null(client: Client) -> None:
    assert await client.ask("GetFlow", id=NOWHERE) is None


# --- createFlowRun ---


async def test_a_flow_run_created_with_its_flow_alone_is_pending_and_named(client: Client) -> None:
    flow_id = await create_flow(client)

    payload = await client.ask("CreateFlowRun", input={"flowId": flow_id})

    assert payload["created"] is True
    run = await client.ask("GetFlowRun", id=payload["flowRun"]["id"])
    assert re.fullmatch(r"[a-z]+-[a-z]+", run["name"])
    assert run == {
        "id": run["id"],
        "created": NOW,
        "updated": NOW,
        "name": payload["flowRun"]["name"],
        "flowId": flow_id,
        "flow": {"id": flow_id, "name": "etl"},
        "deploymentId": None,
        "workQueueName": None,
        "flowVersion": None,
        "idempotencyKey": None,
        "parameters": {},
        "context": {},
        "empiricalPolicy": {"retries": None, "retryDelaySeconds": None, "pauseKeys": [], "resuming": False},
        "tags": [],
        "deployment": None,
        "parentTaskRunId": None,
        "parentTaskRun": None,
        "stateId": run["stateId"],
        "stateType": "PENDING",
        "stateName": "Pending",
        "state": {
            "id": run["stateId"],
            "type": "PENDING",
            "name": "Pending",
            "details": {"flowRunId": run["id"], "taskRunId": None},
        },
        "states": [{"id": run["stateId"], "type": "PENDING", "name": "Pending", "timestamp": NOW}],
        "runCount": 0,
        "expectedStartTime": NOW,
        "nextScheduledStartTime": None,
        "startTime": None,
        "endTime": None,
        "totalRunTimeSeconds": 0.0,
        "estimatedRunTimeSeconds": 0.0,
        "estimatedStartTimeDeltaSeconds": 0.0,
    }


async def test_a_flow_run_keeps_what_it_was_created_with(client: Client) -> None:
    task_run = await client.ask("CreateTaskRun", input={"taskKey": "t"})
    given = {
        "name": "nightly",
        "tags": ["b", "a"],
        "parameters": {"day": 1},
        "context": {"who": ["ada"]},
        "flowVersion": "2",
        "idempotencyKey": "k",
        "parentTaskRunId": task_run["taskRun"]["id"],
    }

    id = await create_flow_run(client, **given, empiricalPolicy={"retries": 3, "retryDelaySeconds": 1.5})

    run = await client.ask("GetFlowRun", id=id)
    assert {name: run[name] for name in given} == given
    assert (run["empiricalPolicy"]["retries"], run["empiricalPolicy"]["retryDelaySeconds"]) == (3, 1.5)


async def test_a_scheduled_flow_run_is_due_at_its_time(server: Serving) -> None:
    state = {"type": "SCHEDULED", "details": {"scheduledTime": server.clock.in_seconds(90)}}

    id = await create_flow_run(server.client, state=state)

    run = await server.client.ask("GetFlowRun", id=id)
    assert run["nextScheduledStartTime"] == run["expectedStartTime"] == "2030-01-01T12:01:30.000000Z"


async def test_creating_a_flow_run_twice_with_one_key_answers_the_first_one_unchanged(client: Client) -> None:
    flow_id = await create_flow(client)
    first = await client.ask("CreateFlowRun", input={"flowId": flow_id, "idempotencyKey": "k", "name": "first"})

    second = await client.ask(
        "CreateFlowRun",
        input={"flowId": flow_id, "idempotencyKey": "k", "name": "second", "state": {"type": "RUNNING"}},
    )

    assert second == {"created": False, "flowRun": first["flowRun"]}
    assert len((await client.ask("GetFlowRun", id=first["flowRun"]["id"]))["states"]) == 1


async def test_twenty_concurrent_creates_of_one_key_make_one_flow_run(client: Client) -> None:
    flow_id = await create_flow(client)

    payloads = await ask_at_once(client, 20, "CreateFlowRun", input={"flowId": flow_id, "idempotencyKey": "k"})

    assert (len(payloads), len({payload["flowRun"]["id"] for payload in payloads})) == (20, 1)
    assert [payload["created"] for payload in payloads].count(True) == 1


async def test_another_flow_may_have_a_run_with_the_same_key(client: Client) -> None:
    payloads = [
        await client.ask("CreateFlowRun", input={"flowId": await create_flow(client, name), "idempotencyKey": "k"})
        for name in ("one", "other")
    ]

    assert [payload["created"] for payload in payloads] == [True, True]


async def test_without_a_key_every_call_makes_a_flow_run(client: Client) -> None:
    flow_id = await create_flow(client)

    ids = {await create_flow_run(client, flowId=flow_id) for _ in range(3)}

    assert len(ids) == 3


@pytest.mark.parametrize("field", ["flowId", "deploymentId", "parentTaskRunId"])
async def test_naming_what_is_not_there_is_a_conflict_and_nothing_is_made(client: Client, field: str) -> None:
    flow_id = await create_flow(client)
    wrong = {"flowId": flow_id, "idempotencyKey": "k", field: NOWHERE}

    error = await client.refused("CreateFlowRun", input=wrong)

    assert (error["code"], error["argument"]) == ("CONFLICT", f"input.{field}")
    retried = await client.ask("CreateFlowRun", input={"flowId": flow_id, "idempotencyKey": "k"})
    assert retried["created"] is True


async def test_a_flow_run_without_a_flow_and_a_deployment_is_refused(client: Client) -> None:
    error = await client.refused("CreateFlowRun", input={"name": "nightly"})

    assert error == {
        "message": "input: needs a flowId or a deploymentId.",
        "code": "BAD_USER_INPUT",
        "argument": "input",
    }


@pytest.mark.parametrize(
    ("wrong", "argument"),
    [
        ({"flowId": "nonsense"}, "input.flowId"),
        ({"deploymentId": "nonsense"}, "input.deploymentId"),
        ({"parentTaskRunId": "nonsense"}, "input.parentTaskRunId"),
        ({"parameters": [1]}, "input.parameters"),
        ({"context": "text"}, "input.context"),
        ({"state": {"type": "RUNNING", "details": {"transitionId": "1"}}}, "input.state.details.transitionId"),
    ],
)
async def test_a_malformed_argument_is_named_and_nothing_is_made(
    client: Client, wrong: dict[str, Any], argument: str
) -> None:
    flow_id = await create_flow(client)

    error = await client.refused("CreateFlowRun", input={"flowId": flow_id, "idempotencyKey": "k", **wrong})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", argument)
    retried = await client.ask("CreateFlowRun", input={"flowId": flow_id, "idempotencyKey": "k"})
    assert retried["created"] is True


async def test_a_flow_run_that_is_not_there_is_null(client: Client) -> None:
    assert await client.ask("GetFlowRun", id=NOWHERE) is None


# --- setFlowRunState ---


async def test_an_accepted_state_is_the_flow_run_s_own_and_in_its_history(server: Serving) -> None:
    client = server.client
    id = await create_flow_run(client)
    server.clock.advance(5)

    result = await set_state(client, id, "RUNNING")

    later = "2030-01-01T12:00:05.000000Z"
    state_id = result["state"]["id"]
    assert result == {
        "status": "ACCEPT",
        "reason": None,
        "delaySeconds": None,
        "created": True,
        "state": {"id": state_id, "type": "RUNNING", "name": "Running", "timestamp": later},
        "flowRun": {"id": id, "stateType": "RUNNING", "runCount": 1, "startTime": later},
    }
    run = await client.ask("GetFlowRun", id=id)
    assert run["stateId"] == state_id
    assert [(state["name"], state["timestamp"]) for state in run["states"]] == [("Pending", NOW), ("Running", later)]


async def test_a_second_claim_of_a_flow_run_is_aborted_and_nothing_changes(client: Client) -> None:
    id = await create_flow_run(client)
    before = await client.ask("GetFlowRun", id=id)

    result = await set_state(client, id, "PENDING")

    assert (result["status"], result["created"], result["state"]["id"]) == ("ABORT", False, before["stateId"])
    assert await client.ask("GetFlowRun", id=id) == before


async def test_a_flow_run_that_comes_before_its_time_is_told_to_wait(server: Serving) -> None:
    client = server.client
    details = {"scheduledTime": server.clock.in_seconds(30)}
    id = await create_flow_run(client, state={"type": "SCHEDULED", "details": details})

    result = await set_state(client, id, "RUNNING")

    assert (result["status"], result["delaySeconds"], result["created"]) == ("WAIT", 30.0, False)
    assert (await client.ask("GetFlowRun", id=id))["stateType"] == "SCHEDULED"


async def test_force_takes_a_state_that_the_rules_would_not(client: Client) -> None:
    id = await create_flow_run(client)

    result = await client.ask("SetFlowRunState", id=id, state={"type": "PENDING"}, force=True)

    assert (result["status"], result["created"]) == ("ACCEPT", True)
    assert len((await client.ask("GetFlowRun", id=id))["states"]) == 2


async def test_a_transition_of_a_flow_run_sent_twice_is_made_once(client: Client) -> None:
    id = await create_flow_run(client)
    first = await set_state(client, id, "RUNNING", transitionId=TRANSITION)

    second = await set_state(client, id, "RUNNING", transitionId=TRANSITION)

    assert (first["status"], first["created"]) == ("ACCEPT", True)
    assert (second["status"], second["created"], second["state"]) == ("REJECT", False, first["state"])
    run = await client.ask("GetFlowRun", id=id)
    assert ([state["name"] for state in run["states"]], run["runCount"]) == (["Pending", "Running"], 1)


async def test_the_state_of_a_flow_run_that_is_not_there_is_not_found(client: Client) -> None:
    error = await client.refused("SetFlowRunState", id=NOWHERE, state={"type": "RUNNING"})

    assert error == {"message": f"No flow run has the id {NOWHERE}.", "code": "NOT_FOUND"}


async def test_a_task_run_s_id_is_no_flow_run_s(client: Client) -> None:
    task_run = await client.ask("CreateTaskRun", input={"taskKey": "t"})

    error = await client.refused("SetFlowRunState", id=task_run["taskRun"]["id"], state={"type": "RUNNING"})

    assert error["code"] == "NOT_FOUND"
    assert (await client.ask("GetTaskRun", id=task_run["taskRun"]["id"]))["stateType"] == "PENDING"


async def test_a_malformed_id_of_a_flow_run_is_refused(client: Client) -> None:
    error = await client.refused("SetFlowRunState", id="nonsense", state={"type": "RUNNING"})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "id")


# --- with task runs ---


async def test_a_task_run_tells_of_its_flow_run_and_its_flow(client: Client) -> None:
    flow_id = await create_flow(client)
    flow_run_id = await create_flow_run(client, flowId=flow_id, name="nightly")
    created = await client.ask("CreateTaskRun", input={"taskKey": "t", "flowRunId": flow_run_id})

    task_run = await client.ask("GetTaskRun", id=created["taskRun"]["id"])

    assert task_run["flowRunId"] == flow_run_id
    assert task_run["flowRun"] == {"id": flow_run_id, "name": "nightly", "flow": {"id": flow_id, "name": "etl"}}


async def test_task_runs_of_different_flow_runs_each_tell_of_their_own(client: Client) -> None:
    flow_run_ids = [await create_flow_run(client) for _ in range(3)]
    inputs = [{"taskKey": "t", "flowRunId": id} for id in flow_run_ids]
    await client.ask("CreateTaskRuns", inputs=[*inputs, {"taskKey": "t"}])
    query = "{ taskRuns { nodes { flowRunId flowRun { id flow { name } } } } }"

    answer = (await client.http.post("/graphql", json={"query": query})).json()

    background, *nodes = answer["data"]["taskRuns"]["nodes"]
    assert background == {"flowRunId": None, "flowRun": None}
    assert nodes == [{"flowRunId": id, "flowRun": {"id": id, "flow": {"name": "etl"}}} for id in reversed(flow_run_ids)]


async def test_the_task_run_of_a_subflow_tells_of_its_child(client: Client) -> None:
    created = await client.ask("CreateTaskRun", input={"taskKey": "t"})
    child_id = await create_flow_run(client, parentTaskRunId=created["taskRun"]["id"])

    task_run = await client.ask("GetTaskRun", id=created["taskRun"]["id"])

    assert task_run["childFlowRun"] == {"id": child_id}


async def test_the_same_keys_in_a_flow_run_and_in_the_background_are_two_runs(client: Client) -> None:
    keys = {"taskKey": "t", "dynamicKey": "1"}
    flow_run_ids = [await create_flow_run(client), await create_flow_run(client)]

    payloads = [
        await client.ask("CreateTaskRun", input={**keys, "flowRunId": flow_run_id})
        for flow_run_id in (None, *flow_run_ids, flow_run_ids[0])
    ]

    assert [payload["created"] for payload in payloads] == [True, True, True, False]
    assert payloads[3]["taskRun"]["id"] == payloads[1]["taskRun"]["id"]


async def test_a_scheduled_run_of_a_flow_run_is_not_queued(client: Client) -> None:
    flow_run_id = await create_flow_run(client)

    payload = await client.ask(
        "CreateTaskRun", input={"taskKey": "t", "flowRunId": flow_run_id, "state": {"type": "SCHEDULED"}}
    )

    assert payload["taskRun"]["queueEntry"] is None

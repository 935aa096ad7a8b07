"""Flows and flow runs: creation, states, and their relation to task runs."""

import re
from typing import Any

import pytest

from tests.builders.api_runs import create_deployment, create_flow, create_flow_run, set_flow_run_state
from tests.builders.ids import TRANSITION_ID, UNKNOWN_ID
from tests.client import Client
from tests.serving import RunningServer

NOW = "2030-01-01T12:00:00.000000Z"


async def execute_concurrently(client: Client, count: int, operation: str, **variables: Any) -> list[dict[str, Any]]:
    """Execute `count` operations, which are batched into one transaction while another write is in progress."""
    async with client.socket() as socket:
        first = await socket.subscribe("CreateTaskRun", input={"taskKey": "t"})
        for _ in range(count):
            await socket.subscribe(operation, **variables)
        messages = [await socket.receive() for _ in range(2 + 2 * count)]
    data = [each["payload"]["data"] for each in messages if each["type"] == "next" and each["id"] != first]
    return [value for each in data for value in each.values()]


async def test_a_flow_is_created_with_its_name_and_tags(client: Client) -> None:
    payload = await client.execute("CreateFlow", input={"name": "etl", "tags": ["b", "a", "b"]})

    assert payload["created"] is True
    assert payload["flow"] == {"id": payload["flow"]["id"], "name": "etl", "tags": ["b", "a", "b"]}
    assert await client.execute("GetFlow", id=payload["flow"]["id"]) == {
        **payload["flow"],
        "createdAt": NOW,
        "updatedAt": NOW,
    }


async def test_creating_a_flow_twice_returns_the_first_one_unchanged(server: RunningServer) -> None:
    client = server.client
    first = await client.execute("CreateFlow", input={"name": "etl", "tags": ["a"]})
    server.clock.advance(5)

    second = await client.execute("CreateFlow", input={"name": "etl", "tags": ["b"]})

    assert second == {"created": False, "flow": first["flow"]}
    assert (await client.execute("GetFlow", id=first["flow"]["id"]))["updatedAt"] == NOW


async def test_twenty_concurrent_creates_of_one_name_create_one_flow(client: Client) -> None:
    payloads = await execute_concurrently(client, 20, "CreateFlow", input={"name": "etl"})

    assert (len(payloads), len({payload["flow"]["id"] for payload in payloads})) == (20, 1)
    assert [payload["created"] for payload in payloads].count(True) == 1


@pytest.mark.parametrize("name", ["", " ", "a b-c_d.e:f", "ünïcödé ✓", "ETL"])
async def test_a_flow_may_have_any_name_without_banned_characters(client: Client, name: str) -> None:
    await create_flow(client, "etl")

    payload = await client.execute("CreateFlow", input={"name": name})

    assert (payload["created"], payload["flow"]["name"]) == (True, name)


@pytest.mark.parametrize("banned", ["/", "%", "&", ">", "<"])
async def test_a_flow_name_with_a_banned_character_is_refused(client: Client, banned: str) -> None:
    error = await client.execute_refused("CreateFlow", input={"name": f"a{banned}b"})

    assert error == {
        "message": f"input.name: must not contain {banned}",
        "code": "BAD_USER_INPUT",
        "argument": "input.name",
    }


async def test_an_unknown_flow_is_null(client: Client) -> None:
    assert await client.execute("GetFlow", id=UNKNOWN_ID) is None


async def test_a_flow_run_created_with_only_its_flow_is_pending_and_named(client: Client) -> None:
    flow_id = await create_flow(client)

    payload = await client.execute("CreateFlowRun", input={"flowId": flow_id})

    assert payload["created"] is True
    run = await client.execute("GetFlowRun", id=payload["flowRun"]["id"])
    assert re.fullmatch(r"[a-z]+-[a-z]+", run["name"])
    assert run == {
        "id": run["id"],
        "createdAt": NOW,
        "updatedAt": NOW,
        "name": payload["flowRun"]["name"],
        "flowId": flow_id,
        "flow": {"id": flow_id, "name": "etl"},
        "deploymentId": None,
        "workQueueName": None,
        "flowVersion": None,
        "idempotencyKey": None,
        "parameters": {},
        "context": {},
        "retryPolicy": {"retries": None, "retryDelaySeconds": None},
        "pauseKeys": [],
        "resuming": False,
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
        "states": [
            {
                "id": run["stateId"],
                "type": "PENDING",
                "name": "Pending",
                "timestamp": NOW,
                "message": None,
                "actor": None,
            }
        ],
        "runCount": 0,
        "expectedStartTime": NOW,
        "nextScheduledStartTime": None,
        "startTime": None,
        "endTime": None,
        "totalRunTimeSeconds": 0.0,
        "estimatedRunTimeSeconds": 0.0,
        "estimatedStartTimeDeltaSeconds": 0.0,
    }


async def test_a_flow_run_has_the_values_it_was_created_with(client: Client) -> None:
    task_run = await client.execute("CreateTaskRun", input={"taskKey": "t"})
    fields = {
        "name": "nightly",
        "tags": ["b", "a"],
        "parameters": {"day": 1},
        "context": {"who": ["ada"]},
        "flowVersion": "2",
        "idempotencyKey": "k",
        "parentTaskRunId": task_run["taskRun"]["id"],
    }

    id = await create_flow_run(client, **fields, retryPolicy={"retries": 3, "retryDelaySeconds": 1.5})

    run = await client.execute("GetFlowRun", id=id)
    assert {name: run[name] for name in fields} == fields
    assert (run["retryPolicy"]["retries"], run["retryPolicy"]["retryDelaySeconds"]) == (3, 1.5)


async def test_a_scheduled_flow_run_is_due_at_its_scheduled_time(server: RunningServer) -> None:
    state = {"type": "SCHEDULED", "details": {"scheduledTime": server.clock.in_seconds(90)}}

    id = await create_flow_run(server.client, state=state)

    run = await server.client.execute("GetFlowRun", id=id)
    assert run["nextScheduledStartTime"] == run["expectedStartTime"] == "2030-01-01T12:01:30.000000Z"


async def test_creating_a_flow_run_twice_with_one_key_returns_the_first_unchanged(client: Client) -> None:
    flow_id = await create_flow(client)
    first = await client.execute("CreateFlowRun", input={"flowId": flow_id, "idempotencyKey": "k", "name": "first"})

    second = await client.execute(
        "CreateFlowRun",
        input={"flowId": flow_id, "idempotencyKey": "k", "name": "second", "state": {"type": "RUNNING"}},
    )

    assert second == {"created": False, "flowRun": first["flowRun"]}
    assert len((await client.execute("GetFlowRun", id=first["flowRun"]["id"]))["states"]) == 1


async def test_twenty_concurrent_creates_of_one_key_create_one_flow_run(client: Client) -> None:
    flow_id = await create_flow(client)

    payloads = await execute_concurrently(client, 20, "CreateFlowRun", input={"flowId": flow_id, "idempotencyKey": "k"})

    assert (len(payloads), len({payload["flowRun"]["id"] for payload in payloads})) == (20, 1)
    assert [payload["created"] for payload in payloads].count(True) == 1


async def test_runs_of_different_flows_may_have_the_same_key(client: Client) -> None:
    payloads = [
        await client.execute("CreateFlowRun", input={"flowId": await create_flow(client, name), "idempotencyKey": "k"})
        for name in ("one", "other")
    ]

    assert [payload["created"] for payload in payloads] == [True, True]


async def test_without_a_key_every_call_creates_a_flow_run(client: Client) -> None:
    flow_id = await create_flow(client)

    ids = {await create_flow_run(client, flowId=flow_id) for _ in range(3)}

    assert len(ids) == 3


@pytest.mark.parametrize("field", ["flowId", "deploymentId", "parentTaskRunId"])
async def test_an_unknown_reference_is_not_found_and_nothing_is_created(client: Client, field: str) -> None:
    flow_id = await create_flow(client)
    wrong = {"flowId": flow_id, "idempotencyKey": "k", field: UNKNOWN_ID}

    error = await client.execute_refused("CreateFlowRun", input=wrong)

    assert (error["code"], error["argument"]) == ("NOT_FOUND", f"input.{field}")
    retried = await client.execute("CreateFlowRun", input={"flowId": flow_id, "idempotencyKey": "k"})
    assert retried["created"] is True


async def test_a_flow_run_without_a_flow_or_deployment_is_refused(client: Client) -> None:
    error = await client.execute_refused("CreateFlowRun", input={"name": "nightly"})

    assert error == {
        "message": "input: requires a flowId or a deploymentId.",
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
async def test_a_malformed_argument_is_named_and_nothing_is_created(
    client: Client, wrong: dict[str, Any], argument: str
) -> None:
    flow_id = await create_flow(client)

    error = await client.execute_refused("CreateFlowRun", input={"flowId": flow_id, "idempotencyKey": "k", **wrong})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", argument)
    retried = await client.execute("CreateFlowRun", input={"flowId": flow_id, "idempotencyKey": "k"})
    assert retried["created"] is True


async def test_an_unknown_flow_run_is_null(client: Client) -> None:
    assert await client.execute("GetFlowRun", id=UNKNOWN_ID) is None


async def test_an_accepted_state_becomes_current_and_enters_the_history(server: RunningServer) -> None:
    client = server.client
    id = await create_flow_run(client)
    server.clock.advance(5)

    result = await set_flow_run_state(client, id, "RUNNING")

    later = "2030-01-01T12:00:05.000000Z"
    state_id = result["state"]["id"]
    assert result == {
        "status": "ACCEPT",
        "reason": None,
        "delaySeconds": None,
        "stateCreated": True,
        "state": {"id": state_id, "type": "RUNNING", "name": "Running", "timestamp": later},
        "flowRun": {"id": id, "stateType": "RUNNING", "runCount": 1, "startTime": later},
    }
    run = await client.execute("GetFlowRun", id=id)
    assert run["stateId"] == state_id
    assert [(state["name"], state["timestamp"]) for state in run["states"]] == [("Pending", NOW), ("Running", later)]


async def test_a_second_claim_of_a_flow_run_is_aborted_and_nothing_changes(client: Client) -> None:
    id = await create_flow_run(client)
    before = await client.execute("GetFlowRun", id=id)

    result = await set_flow_run_state(client, id, "PENDING")

    assert (result["status"], result["stateCreated"], result["state"]["id"]) == ("ABORT", False, before["stateId"])
    assert await client.execute("GetFlowRun", id=id) == before


async def test_starting_a_flow_run_before_its_scheduled_time_has_to_wait(server: RunningServer) -> None:
    client = server.client
    details = {"scheduledTime": server.clock.in_seconds(30)}
    id = await create_flow_run(client, state={"type": "SCHEDULED", "details": details})

    result = await set_flow_run_state(client, id, "RUNNING")

    assert (result["status"], result["delaySeconds"], result["stateCreated"]) == ("WAIT", 30.0, False)
    assert (await client.execute("GetFlowRun", id=id))["stateType"] == "SCHEDULED"


async def test_force_bypasses_the_orchestration_rules(client: Client) -> None:
    id = await create_flow_run(client)

    result = await client.execute("SetFlowRunState", id=id, state={"type": "PENDING"}, force=True)

    assert (result["status"], result["stateCreated"]) == ("ACCEPT", True)
    assert len((await client.execute("GetFlowRun", id=id))["states"]) == 2


async def test_a_transition_of_a_flow_run_sent_twice_is_applied_once(client: Client) -> None:
    id = await create_flow_run(client)
    first = await set_flow_run_state(client, id, "RUNNING", details={"transitionId": TRANSITION_ID})

    second = await set_flow_run_state(client, id, "RUNNING", details={"transitionId": TRANSITION_ID})

    assert (first["status"], first["stateCreated"]) == ("ACCEPT", True)
    assert (second["status"], second["stateCreated"], second["state"]) == ("REJECT", False, first["state"])
    run = await client.execute("GetFlowRun", id=id)
    assert ([state["name"] for state in run["states"]], run["runCount"]) == (["Pending", "Running"], 1)


async def test_setting_the_state_of_an_unknown_flow_run_is_not_found(client: Client) -> None:
    error = await client.execute_refused("SetFlowRunState", id=UNKNOWN_ID, state={"type": "RUNNING"})

    assert error == {"message": f"id: No flow run has the id {UNKNOWN_ID}.", "code": "NOT_FOUND", "argument": "id"}


async def test_a_task_run_id_is_not_found_as_a_flow_run(client: Client) -> None:
    task_run = await client.execute("CreateTaskRun", input={"taskKey": "t"})

    error = await client.execute_refused("SetFlowRunState", id=task_run["taskRun"]["id"], state={"type": "RUNNING"})

    assert error["code"] == "NOT_FOUND"
    assert (await client.execute("GetTaskRun", id=task_run["taskRun"]["id"]))["stateType"] == "PENDING"


async def test_a_malformed_flow_run_id_is_refused(client: Client) -> None:
    error = await client.execute_refused("SetFlowRunState", id="nonsense", state={"type": "RUNNING"})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "id")


async def test_a_task_run_has_its_flow_run_and_flow(client: Client) -> None:
    flow_id = await create_flow(client)
    flow_run_id = await create_flow_run(client, flowId=flow_id, name="nightly")
    created = await client.execute("CreateTaskRun", input={"taskKey": "t", "flowRunId": flow_run_id})

    task_run = await client.execute("GetTaskRun", id=created["taskRun"]["id"])

    assert task_run["flowRunId"] == flow_run_id
    assert task_run["flowRun"] == {"id": flow_run_id, "name": "nightly", "flow": {"id": flow_id, "name": "etl"}}


async def test_each_task_run_of_a_list_has_its_own_flow_run(client: Client) -> None:
    flow_run_ids = [await create_flow_run(client) for _ in range(3)]
    inputs = [{"taskKey": "t", "flowRunId": id} for id in flow_run_ids]
    await client.execute("CreateTaskRuns", inputs=[*inputs, {"taskKey": "t"}])
    query = "{ taskRuns { nodes { flowRunId flowRun { id flow { name } } } } }"

    result = (await client.http.post("/graphql", json={"query": query})).json()

    background, *nodes = result["data"]["taskRuns"]["nodes"]
    assert background == {"flowRunId": None, "flowRun": None}
    assert nodes == [{"flowRunId": id, "flowRun": {"id": id, "flow": {"name": "etl"}}} for id in reversed(flow_run_ids)]


async def test_the_parent_task_run_of_a_subflow_has_its_child(client: Client) -> None:
    created = await client.execute("CreateTaskRun", input={"taskKey": "t"})
    child_id = await create_flow_run(client, parentTaskRunId=created["taskRun"]["id"])

    task_run = await client.execute("GetTaskRun", id=created["taskRun"]["id"])

    assert task_run["childFlowRun"] == {"id": child_id}


async def test_keys_are_unique_per_flow_run_and_among_background_runs(client: Client) -> None:
    keys = {"taskKey": "t", "dynamicKey": "1"}
    flow_run_ids = [await create_flow_run(client), await create_flow_run(client)]

    payloads = [
        await client.execute("CreateTaskRun", input={**keys, "flowRunId": flow_run_id})
        for flow_run_id in (None, *flow_run_ids, flow_run_ids[0])
    ]

    assert [payload["created"] for payload in payloads] == [True, True, True, False]
    assert payloads[3]["taskRun"]["id"] == payloads[1]["taskRun"]["id"]


async def test_a_scheduled_task_run_of_a_flow_run_is_not_queued(client: Client) -> None:
    flow_run_id = await create_flow_run(client)

    payload = await client.execute(
        "CreateTaskRun", input={"taskKey": "t", "flowRunId": flow_run_id, "state": {"type": "SCHEDULED"}}
    )

    assert payload["taskRun"]["queueEntry"] is None


async def test_a_flow_run_of_a_deployment_has_no_other_flow(client: Client) -> None:
    flow, other = await create_flow(client, "etl"), await create_flow(client, "other")
    deployment = await create_deployment(client, flow)

    refused = await client.execute_refused("CreateFlowRun", input={"flowId": other, "deploymentId": deployment})

    assert refused == {
        "message": f"input.flowId: must be {flow}, the flow of the deployment; got {other}.",
        "code": "BAD_USER_INPUT",
        "argument": "input.flowId",
    }
    assert (await client.execute("ListFlowRuns"))["nodes"] == []
    run = await client.execute("CreateFlowRun", input={"flowId": flow, "deploymentId": deployment})
    assert run["created"] is True

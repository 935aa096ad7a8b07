"""Deployments: create, read, delete, and what a flow run takes over from one."""

from typing import Any

import pytest

from tests.client import Client
from tests.serving import Serving

NOW = "2030-01-01T12:00:00.000000Z"
NOWHERE = "01a206b2-304f-7000-b2ee-99ddb7de4877"


async def create_flow(client: Client, name: str = "etl") -> str:
    return (await client.ask("CreateFlow", input={"name": name}))["flow"]["id"]


async def create(client: Client, flow_id: str, name: str = "nightly", **fields: Any) -> str:
    payload = await client.ask("CreateDeployment", input={"flowId": flow_id, "name": name, **fields})
    assert payload["created"] is True
    return payload["deployment"]["id"]


async def create_flow_run(client: Client, state: str = "PENDING", **fields: Any) -> str:
    return (await client.ask("CreateFlowRun", input={"state": {"type": state}, **fields}))["flowRun"]["id"]


async def create_task_run(client: Client, flow_run_id: str) -> str:
    return (await client.ask("CreateTaskRun", input={"taskKey": "t", "flowRunId": flow_run_id}))["taskRun"]["id"]


# --- create and read ---


async def test_a_deployment_is_created_with_what_it_was_given_and_read_with_its_flow(client: Client) -> None:
    flow_id = await create_flow(client)
    given = {"name": "nightly", "flowId": flow_id, "tags": ["b", "a", "b"], "workQueueName": "q"}

    payload = await client.ask("CreateDeployment", input={**given, "isScheduleActive": False})

    deployment = {"id": payload["deployment"]["id"], **given, "isScheduleActive": False}
    assert payload == {"created": True, "deployment": deployment}
    assert await client.ask("GetDeployment", id=deployment["id"]) == {
        **deployment,
        "created": NOW,
        "updated": NOW,
        "flow": {"id": flow_id, "name": "etl"},
    }


@pytest.mark.parametrize("left_out", [{}, {"isScheduleActive": None, "tags": None, "workQueueName": None}])
async def test_a_deployment_created_with_its_flow_and_name_alone_is_active_and_has_no_work_queue(
    client: Client, left_out: dict[str, Any]
) -> None:
    id = await create(client, await create_flow(client), **left_out)

    deployment = await client.ask("GetDeployment", id=id)

    assert (deployment["tags"], deployment["workQueueName"], deployment["isScheduleActive"]) == ([], None, True)


async def test_creating_a_deployment_twice_answers_the_first_one_unchanged(server: Serving) -> None:
    client = server.client
    flow_id = await create_flow(client)
    first = await client.ask("CreateDeployment", input={"flowId": flow_id, "name": "nightly", "tags": ["a"]})
    server.clock.advance(5)

    second = await client.ask(
        "CreateDeployment", input={"flowId": flow_id, "name": "nightly", "tags": ["b"], "workQueueName": "q"}
    )

    assert second == {**first, "created": False}
    assert (await client.ask("GetDeployment", id=first["deployment"]["id"]))["updated"] == NOW


async def test_another_flow_may_have_a_deployment_of_the_same_name(client: Client) -> None:
    ids = {await create(client, await create_flow(client, name)) for name in ("one", "other")}

    assert len(ids) == 2


async def test_a_deployment_of_a_flow_that_is_not_there_is_a_conflict_and_is_not_made(client: Client) -> None:
    error = await client.refused("CreateDeployment", input={"flowId": NOWHERE, "name": "nightly"})

    assert error == {
        "message": f"input.flowId: No flow has the id {NOWHERE}.",
        "code": "CONFLICT",
        "argument": "input.flowId",
    }


@pytest.mark.parametrize("banned", ["/", "%", "&", ">", "<"])
async def test_a_deployment_s_name_may_not_contain(client: Client, banned: str) -> None:
    flow_id = await create_flow(client)

    error = await client.refused("CreateDeployment", input={"flowId": flow_id, "name": f"a{banned}b"})

    assert error == {
        "message": f"input.name: may not contain {banned}",
        "code": "BAD_USER_INPUT",
        "argument": "input.name",
    }


@pytest.mark.parametrize("name", ["", " ", "a b-c_d.e:f", "ünïcödé ✓"])
async def test_a_deployment_may_have_any_other_name(client: Client, name: str) -> None:
    id = await create(client, await create_flow(client), name)

    assert (await client.ask("GetDeployment", id=id))["name"] == name


async def test_a_malformed_flow_id_is_refused(client: Client) -> None:
    error = await client.refused("CreateDeployment", input={"flowId": "nonsense", "name": "nightly"})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "input.flowId")


async def test_a_deployment_that_is_not_there_is_null(client: Client) -> None:
    assert await client.ask("GetDeployment", id=NOWHERE) is None


# --- flow runs from a deployment ---


async def test_a_flow_run_from_a_deployment_takes_over_its_flow_its_work_queue_and_its_tags(client: Client) -> None:
    flow_id = await create_flow(client)
    deployment_id = await create(client, flow_id, tags=["b", "a"], workQueueName="q")

    id = await create_flow_run(client, deploymentId=deployment_id, tags=["c", "a"])

    run = await client.ask("GetFlowRun", id=id)
    assert (run["flowId"], run["workQueueName"], run["tags"]) == (flow_id, "q", ["b", "a", "c"])
    assert run["deployment"] == {"id": deployment_id, "name": "nightly"}


async def test_a_flow_run_of_the_same_flow_without_the_deployment_takes_nothing_over(client: Client) -> None:
    flow_id = await create_flow(client)
    await create(client, flow_id, tags=["a"], workQueueName="q")

    run = await client.ask("GetFlowRun", id=await create_flow_run(client, flowId=flow_id, tags=["c"]))

    assert (run["deploymentId"], run["workQueueName"], run["tags"]) == (None, None, ["c"])


async def test_an_idempotency_key_holds_for_the_deployment_s_flow(client: Client) -> None:
    flow_id = await create_flow(client)
    deployment_id = await create(client, flow_id)

    ids = {
        await create_flow_run(client, deploymentId=deployment_id, idempotencyKey="k"),
        await create_flow_run(client, flowId=flow_id, idempotencyKey="k"),
    }

    assert len(ids) == 1


@pytest.mark.parametrize(("deployed", "status"), [(True, "ACCEPT"), (False, "ABORT")])
async def test_only_a_flow_run_from_a_deployment_may_be_scheduled_after_its_end(
    client: Client, deployed: bool, status: str
) -> None:
    flow_id = await create_flow(client)
    fields = {"deploymentId": await create(client, flow_id)} if deployed else {}
    id = await create_flow_run(client, "FAILED", flowId=flow_id, **fields)

    answer = await client.ask("SetFlowRunState", id=id, state={"type": "SCHEDULED"})

    assert (answer["status"], answer["created"]) == (status, deployed)


# --- delete ---


async def test_a_deleted_deployment_takes_its_scheduled_flow_runs_and_their_task_runs_along(client: Client) -> None:
    deployment_id = await create(client, await create_flow(client))
    flow_run_id = await create_flow_run(client, "SCHEDULED", deploymentId=deployment_id)
    task_run_id = await create_task_run(client, flow_run_id)

    deleted = await client.ask("DeleteDeployment", id=deployment_id)

    assert deleted == deployment_id
    assert await client.ask("GetDeployment", id=deployment_id) is None
    assert await client.ask("GetFlowRun", id=flow_run_id) is None
    assert await client.ask("GetTaskRun", id=task_run_id) is None


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "PAUSED"])
async def test_its_other_flow_runs_stay_and_tell_where_they_came_from(client: Client, state: str) -> None:
    deployment_id = await create(client, await create_flow(client), workQueueName="q")
    flow_run_id = await create_flow_run(client, state, deploymentId=deployment_id)
    task_run_id = await create_task_run(client, flow_run_id)

    await client.ask("DeleteDeployment", id=deployment_id)

    run = await client.ask("GetFlowRun", id=flow_run_id)
    assert (run["stateType"], run["deploymentId"], run["deployment"]) == (state, deployment_id, None)
    assert run["workQueueName"] == "q"
    assert (await client.ask("GetTaskRun", id=task_run_id))["flowRunId"] == flow_run_id


async def test_scheduled_flow_runs_of_others_stay(client: Client) -> None:
    flow_id = await create_flow(client)
    deleted, kept = await create(client, flow_id), await create(client, flow_id, "hourly")
    others = [
        await create_flow_run(client, "SCHEDULED", deploymentId=kept),
        await create_flow_run(client, "SCHEDULED", flowId=flow_id),
    ]

    await client.ask("DeleteDeployment", id=deleted)

    assert [(await client.ask("GetFlowRun", id=id))["stateType"] for id in others] == ["SCHEDULED"] * 2
    assert (await client.ask("GetDeployment", id=kept))["name"] == "hourly"
    assert (await client.ask("GetFlow", id=flow_id))["name"] == "etl"


async def test_the_second_time_it_is_not_found(client: Client) -> None:
    flow_id = await create_flow(client)
    id, other = await create(client, flow_id), await create(client, flow_id, "hourly")
    await client.ask("DeleteDeployment", id=id)

    error = await client.refused("DeleteDeployment", id=id)

    assert error == {"message": f"No deployment has the id {id}.", "code": "NOT_FOUND"}
    assert (await client.ask("GetDeployment", id=other))["name"] == "hourly"


async def test_a_malformed_id_is_refused(client: Client) -> None:
    error = await client.refused("DeleteDeployment", id="nonsense")

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "id")


async def test_its_name_makes_a_new_deployment_afterwards(client: Client) -> None:
    flow_id = await create_flow(client)
    first = await create(client, flow_id)
    await client.ask("DeleteDeployment", id=first)

    second = await create(client, flow_id)

    assert second != first

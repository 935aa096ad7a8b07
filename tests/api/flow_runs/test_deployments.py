"""Deployments: creation, reading, deletion, and the values that flow runs inherit."""

from typing import Any

import pytest

from tests.builders.api_runs import create_deployment, create_flow, create_flow_run, create_task_run
from tests.builders.ids import UNKNOWN_ID
from tests.client import Client
from tests.serving import RunningServer

NOW = "2030-01-01T12:00:00.000000Z"


async def test_a_deployment_has_its_given_values_and_its_flow(client: Client) -> None:
    flow_id = await create_flow(client)
    values = {"name": "nightly", "flowId": flow_id, "tags": ["b", "a", "b"], "workQueueName": "q"}

    payload = await client.execute("CreateDeployment", input={**values, "isScheduleActive": False})

    deployment = {"id": payload["deployment"]["id"], **values, "isScheduleActive": False}
    assert payload == {"created": True, "deployment": deployment}
    assert await client.execute("GetDeployment", id=deployment["id"]) == {
        **deployment,
        "createdAt": NOW,
        "updatedAt": NOW,
        "flow": {"id": flow_id, "name": "etl"},
    }


@pytest.mark.parametrize("omitted", [{}, {"tags": None, "workQueueName": None}])
async def test_a_deployment_is_active_and_has_no_work_queue_by_default(client: Client, omitted: dict[str, Any]) -> None:
    id = await create_deployment(client, await create_flow(client), **omitted)

    deployment = await client.execute("GetDeployment", id=id)

    assert (deployment["tags"], deployment["workQueueName"], deployment["isScheduleActive"]) == ([], None, True)


async def test_creating_a_deployment_twice_returns_the_first_one_unchanged(server: RunningServer) -> None:
    client = server.client
    flow_id = await create_flow(client)
    first = await client.execute("CreateDeployment", input={"flowId": flow_id, "name": "nightly", "tags": ["a"]})
    server.clock.advance(5)

    second = await client.execute(
        "CreateDeployment", input={"flowId": flow_id, "name": "nightly", "tags": ["b"], "workQueueName": "q"}
    )

    assert second == {**first, "created": False}
    assert (await client.execute("GetDeployment", id=first["deployment"]["id"]))["updatedAt"] == NOW


async def test_deployments_of_different_flows_may_have_the_same_name(client: Client) -> None:
    ids = {await create_deployment(client, await create_flow(client, name)) for name in ("one", "other")}

    assert len(ids) == 2


async def test_creating_a_deployment_of_an_unknown_flow_is_not_found(client: Client) -> None:
    error = await client.execute_refused("CreateDeployment", input={"flowId": UNKNOWN_ID, "name": "nightly"})

    assert error == {
        "message": f"input.flowId: No flow has the id {UNKNOWN_ID}.",
        "code": "NOT_FOUND",
        "argument": "input.flowId",
    }


@pytest.mark.parametrize("banned", ["/", "%", "&", ">", "<"])
async def test_a_deployment_name_with_a_banned_character_is_refused(client: Client, banned: str) -> None:
    flow_id = await create_flow(client)

    error = await client.execute_refused("CreateDeployment", input={"flowId": flow_id, "name": f"a{banned}b"})

    assert error == {
        "message": f"input.name: must not contain {banned}",
        "code": "BAD_USER_INPUT",
        "argument": "input.name",
    }


@pytest.mark.parametrize("name", ["", " ", "a b-c_d.e:f", "ünïcödé ✓"])
async def test_a_deployment_may_have_any_name_without_banned_characters(client: Client, name: str) -> None:
    id = await create_deployment(client, await create_flow(client), name)

    assert (await client.execute("GetDeployment", id=id))["name"] == name


async def test_a_malformed_flow_id_is_refused(client: Client) -> None:
    error = await client.execute_refused("CreateDeployment", input={"flowId": "nonsense", "name": "nightly"})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "input.flowId")


async def test_an_unknown_deployment_is_null(client: Client) -> None:
    assert await client.execute("GetDeployment", id=UNKNOWN_ID) is None


async def test_a_flow_run_inherits_flow_work_queue_and_tags_from_its_deployment(client: Client) -> None:
    flow_id = await create_flow(client)
    deployment_id = await create_deployment(client, flow_id, tags=["b", "a"], workQueueName="q")

    id = await create_flow_run(client, deploymentId=deployment_id, tags=["c", "a"])

    run = await client.execute("GetFlowRun", id=id)
    assert (run["flowId"], run["workQueueName"], run["tags"]) == (flow_id, "q", ["b", "a", "c"])
    assert run["deployment"] == {"id": deployment_id, "name": "nightly"}


async def test_a_flow_run_without_a_deployment_inherits_nothing(client: Client) -> None:
    flow_id = await create_flow(client)
    await create_deployment(client, flow_id, tags=["a"], workQueueName="q")

    run = await client.execute("GetFlowRun", id=await create_flow_run(client, flowId=flow_id, tags=["c"]))

    assert (run["deploymentId"], run["workQueueName"], run["tags"]) == (None, None, ["c"])


async def test_an_idempotency_key_is_unique_per_flow_across_its_deployments(client: Client) -> None:
    flow_id = await create_flow(client)
    deployment_id = await create_deployment(client, flow_id)

    ids = {
        await create_flow_run(client, deploymentId=deployment_id, idempotencyKey="k"),
        await create_flow_run(client, flowId=flow_id, idempotencyKey="k"),
    }

    assert len(ids) == 1


@pytest.mark.parametrize(("deployed", "status"), [(True, "ACCEPT"), (False, "ABORT")])
async def test_only_a_terminal_flow_run_from_a_deployment_may_be_rescheduled(
    client: Client, deployed: bool, status: str
) -> None:
    flow_id = await create_flow(client)
    fields = {"deploymentId": await create_deployment(client, flow_id)} if deployed else {}
    id = await create_flow_run(client, "FAILED", flowId=flow_id, **fields)

    result = await client.execute("SetFlowRunState", id=id, state={"type": "SCHEDULED"})

    assert (result["status"], result["stateCreated"]) == (status, deployed)


async def test_deleting_a_deployment_deletes_its_scheduled_flow_runs_and_their_task_runs(client: Client) -> None:
    deployment_id = await create_deployment(client, await create_flow(client))
    flow_run_id = await create_flow_run(client, "SCHEDULED", deploymentId=deployment_id)
    task_run_id = await create_task_run(client, flowRunId=flow_run_id)

    deleted = (await client.execute("DeleteDeployment", id=deployment_id))["deletedId"]

    assert deleted == deployment_id
    assert await client.execute("GetDeployment", id=deployment_id) is None
    assert await client.execute("GetFlowRun", id=flow_run_id) is None
    assert await client.execute("GetTaskRun", id=task_run_id) is None


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "PAUSED"])
async def test_its_other_flow_runs_are_kept_with_their_deployment_id(client: Client, state: str) -> None:
    deployment_id = await create_deployment(client, await create_flow(client), workQueueName="q")
    flow_run_id = await create_flow_run(client, state, deploymentId=deployment_id)
    task_run_id = await create_task_run(client, flowRunId=flow_run_id)

    await client.execute("DeleteDeployment", id=deployment_id)

    run = await client.execute("GetFlowRun", id=flow_run_id)
    assert (run["stateType"], run["deploymentId"], run["deployment"]) == (state, deployment_id, None)
    assert run["workQueueName"] == "q"
    assert (await client.execute("GetTaskRun", id=task_run_id))["flowRunId"] == flow_run_id


async def test_scheduled_flow_runs_of_other_deployments_are_kept(client: Client) -> None:
    flow_id = await create_flow(client)
    deleted, kept = await create_deployment(client, flow_id), await create_deployment(client, flow_id, "hourly")
    others = [
        await create_flow_run(client, "SCHEDULED", deploymentId=kept),
        await create_flow_run(client, "SCHEDULED", flowId=flow_id),
    ]

    await client.execute("DeleteDeployment", id=deleted)

    assert [(await client.execute("GetFlowRun", id=id))["stateType"] for id in others] == ["SCHEDULED"] * 2
    assert (await client.execute("GetDeployment", id=kept))["name"] == "hourly"
    assert (await client.execute("GetFlow", id=flow_id))["name"] == "etl"


async def test_deleting_it_again_is_not_found(client: Client) -> None:
    flow_id = await create_flow(client)
    id, other = await create_deployment(client, flow_id), await create_deployment(client, flow_id, "hourly")
    await client.execute("DeleteDeployment", id=id)

    error = await client.execute_refused("DeleteDeployment", id=id)

    assert error == {"message": f"id: No deployment has the id {id}.", "code": "NOT_FOUND", "argument": "id"}
    assert (await client.execute("GetDeployment", id=other))["name"] == "hourly"


async def test_a_malformed_id_is_refused(client: Client) -> None:
    error = await client.execute_refused("DeleteDeployment", id="nonsense")

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "id")


async def test_its_name_can_be_reused_afterwards(client: Client) -> None:
    flow_id = await create_flow(client)
    first = await create_deployment(client, flow_id)
    await client.execute("DeleteDeployment", id=first)

    second = await create_deployment(client, flow_id)

    assert second != first

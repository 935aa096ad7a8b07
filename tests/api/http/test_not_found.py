"""NOT_FOUND names the argument that refers to an object that does not exist."""

from typing import Any

import pytest

from tests.builders.api_runs import count_task_runs, create_flow
from tests.builders.ids import UNKNOWN_ID
from tests.client import Client

RUNNING = {"type": "RUNNING"}
ID, TAG = {"id": UNKNOWN_ID}, {"tag": "x"}


@pytest.mark.parametrize(
    ("operation", "variables", "argument"),
    [
        ("UpdateTaskRun", ID | {"input": {"name": "n"}}, "id"),
        ("DeleteTaskRun", ID, "id"),
        ("SetTaskRunState", ID | {"state": RUNNING}, "id"),
        ("SetTaskRunState", ID | {"state": RUNNING, "force": True}, "id"),
        ("DeleteFlow", ID, "id"),
        ("DeleteDeployment", ID, "id"),
        ("DeleteFlowRun", ID, "id"),
        ("SetFlowRunState", ID | {"state": RUNNING}, "id"),
        ("DeleteConcurrencyLimit", TAG, "tag"),
        ("ResetConcurrencyLimit", TAG, "tag"),
        ("CreateTaskRun", {"input": {"taskKey": "t", "flowRunId": UNKNOWN_ID}}, "input.flowRunId"),
        (
            "CreateTaskRuns",
            {"inputs": [{"taskKey": "t"}, {"taskKey": "t", "flowRunId": UNKNOWN_ID}]},
            "inputs.1.flowRunId",
        ),
        ("CreateDeployment", {"input": {"flowId": UNKNOWN_ID, "name": "n"}}, "input.flowId"),
        ("CreateFlowRun", {"input": {"flowId": UNKNOWN_ID}}, "input.flowId"),
        ("CreateFlowRun", {"input": {"deploymentId": UNKNOWN_ID}}, "input.deploymentId"),
    ],
)
async def test_an_unknown_object_is_not_found_and_its_argument_is_named(
    client: Client, operation: str, variables: dict[str, Any], argument: str
) -> None:
    error = await client.execute_refused(operation, **variables)

    assert (error["code"], error["argument"]) == ("NOT_FOUND", argument)
    assert error["message"].startswith(f"{argument}: No ")
    assert await count_task_runs(client) == 0


async def test_an_unknown_parent_task_run_is_not_found_and_its_argument_is_named(client: Client) -> None:
    flow_id = await create_flow(client)

    error = await client.execute_refused("CreateFlowRun", input={"flowId": flow_id, "parentTaskRunId": UNKNOWN_ID})

    assert (error["code"], error["argument"]) == ("NOT_FOUND", "input.parentTaskRunId")
    assert (await client.execute("ListFlowRuns"))["totalCount"] == 0

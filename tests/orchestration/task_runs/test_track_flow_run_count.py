"""A task run stores the run count of its flow run when it runs."""

import pytest

from db.enums import StateType
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.task_runs.track_flow_run_count import track_flow_run_count
from resolvers.orchestration.transition import Effects, OrchestrationStatus
from tests.builders.api_runs import create_flow_run, create_task_run, read_state_names, set_task_run_state
from tests.builders.transitions import flow_run_facts, propose, task_run, transition
from tests.client import Client


@pytest.mark.parametrize("leaving", [None, *StateType])
def test_running_stores_the_flow_runs_run_count(leaving: StateType | None) -> None:
    flow_run = flow_run_facts(StateType.RUNNING, run_count=3)

    decision = decide([track_flow_run_count], transition(task_run(leaving), StateType.RUNNING, flow_run=flow_run))

    assert decision == Decision(
        OrchestrationStatus.ACCEPT, propose(StateType.RUNNING), effects=Effects(flow_run_run_count=3)
    )


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.RUNNING])
def test_no_other_state_stores_the_count(entering: StateType) -> None:
    flow_run = flow_run_facts(StateType.RUNNING, run_count=3)

    decision = decide([track_flow_run_count], transition(task_run(StateType.RUNNING), entering, flow_run=flow_run))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


def test_a_background_run_stores_no_count() -> None:
    decision = decide([track_flow_run_count], transition(task_run(StateType.PENDING), StateType.RUNNING))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING))


def test_only_task_runs_of_flow_runs_store_the_count() -> None:
    policies = {
        "in a flow run": policy.IN_FLOW_RUN,
        "in the background": policy.IN_BACKGROUND,
        "forced": policy.FORCED,
        "flow run": policy.FLOW_RUN,
    }

    assert [name for name, rules in policies.items() if track_flow_run_count in rules] == ["in a flow run"]


async def stored_count(client: Client, id: str) -> int:
    return (await client.execute("GetTaskRun", id=id))["flowRunRunCount"]


async def test_a_client_sees_the_flow_runs_run_count_of_the_last_run(client: Client) -> None:
    flow_run_id = await create_flow_run(client, "RUNNING")
    id = await create_task_run(client, "PENDING", flowRunId=flow_run_id)
    before = await stored_count(client, id)

    await set_task_run_state(client, id, "RUNNING")
    in_first_run = await stored_count(client, id)
    await set_task_run_state(client, id, "FAILED")
    await client.execute("SetFlowRunState", id=flow_run_id, state={"type": "RUNNING"})
    after_failure = await stored_count(client, id)
    await set_task_run_state(client, id, "RUNNING")

    assert (before, in_first_run, after_failure, await stored_count(client, id)) == (0, 1, 1, 2)
    assert await read_state_names(client, id) == ["Pending", "Running", "Failed", "Retrying"]


async def test_a_task_run_created_or_forced_running_stores_no_count(client: Client) -> None:
    id = await create_task_run(client, "RUNNING", flowRunId=await create_flow_run(client, "RUNNING"))
    created = await stored_count(client, id)

    await set_task_run_state(client, id, "RUNNING", force=True)

    assert (created, await stored_count(client, id)) == (0, 0)


async def test_a_task_run_that_may_not_run_stores_no_count(client: Client) -> None:
    flow_run_id = await create_flow_run(client, "RUNNING")
    id = await create_task_run(client, "PENDING", flowRunId=flow_run_id)
    await client.execute("SetFlowRunState", id=flow_run_id, state={"type": "PAUSED"})

    result = await set_task_run_state(client, id, "RUNNING")

    assert (result["state"]["name"], await stored_count(client, id)) == ("NotReady", 0)

"""A task run remembers in which run of its flow run it last ran."""

import pytest

from db.enums import StateType
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.task_runs.track_flow_run_count import track_flow_run_count
from resolvers.orchestration.transition import Effects, OrchestrationStatus
from tests.builders.transitions import propose, task_run, transition, under_flow_run
from tests.client import Client
from tests.orchestration.test_rules_through_the_api import ask, create, create_flow_run, history

# --- the rule ---


@pytest.mark.parametrize("leaving", [None, *StateType])
def test_a_task_run_that_runs_notes_its_flow_run_s_count(leaving: StateType | None) -> None:
    flow_run = under_flow_run(StateType.RUNNING, run_count=3)

    decision = decide([track_flow_run_count], transition(task_run(leaving), StateType.RUNNING, flow_run=flow_run))

    assert decision == Decision(
        OrchestrationStatus.ACCEPT, propose(StateType.RUNNING), effects=Effects(flow_run_run_count=3)
    )


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.RUNNING])
def test_no_other_state_notes_it(entering: StateType) -> None:
    flow_run = under_flow_run(StateType.RUNNING, run_count=3)

    decision = decide([track_flow_run_count], transition(task_run(StateType.RUNNING), entering, flow_run=flow_run))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


def test_a_background_run_has_nothing_to_note() -> None:
    decision = decide([track_flow_run_count], transition(task_run(StateType.PENDING), StateType.RUNNING))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING))


def test_task_runs_of_flow_runs_note_it_and_nobody_else_does() -> None:
    policies = {
        "in a flow run": policy.IN_FLOW_RUN,
        "in the background": policy.IN_BACKGROUND,
        "forced": policy.FORCED,
        "flow run": policy.FLOW_RUN,
    }

    assert [name for name, rules in policies.items() if track_flow_run_count in rules] == ["in a flow run"]


# --- as clients meet it ---


async def noted(client: Client, id: str) -> int:
    return (await client.ask("GetTaskRun", id=id))["flowRunRunCount"]


async def test_a_client_sees_in_which_run_of_the_flow_run_it_ran(client: Client) -> None:
    flow_run_id = await create_flow_run(client, "RUNNING")
    id = await create(client, "PENDING", flowRunId=flow_run_id)
    before = await noted(client, id)

    await ask(client, id, "RUNNING")
    in_the_first = await noted(client, id)
    await ask(client, id, "FAILED")
    await client.ask("SetFlowRunState", id=flow_run_id, state={"type": "RUNNING"})
    meanwhile = await noted(client, id)
    await ask(client, id, "RUNNING")

    assert (before, in_the_first, meanwhile, await noted(client, id)) == (0, 1, 1, 2)
    assert await history(client, id) == ["Pending", "Running", "Failed", "Retrying"]


async def test_a_task_run_that_was_created_or_forced_running_has_noted_nothing(client: Client) -> None:
    id = await create(client, "RUNNING", flowRunId=await create_flow_run(client, "RUNNING"))
    created = await noted(client, id)

    await ask(client, id, "RUNNING", force=True)

    assert (created, await noted(client, id)) == (0, 0)


async def test_a_task_run_that_may_not_run_notes_nothing(client: Client) -> None:
    flow_run_id = await create_flow_run(client, "RUNNING")
    id = await create(client, "PENDING", flowRunId=flow_run_id)
    await client.ask("SetFlowRunState", id=flow_run_id, state={"type": "PAUSED"})

    answer = await ask(client, id, "RUNNING")

    assert (answer["state"]["name"], await noted(client, id)) == ("NotReady", 0)

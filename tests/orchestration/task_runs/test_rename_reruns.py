"""A run that runs again gets the state name Retrying or Rerunning."""

import pytest

from db.enums import StateType
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.policy import IN_BACKGROUND, IN_FLOW_RUN, Policy
from resolvers.orchestration.rules.task_runs.rename_reruns import rename_reruns
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.api_runs import create_flow_run, create_task_run, read_state_names, set_task_run_state
from tests.builders.transitions import flow_run_facts, propose, task_run, transition
from tests.client import Client


def accepted(name: str) -> Decision:
    return Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING, name=name, cache_key="k"))


@pytest.mark.parametrize("name", ["Running", "Mine"])
@pytest.mark.parametrize("current", ["Scheduled", "AwaitingRetry"])
def test_a_first_run_keeps_its_requested_state_name(name: str, current: str) -> None:
    scheduled = task_run(StateType.SCHEDULED, state_name=current, run_count=0)

    decision = decide([rename_reruns], transition(scheduled, propose(StateType.RUNNING, name=name, cache_key="k")))

    assert decision == accepted(name)


@pytest.mark.parametrize("name", ["Running", "Mine"])
@pytest.mark.parametrize("run_count", [1, 2])
def test_a_run_that_awaited_its_retry_is_named_retrying(name: str, run_count: int) -> None:
    failed = task_run(StateType.SCHEDULED, state_name="AwaitingRetry", run_count=run_count)

    decision = decide([rename_reruns], transition(failed, propose(StateType.RUNNING, name=name, cache_key="k")))

    assert decision == accepted("Retrying")


@pytest.mark.parametrize("name", ["Running", "Mine"])
@pytest.mark.parametrize("leaving", [None, *StateType])
def test_any_other_rerun_is_named_rerunning(leaving: StateType | None, name: str) -> None:
    run = task_run(leaving, run_count=1)

    decision = decide([rename_reruns], transition(run, propose(StateType.RUNNING, name=name, cache_key="k")))

    assert decision == accepted("Rerunning")


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.RUNNING])
def test_no_other_state_is_renamed(entering: StateType) -> None:
    awaiting = task_run(StateType.SCHEDULED, state_name="AwaitingRetry", run_count=1)

    decision = decide([rename_reruns], transition(awaiting, entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


@pytest.mark.parametrize("rules", [IN_FLOW_RUN, IN_BACKGROUND], ids=["in_a_flow_run", "in_the_background"])
def test_a_run_restarted_from_a_terminal_state_is_named_running(rules: Policy) -> None:
    failed = task_run(StateType.FAILED, run_count=3)
    flow_run = flow_run_facts(StateType.RUNNING)

    decision = decide(rules, transition(failed, StateType.RUNNING, flow_run=flow_run, flow_run_run_count=1))

    assert decision.state == propose(StateType.RUNNING)


def test_the_rule_does_not_govern_forced_transitions_or_flow_runs() -> None:
    assert rename_reruns not in (*policy.FORCED, *policy.FLOW_RUN)


async def test_a_client_sees_reruns_and_retries_in_the_state_names(client: Client) -> None:
    id = await create_task_run(client, "PENDING", retryPolicy={"retries": 3})

    for type in ("RUNNING", "RUNNING", "FAILED", "RUNNING"):
        await set_task_run_state(client, id, type)

    assert await read_state_names(client, id) == ["Pending", "Running", "Rerunning", "AwaitingRetry", "Retrying"]


async def test_a_retry_that_was_claimed_first_is_named_rerunning(client: Client) -> None:
    id = await create_task_run(client, "RUNNING", retryPolicy={"retries": 1})

    for type in ("FAILED", "PENDING", "RUNNING"):
        await set_task_run_state(client, id, type)

    assert await read_state_names(client, id) == ["Running", "AwaitingRetry", "Pending", "Rerunning"]


async def test_a_forced_rerun_is_not_renamed(client: Client) -> None:
    id = await create_task_run(client, "RUNNING", flowRunId=await create_flow_run(client, "RUNNING"))

    result = await set_task_run_state(client, id, "RUNNING", force=True)

    assert (result["state"]["name"], result["taskRun"]["runCount"]) == ("Running", 2)

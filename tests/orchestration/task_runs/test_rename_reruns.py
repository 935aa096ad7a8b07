"""A run that runs again says so by the name of its state."""

import pytest

from db.enums import StateType
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.policy import IN_BACKGROUND, IN_FLOW_RUN, Policy
from resolvers.orchestration.rules.task_runs.rename_reruns import rename_reruns
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.transitions import propose, task_run, transition, under_flow_run
from tests.client import Client
from tests.orchestration.test_rules_through_the_api import ask, create, create_flow_run, history


def accepted(name: str) -> Decision:
    return Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING, name=name, cache_key="k"))


# --- the rule ---


@pytest.mark.parametrize("name", ["Running", "Mine"])
@pytest.mark.parametrize("current", ["Scheduled", "AwaitingRetry"])
def test_a_run_that_runs_for_the_first_time_keeps_the_name_it_asked_for(name: str, current: str) -> None:
    scheduled = task_run(StateType.SCHEDULED, state_name=current, run_count=0)

    decision = decide([rename_reruns], transition(scheduled, propose(StateType.RUNNING, name=name, cache_key="k")))

    assert decision == accepted(name)


@pytest.mark.parametrize("name", ["Running", "Mine"])
@pytest.mark.parametrize("run_count", [1, 2])
def test_a_run_that_awaited_its_retry_is_retrying(name: str, run_count: int) -> None:
    failed = task_run(StateType.SCHEDULED, state_name="AwaitingRetry", run_count=run_count)

    decision = decide([rename_reruns], transition(failed, propose(StateType.RUNNING, name=name, cache_key="k")))

    assert decision == accepted("Retrying")


@pytest.mark.parametrize("name", ["Running", "Mine"])
@pytest.mark.parametrize("leaving", [None, *StateType])
def test_a_run_that_has_run_before_is_rerunning_otherwise(leaving: StateType | None, name: str) -> None:
    run = task_run(leaving, run_count=1)

    decision = decide([rename_reruns], transition(run, propose(StateType.RUNNING, name=name, cache_key="k")))

    assert decision == accepted("Rerunning")


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.RUNNING])
def test_no_other_state_is_renamed(entering: StateType) -> None:
    awaiting = task_run(StateType.SCHEDULED, state_name="AwaitingRetry", run_count=1)

    decision = decide([rename_reruns], transition(awaiting, entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


@pytest.mark.parametrize("rules", [IN_FLOW_RUN, IN_BACKGROUND], ids=["in_a_flow_run", "in_the_background"])
def test_a_run_that_starts_over_after_its_end_runs_as_for_the_first_time(rules: Policy) -> None:
    failed = task_run(StateType.FAILED, run_count=3)
    flow_run = under_flow_run(StateType.RUNNING)

    decision = decide(rules, transition(failed, StateType.RUNNING, flow_run=flow_run, flow_run_run_count=1))

    assert decision.state == propose(StateType.RUNNING)


def test_force_and_flow_runs_rename_nothing() -> None:
    assert rename_reruns not in (*policy.FORCED, *policy.FLOW_RUN)


# --- as clients meet it ---


async def test_a_client_sees_what_kind_of_run_it_is(client: Client) -> None:
    id = await create(client, "PENDING", empiricalPolicy={"retries": 3})

    for type in ("RUNNING", "RUNNING", "FAILED", "RUNNING"):
        await ask(client, id, type)

    assert await history(client, id) == ["Pending", "Running", "Rerunning", "AwaitingRetry", "Retrying"]


async def test_a_retry_that_was_claimed_in_between_is_rerunning(client: Client) -> None:
    id = await create(client, "RUNNING", empiricalPolicy={"retries": 1})

    for type in ("FAILED", "PENDING", "RUNNING"):
        await ask(client, id, type)

    assert await history(client, id) == ["Running", "AwaitingRetry", "Pending", "Rerunning"]


async def test_a_run_that_is_forced_to_run_again_is_not_renamed(client: Client) -> None:
    id = await create(client, "RUNNING", flowRunId=await create_flow_run(client, "RUNNING"))

    answer = await ask(client, id, "RUNNING", force=True)

    assert (answer["state"]["name"], answer["taskRun"]["runCount"]) == ("Running", 2)

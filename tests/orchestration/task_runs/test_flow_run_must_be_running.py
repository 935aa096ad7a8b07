"""A task run may run only while its flow run is RUNNING."""

import pytest

from db.enums import StateType
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.task_runs.flow_run_must_be_running import flow_run_must_be_running
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.transitions import flow_run_facts, in_seconds, propose, task_run, transition

NEITHER_RUNNING_NOR_PAUSED = [each for each in StateType if each not in (StateType.RUNNING, StateType.PAUSED)]


@pytest.mark.parametrize("leaving", [None, *StateType])
def test_a_task_run_may_run_in_a_running_flow_run(leaving: StateType | None) -> None:
    running = transition(task_run(leaving), StateType.RUNNING, flow_run=flow_run_facts(StateType.RUNNING))

    decision = decide([flow_run_must_be_running], running)

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING))


@pytest.mark.parametrize("leaving", [None, *StateType])
def test_a_task_run_of_a_paused_flow_run_becomes_not_ready(leaving: StateType | None) -> None:
    paused = flow_run_facts(StateType.PAUSED, pause_timeout_at=in_seconds(60), pause_reschedule=True)

    decision = decide([flow_run_must_be_running], transition(task_run(leaving), StateType.RUNNING, flow_run=paused))

    not_ready = propose(StateType.PAUSED, name="NotReady", pause_timeout_at=in_seconds(60), pause_reschedule=True)
    assert decision == Decision(
        OrchestrationStatus.REJECT, not_ready, "The flow run is PAUSED. Propose RUNNING again after it resumes."
    )


@pytest.mark.parametrize("state", NEITHER_RUNNING_NOR_PAUSED)
def test_any_other_flow_run_state_aborts_the_task_run(state: StateType) -> None:
    decision = decide(
        [flow_run_must_be_running],
        transition(task_run(StateType.PENDING), StateType.RUNNING, flow_run=flow_run_facts(state)),
    )

    assert decision == Decision(
        OrchestrationStatus.ABORT,
        None,
        f"The flow run is {state.value}; its task runs can run only while it is RUNNING.",
    )


def test_a_flow_run_without_a_state_aborts_the_task_run() -> None:
    decision = decide(
        [flow_run_must_be_running],
        transition(task_run(StateType.PENDING), StateType.RUNNING, flow_run=flow_run_facts(None)),
    )

    assert decision == Decision(
        OrchestrationStatus.ABORT, None, "The flow run has no state; its task runs can run only while it is RUNNING."
    )


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.RUNNING])
@pytest.mark.parametrize("state", [None, StateType.PAUSED, StateType.CANCELLED])
def test_every_other_state_is_accepted_in_any_flow_run_state(state: StateType | None, entering: StateType) -> None:
    decision = decide(
        [flow_run_must_be_running],
        transition(task_run(StateType.RUNNING), entering, flow_run=flow_run_facts(state)),
    )

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


def test_a_background_run_needs_no_flow_run() -> None:
    decision = decide(policy.IN_BACKGROUND, transition(task_run(StateType.PENDING), propose(StateType.RUNNING)))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING))

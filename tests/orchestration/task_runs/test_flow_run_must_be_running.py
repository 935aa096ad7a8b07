"""A task run runs only while its flow run does."""

import pytest

from db.enums import StateType
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.task_runs.flow_run_must_be_running import flow_run_must_be_running
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.transitions import in_seconds, propose, task_run, transition, under_flow_run

STOPPED = [each for each in StateType if each not in (StateType.RUNNING, StateType.PAUSED)]


@pytest.mark.parametrize("leaving", [None, *StateType])
def test_a_task_run_may_run_while_its_flow_run_does(leaving: StateType | None) -> None:
    running = transition(task_run(leaving), StateType.RUNNING, flow_run=under_flow_run(StateType.RUNNING))

    decision = decide([flow_run_must_be_running], running)

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING))


@pytest.mark.parametrize("leaving", [None, *StateType])
def test_a_task_run_of_a_paused_flow_run_is_paused_as_not_ready(leaving: StateType | None) -> None:
    paused = under_flow_run(StateType.PAUSED, pause_timeout=in_seconds(60), pause_reschedule=True)

    decision = decide([flow_run_must_be_running], transition(task_run(leaving), StateType.RUNNING, flow_run=paused))

    not_ready = propose(StateType.PAUSED, name="NotReady", pause_timeout=in_seconds(60), pause_reschedule=True)
    assert decision == Decision(OrchestrationStatus.REJECT, not_ready, "The flow run is paused.")


@pytest.mark.parametrize("state", STOPPED)
def test_a_task_run_does_not_run_where_its_flow_run_does_not(state: StateType) -> None:
    decision = decide(
        [flow_run_must_be_running],
        transition(task_run(StateType.PENDING), StateType.RUNNING, flow_run=under_flow_run(state)),
    )

    assert decision == Decision(OrchestrationStatus.ABORT, None, f"The flow run is {state.value}, not RUNNING.")


def test_a_task_run_does_not_run_where_its_flow_run_has_no_state() -> None:
    decision = decide(
        [flow_run_must_be_running],
        transition(task_run(StateType.PENDING), StateType.RUNNING, flow_run=under_flow_run(None)),
    )

    assert decision == Decision(OrchestrationStatus.ABORT, None, "The flow run is in no state, not RUNNING.")


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.RUNNING])
@pytest.mark.parametrize("state", [None, StateType.PAUSED, StateType.CANCELLED])
def test_every_other_state_may_be_taken_whatever_the_flow_run_does(
    state: StateType | None, entering: StateType
) -> None:
    decision = decide(
        [flow_run_must_be_running],
        transition(task_run(StateType.RUNNING), entering, flow_run=under_flow_run(state)),
    )

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


def test_a_background_run_depends_on_no_flow_run() -> None:
    decision = decide(policy.IN_BACKGROUND, transition(task_run(StateType.PENDING), propose(StateType.RUNNING)))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING))

"""A run does not start before its scheduled time."""

import pytest

from db.enums import StateType
from db.records import StateDetails
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.shared.wait_for_scheduled_time import wait_for_scheduled_time
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.transitions import in_seconds, propose, task_run, transition

WAITING_STATES = [StateType.SCHEDULED, StateType.PENDING]


@pytest.mark.parametrize("leaving", WAITING_STATES)
@pytest.mark.parametrize("seconds", [-86_400.0, -0.000001, 0.0, 0.000001, 0.5])
def test_a_run_may_start_when_due_or_half_a_second_early(leaving: StateType, seconds: float) -> None:
    run = task_run(leaving, details=StateDetails(scheduled_time=in_seconds(seconds)))

    decision = decide([wait_for_scheduled_time], transition(run, StateType.RUNNING))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING))


@pytest.mark.parametrize("leaving", WAITING_STATES)
@pytest.mark.parametrize(
    ("seconds", "delay"),
    [(0.500001, 1.0), (0.7, 1.0), (1.2, 1.0), (1.5, 1.0), (1.500001, 2.0), (1.6, 2.0), (100.0, 100.0)],
)
def test_a_run_that_is_earlier_waits_a_whole_number_of_seconds(
    leaving: StateType, seconds: float, delay: float
) -> None:
    run = task_run(leaving, details=StateDetails(scheduled_time=in_seconds(seconds)))

    decision = decide([wait_for_scheduled_time], transition(run, StateType.RUNNING))

    reason = f"The run is scheduled for {in_seconds(seconds)}."
    assert decision == Decision(OrchestrationStatus.WAIT, None, reason, delay)


def test_the_current_states_scheduled_time_counts_not_the_proposals() -> None:
    run = task_run(StateType.PENDING)
    proposed = propose(StateType.RUNNING, scheduled_time=in_seconds(100))

    decision = decide([wait_for_scheduled_time], transition(run, proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each not in WAITING_STATES)])
def test_a_run_that_is_neither_scheduled_nor_pending_does_not_wait(leaving: StateType | None) -> None:
    run = task_run(leaving, details=StateDetails(scheduled_time=in_seconds(100)))

    decision = decide([wait_for_scheduled_time], transition(run, StateType.RUNNING))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING))


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.RUNNING])
def test_a_run_may_enter_any_other_state_before_its_scheduled_time(entering: StateType) -> None:
    run = task_run(StateType.SCHEDULED, details=StateDetails(scheduled_time=in_seconds(100)))

    decision = decide([wait_for_scheduled_time], transition(run, entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))

"""A run does not start before its time."""

import pytest

from db.enums import StateType
from db.records import StateDetails
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.shared.wait_for_scheduled_time import wait_for_scheduled_time
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.transitions import in_seconds, propose, task_run, transition

HELD_BACK = [StateType.SCHEDULED, StateType.PENDING]


@pytest.mark.parametrize("leaving", HELD_BACK)
@pytest.mark.parametrize("seconds", [-86_400.0, -0.000001, 0.0, 0.000001, 0.5])
def test_a_run_may_start_at_its_time_and_up_to_half_a_second_early(leaving: StateType, seconds: float) -> None:
    run = task_run(leaving, details=StateDetails(scheduled_time=in_seconds(seconds)))

    decision = decide([wait_for_scheduled_time], transition(run, StateType.RUNNING))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING))


@pytest.mark.parametrize("leaving", HELD_BACK)
@pytest.mark.parametrize(
    ("seconds", "delay"),
    [(0.500001, 1.0), (0.7, 1.0), (1.2, 1.0), (1.5, 1.0), (1.500001, 2.0), (1.6, 2.0), (100.0, 100.0)],
)
def test_a_run_that_is_earlier_waits_for_whole_seconds(leaving: StateType, seconds: float, delay: float) -> None:
    run = task_run(leaving, details=StateDetails(scheduled_time=in_seconds(seconds)))

    decision = decide([wait_for_scheduled_time], transition(run, StateType.RUNNING))

    assert decision == Decision(OrchestrationStatus.WAIT, None, "The run is scheduled for later.", delay)


def test_the_time_of_the_present_state_counts_and_not_that_of_the_proposal() -> None:
    run = task_run(StateType.PENDING)
    proposed = propose(StateType.RUNNING, scheduled_time=in_seconds(100))

    decision = decide([wait_for_scheduled_time], transition(run, proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each not in HELD_BACK)])
def test_a_run_that_is_neither_scheduled_nor_pending_waits_for_no_time(leaving: StateType | None) -> None:
    run = task_run(leaving, details=StateDetails(scheduled_time=in_seconds(100)))

    decision = decide([wait_for_scheduled_time], transition(run, StateType.RUNNING))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING))


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.RUNNING])
def test_a_run_may_become_anything_but_running_before_its_time(entering: StateType) -> None:
    run = task_run(StateType.SCHEDULED, details=StateDetails(scheduled_time=in_seconds(100)))

    decision = decide([wait_for_scheduled_time], transition(run, entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))

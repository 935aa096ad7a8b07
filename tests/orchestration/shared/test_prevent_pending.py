"""PENDING is the claim on a run: of several who propose it, one gets it."""

import pytest

from db.enums import StateType
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.shared.prevent_pending import prevent_pending
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.transitions import propose, task_run, transition

TAKEN = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.CANCELLED]
FREE = [None, *(each for each in StateType if each not in TAKEN)]


@pytest.mark.parametrize("leaving", FREE)
def test_a_run_that_nobody_has_may_be_claimed(leaving: StateType | None) -> None:
    proposed = propose(StateType.PENDING)

    decision = decide([prevent_pending], transition(task_run(leaving), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize("leaving", TAKEN)
def test_a_run_that_was_claimed_or_called_off_can_not_be_claimed(leaving: StateType) -> None:
    decision = decide([prevent_pending], transition(task_run(leaving), StateType.PENDING))

    assert decision == Decision(
        OrchestrationStatus.ABORT, None, f"The run is {leaving.value}: it can not be claimed again."
    )


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.PENDING])
@pytest.mark.parametrize("leaving", TAKEN)
def test_a_run_that_was_claimed_may_become_anything_but_pending(leaving: StateType, entering: StateType) -> None:
    proposed = propose(entering)

    decision = decide([prevent_pending], transition(task_run(leaving), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


def test_background_runs_and_flow_runs_are_claimed_and_task_runs_of_flow_runs_are_not() -> None:
    governed = [each for each in (policy.IN_BACKGROUND, policy.IN_FLOW_RUN, policy.FLOW_RUN) if prevent_pending in each]

    assert governed == [policy.IN_BACKGROUND, policy.FLOW_RUN]

"""PENDING claims a run: only one of several proposals is accepted."""

import pytest

from db.enums import StateType
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.shared.prevent_pending import prevent_pending
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.transitions import propose, task_run, transition

CLAIMED = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.CANCELLED]
UNCLAIMED = [None, *(each for each in StateType if each not in CLAIMED)]


@pytest.mark.parametrize("leaving", UNCLAIMED)
def test_an_unclaimed_run_may_be_claimed(leaving: StateType | None) -> None:
    proposed = propose(StateType.PENDING)

    decision = decide([prevent_pending], transition(task_run(leaving), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize("leaving", CLAIMED)
def test_a_claimed_or_cancelled_run_cannot_be_claimed(leaving: StateType) -> None:
    decision = decide([prevent_pending], transition(task_run(leaving), StateType.PENDING))

    assert decision == Decision(OrchestrationStatus.ABORT, None, f"The run is {leaving.value} and cannot be claimed.")


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.PENDING])
@pytest.mark.parametrize("leaving", CLAIMED)
def test_a_claimed_or_cancelled_run_may_enter_any_state_except_pending(leaving: StateType, entering: StateType) -> None:
    proposed = propose(entering)

    decision = decide([prevent_pending], transition(task_run(leaving), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


def test_only_background_runs_and_flow_runs_are_claimed_once() -> None:
    governed = [each for each in (policy.IN_BACKGROUND, policy.IN_FLOW_RUN, policy.FLOW_RUN) if prevent_pending in each]

    assert governed == [policy.IN_BACKGROUND, policy.FLOW_RUN]

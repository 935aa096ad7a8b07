"""When a task run with a unique key may start again."""

import pytest

from db.enums import TERMINAL, StateType
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.policy import task_run_policy
from resolvers.orchestration.rules.task_runs.keep_unique_keys import keep_unique_keys
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.transitions import propose, task_run, transition

HOLDER = "01a206b2-304f-7000-b2ee-99ddb7de4877"
REASON = f"The task run {HOLDER} has the same unique key and has not ended. This run cannot start again before it ends."
NOT_TERMINAL = sorted(set(StateType) - TERMINAL)


@pytest.mark.parametrize("entering", NOT_TERMINAL)
@pytest.mark.parametrize("leaving", sorted(TERMINAL))
def test_a_run_cannot_start_again_while_another_run_holds_its_key(leaving: StateType, entering: StateType) -> None:
    decision = decide([keep_unique_keys], transition(task_run(leaving), entering, unique_key_holder_id=HOLDER))

    assert decision == Decision(OrchestrationStatus.REJECT, None, REASON)


@pytest.mark.parametrize("entering", NOT_TERMINAL)
def test_a_run_may_start_again_when_no_other_run_holds_its_key(entering: StateType) -> None:
    proposed = propose(entering)

    decision = decide([keep_unique_keys], transition(task_run(StateType.FAILED), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize("entering", sorted(TERMINAL))
def test_a_run_may_change_its_outcome_while_another_run_holds_its_key(entering: StateType) -> None:
    proposed = propose(entering)

    decision = decide([keep_unique_keys], transition(task_run(StateType.FAILED), proposed, unique_key_holder_id=HOLDER))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize("in_flow_run", [True, False])
def test_every_policy_keeps_unique_keys(in_flow_run: bool, forced: bool) -> None:
    policy = task_run_policy(in_flow_run=in_flow_run, forced=forced)

    decision = decide(policy, transition(task_run(StateType.FAILED), StateType.SCHEDULED, unique_key_holder_id=HOLDER))

    assert decision == Decision(OrchestrationStatus.REJECT, None, REASON)

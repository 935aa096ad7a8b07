"""A worker that lost its lease changes nothing."""

import pytest

from db.enums import StateType
from resolvers.orchestration import policy
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.task_runs.fence_lost_leases import fence_lost_leases
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.transitions import propose, task_run, transition

LOST = Decision(
    OrchestrationStatus.ABORT,
    None,
    "The lease is no longer held. Stop working on the task run: another worker may be executing it.",
)


@pytest.mark.parametrize("entering", StateType)
@pytest.mark.parametrize("leaving", [None, *StateType])
def test_the_lease_holder_may_report_any_state(leaving: StateType | None, entering: StateType) -> None:
    proposed = propose(entering)

    decision = decide([fence_lost_leases], transition(task_run(leaving), proposed, lease_id="a", held_lease_id="a"))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize("entering", StateType)
@pytest.mark.parametrize("leaving", [None, *StateType])
def test_a_worker_whose_run_has_another_lease_changes_nothing(leaving: StateType | None, entering: StateType) -> None:
    decision = decide([fence_lost_leases], transition(task_run(leaving), entering, lease_id="a", held_lease_id="b"))

    assert decision == LOST


def test_a_worker_whose_lease_has_ended_changes_nothing() -> None:
    decision = decide([fence_lost_leases], transition(task_run(StateType.RUNNING), StateType.COMPLETED, lease_id="a"))

    assert decision == LOST


@pytest.mark.parametrize("held", [None, "a"])
def test_a_proposal_without_a_lease_is_accepted(held: str | None) -> None:
    proposed = propose(StateType.CANCELLED)

    decision = decide([fence_lost_leases], transition(task_run(StateType.RUNNING), proposed, held_lease_id=held))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize("in_flow_run", [True, False])
def test_the_rule_comes_first_in_every_task_run_policy(in_flow_run: bool, forced: bool) -> None:
    rules = policy.task_run_policy(in_flow_run=in_flow_run, forced=forced)

    assert rules[0] is fence_lost_leases

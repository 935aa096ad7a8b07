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
    "This lease is no longer held: stop working on the run, another worker may have it.",
)


@pytest.mark.parametrize("entering", StateType)
@pytest.mark.parametrize("leaving", [None, *StateType])
def test_the_lease_holder_may_report_any_state(leaving: StateType | None, entering: StateType) -> None:
    proposed = propose(entering)

    decision = decide([fence_lost_leases], transition(task_run(leaving), proposed, lease_id="a", held_lease_id="a"))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize("entering", StateType)
@pytest.mark.parametrize("leaving", [None, *StateType])
def test_a_worker_whose_run_another_one_has_changes_nothing(leaving: StateType | None, entering: StateType) -> None:
    decision = decide([fence_lost_leases], transition(task_run(leaving), entering, lease_id="a", held_lease_id="b"))

    assert decision == LOST


def test_a_worker_whose_run_nobody_has_any_more_changes_nothing() -> None:
    decision = decide([fence_lost_leases], transition(task_run(StateType.RUNNING), StateType.COMPLETED, lease_id="a"))

    assert decision == LOST


@pytest.mark.parametrize("held", [None, "a"])
def test_a_proposal_without_a_lease_passes(held: str | None) -> None:
    proposed = propose(StateType.CANCELLED)

    decision = decide([fence_lost_leases], transition(task_run(StateType.RUNNING), proposed, held_lease_id=held))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize("in_flow_run", [True, False])
def test_a_lost_lease_is_the_first_thing_every_task_run_is_asked_about(in_flow_run: bool, forced: bool) -> None:
    asked = policy.task_run_policy(in_flow_run=in_flow_run, forced=forced)

    assert asked[0] is fence_lost_leases

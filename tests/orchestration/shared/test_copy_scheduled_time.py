"""A claimed run keeps its scheduled time."""

import pytest

from db.enums import StateType
from db.records import StateDetails
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.shared.copy_scheduled_time import copy_scheduled_time
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.transitions import in_seconds, propose, task_run, transition

LATER = in_seconds(100)


def test_a_claimed_run_keeps_its_scheduled_time() -> None:
    scheduled = task_run(StateType.SCHEDULED, details=StateDetails(scheduled_time=LATER))

    decision = decide([copy_scheduled_time], transition(scheduled, propose(StateType.PENDING, cache_key="k")))

    expected = propose(StateType.PENDING, cache_key="k", scheduled_time=LATER)
    assert decision == Decision(OrchestrationStatus.ACCEPT, expected)


def test_a_scheduled_time_in_the_claim_takes_precedence() -> None:
    scheduled = task_run(StateType.SCHEDULED, details=StateDetails(scheduled_time=LATER))
    sooner = propose(StateType.PENDING, scheduled_time=in_seconds(-1))

    decision = decide([copy_scheduled_time], transition(scheduled, sooner))

    assert decision == Decision(OrchestrationStatus.ACCEPT, sooner)


def test_the_proposal_is_not_modified() -> None:
    scheduled = task_run(StateType.SCHEDULED, details=StateDetails(scheduled_time=LATER))
    proposed = propose(StateType.PENDING)

    decide([copy_scheduled_time], transition(scheduled, proposed))

    assert proposed == propose(StateType.PENDING)


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.PENDING])
def test_no_other_state_copies_the_scheduled_time(entering: StateType) -> None:
    scheduled = task_run(StateType.SCHEDULED, details=StateDetails(scheduled_time=LATER))

    decision = decide([copy_scheduled_time], transition(scheduled, entering))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each is not StateType.SCHEDULED)])
def test_a_run_that_was_not_scheduled_copies_no_time(leaving: StateType | None) -> None:
    run = task_run(leaving, details=StateDetails(scheduled_time=LATER))

    decision = decide([copy_scheduled_time], transition(run, StateType.PENDING))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.PENDING))

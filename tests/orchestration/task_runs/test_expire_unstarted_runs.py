"""A background run that has expired does not start."""

from typing import Any

import pytest

from db.enums import TERMINAL, StateType
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.policy import FORCED, IN_BACKGROUND, IN_FLOW_RUN
from resolvers.orchestration.rules.task_runs.expire_unstarted_runs import expire_unstarted_runs
from resolvers.orchestration.transition import OrchestrationStatus, ProposedState
from tests.builders.transitions import NOW, in_seconds, propose, task_run, transition

REASON = f"The task run expired at {NOW} before it started."
NOT_ENDED = [None, *(each for each in StateType if each not in TERMINAL)]


@pytest.mark.parametrize("leaving", NOT_ENDED)
def test_an_expired_run_is_cancelled_instead_of_started(leaving: StateType | None) -> None:
    run = task_run(leaving, expires_at=NOW, start_time=None)

    decision = decide([expire_unstarted_runs], transition(run, StateType.RUNNING))

    expired = ProposedState(StateType.CANCELLED, "Expired", REASON)
    assert decision == Decision(OrchestrationStatus.REJECT, expired, REASON)


@pytest.mark.parametrize("leaving", sorted(TERMINAL))
def test_an_expired_run_that_has_ended_keeps_its_state(leaving: StateType) -> None:
    run = task_run(leaving, expires_at=NOW, start_time=None)

    decision = decide([expire_unstarted_runs], transition(run, StateType.RUNNING))

    assert decision == Decision(OrchestrationStatus.REJECT, None, REASON)


@pytest.mark.parametrize(
    "fields",
    [
        {"expires_at": None, "start_time": None},
        {"expires_at": in_seconds(0.000001), "start_time": None},
        {"expires_at": in_seconds(-60), "start_time": in_seconds(-120)},
    ],
    ids=["no expiry", "later expiry", "started before"],
)
def test_any_other_run_may_start(fields: dict[str, Any]) -> None:
    decision = decide([expire_unstarted_runs], transition(task_run(StateType.SCHEDULED, **fields), StateType.RUNNING))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING))


@pytest.mark.parametrize("entering", [each for each in StateType if each is not StateType.RUNNING])
def test_an_expired_run_may_enter_other_states(entering: StateType) -> None:
    run = task_run(StateType.SCHEDULED, expires_at=NOW, start_time=None)

    assert decide([expire_unstarted_runs], transition(run, entering)) == Decision(
        OrchestrationStatus.ACCEPT, propose(entering)
    )


def test_only_background_runs_are_governed() -> None:
    assert expire_unstarted_runs in IN_BACKGROUND
    assert expire_unstarted_runs not in (*IN_FLOW_RUN, *FORCED)

"""Every transition of a flow run, by the rules and forced, as a table.

The runs have no retries and are due. Their pauses have no timeout and no key, and do not reschedule.

    A  accepted as proposed
    a  accepted, and its pause keys are cleared
    p  accepted, and its pause key is recorded
    r  accepted, and it is marked as resuming
    R  rejected without a substitute
    C  rejected, with CANCELLED as the substitute
    B  aborted
"""

import pytest

from db.enums import StateType
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.policy import flow_run_policy
from resolvers.orchestration.transition import Effects, OrchestrationStatus
from tests.builders.transitions import flow_run, propose, transition
from tests.orchestration.matrix import FORCED, assert_every_pair, cells

WITH_A_DEPLOYMENT = """
              SCHEDULED PENDING RUNNING COMPLETED FAILED CANCELLED CRASHED PAUSED CANCELLING
    none          A        A       A        A        A       A        A       B        A
    SCHEDULED     A        A       A        A        A       A        A       R        C
    PENDING       A        B       A        A        A       A        A       R        A
    RUNNING       A        B       A        A        A       A        A       p        A
    COMPLETED     a        a       a        A        A       A        B       B        B
    FAILED        a        a       a        A        A       A        B       B        B
    CANCELLED     R        R       R        R        R       A        B       B        B
    CRASHED       a        a       a        A        A       A        B       B        B
    PAUSED        r        R       r        r        r       r        r       R        R
    CANCELLING    R        R       R        R        R       A        R       R        R
"""

WITHOUT_A_DEPLOYMENT = """
              SCHEDULED PENDING RUNNING COMPLETED FAILED CANCELLED CRASHED PAUSED CANCELLING
    none          A        A       A        A        A       A        A       B        A
    SCHEDULED     A        A       A        A        A       A        A       R        C
    PENDING       A        B       A        A        A       A        A       R        A
    RUNNING       A        B       A        A        A       A        A       p        A
    COMPLETED     B        a       a        A        A       A        B       B        B
    FAILED        B        a       a        A        A       A        B       B        B
    CANCELLED     B        R       R        R        R       A        B       B        B
    CRASHED       B        a       a        A        A       A        B       B        B
    PAUSED        r        R       r        r        r       r        r       R        R
    CANCELLING    R        R       R        R        R       A        R       R        R
"""

PERSISTED_RESULT = """
              SCHEDULED PENDING RUNNING COMPLETED FAILED CANCELLED CRASHED PAUSED CANCELLING
    COMPLETED     R        R       R        A        A       A        B       B        B
"""


ACCEPTED = {
    "A": Effects(),
    "a": Effects(pause_keys=(), resuming=False),
    "p": Effects(pause_keys=("had", "new")),
    "r": Effects(resuming=True),
}


def decide_transition(
    leaving: StateType | None,
    entering: StateType,
    *,
    forced: bool = False,
    deployment_id: str | None = None,
    data: str | None = None,
) -> Decision:
    run = flow_run(leaving, data=data, deployment_id=deployment_id, pause_keys_json='["had"]', run_count=1)
    pause_key = "new" if entering is StateType.PAUSED else None
    return decide(flow_run_policy(forced=forced), transition(run, propose(entering, pause_key=pause_key)))


def assert_outcome(decision: Decision, outcome: str, entering: StateType) -> None:
    pause_key = "new" if entering is StateType.PAUSED else None
    proposed = propose(entering, pause_key=pause_key)
    if outcome in ACCEPTED:
        assert decision == Decision(OrchestrationStatus.ACCEPT, proposed, effects=ACCEPTED[outcome])
        return
    status = OrchestrationStatus.ABORT if outcome == "B" else OrchestrationStatus.REJECT
    substitute = propose(StateType.CANCELLED) if outcome == "C" else None
    assert (decision.status, decision.state, decision.effects) == (status, substitute, Effects())
    assert decision.reason


@pytest.mark.parametrize(("leaving", "entering", "outcome"), cells(WITH_A_DEPLOYMENT))
def test_transitions_with_a_deployment(leaving: StateType | None, entering: StateType, outcome: str) -> None:
    decision = decide_transition(leaving, entering, deployment_id="the deployment")

    assert_outcome(decision, outcome, entering)


@pytest.mark.parametrize(("leaving", "entering", "outcome"), cells(WITHOUT_A_DEPLOYMENT))
def test_transitions_without_a_deployment(leaving: StateType | None, entering: StateType, outcome: str) -> None:
    decision = decide_transition(leaving, entering)

    assert_outcome(decision, outcome, entering)


@pytest.mark.parametrize("data", ['{"type":"reference"}', '{"a":1}', '"text"', "7", "[0]"])
@pytest.mark.parametrize("deployment_id", ["the deployment", None], ids=["with_a_deployment", "without_a_deployment"])
@pytest.mark.parametrize(("leaving", "entering", "outcome"), cells(PERSISTED_RESULT))
def test_transitions_with_a_persisted_result(
    leaving: StateType, entering: StateType, outcome: str, deployment_id: str | None, data: str
) -> None:
    decision = decide_transition(leaving, entering, deployment_id=deployment_id, data=data)

    assert_outcome(decision, outcome, entering)


@pytest.mark.parametrize("data", [None, '{"type":"literal"}'], ids=["without_a_result", "with_a_persisted_result"])
@pytest.mark.parametrize(("leaving", "entering", "outcome"), cells(FORCED))
def test_forced_transitions(leaving: StateType | None, entering: StateType, outcome: str, data: str | None) -> None:
    decision = decide_transition(leaving, entering, forced=True, data=data)

    assert_outcome(decision, outcome, entering)


@pytest.mark.parametrize("table", [WITH_A_DEPLOYMENT, WITHOUT_A_DEPLOYMENT, FORCED])
def test_the_tables_cover_every_pair_of_states(table: str) -> None:
    assert_every_pair(table)

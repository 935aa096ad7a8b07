"""Every transition of a task run, by every policy, as a table.

The runs have no tags, cache keys or retries and are due. Their flow run, if they have one, is RUNNING. Therefore no cell
depends on limits, cached results, retries or times.

    A  accepted as proposed
    a  accepted, and the run count is reset
    R  rejected without a substitute
    B  aborted
    C  rejected, and CANCELLED is set instead
"""

import pytest

from db.enums import StateType
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.policy import Policy, task_run_creation_policy, task_run_policy
from resolvers.orchestration.transition import OrchestrationStatus
from tests.builders.transitions import flow_run_facts, propose, task_run, transition
from tests.orchestration.matrix import FORCED, assert_every_pair, cells

IN_FLOW_RUN = """
              SCHEDULED PENDING RUNNING COMPLETED FAILED CANCELLED CRASHED PAUSED CANCELLING
    none          A        A       A        A        A       A        A       A        A
    SCHEDULED     A        A       A        A        A       A        A       A        A
    PENDING       A        A       A        A        A       A        A       A        A
    RUNNING       A        A       A        A        A       A        A       A        A
    COMPLETED     a        a       a        A        A       A        B       B        B
    FAILED        a        a       a        A        A       A        B       B        B
    CANCELLED     a        a       a        A        A       A        B       B        B
    CRASHED       a        a       a        A        A       A        B       B        B
    PAUSED        A        A       A        A        A       A        A       A        A
    CANCELLING    A        A       A        A        A       A        A       A        A
"""

IN_BACKGROUND = """
              SCHEDULED PENDING RUNNING COMPLETED FAILED CANCELLED CRASHED PAUSED CANCELLING
    none          A        A       A        A        A       A        A       A        C
    SCHEDULED     A        A       A        A        A       A        A       A        C
    PENDING       A        B       A        A        A       A        A       A        C
    RUNNING       A        B       A        A        A       A        A       A        C
    COMPLETED     a        a       a        A        A       A        B       B        B
    FAILED        a        a       a        A        A       A        B       B        B
    CANCELLED     a        B       R        A        A       A        B       B        B
    CRASHED       a        a       a        A        A       A        B       B        B
    PAUSED        A        A       A        A        A       A        A       A        C
    CANCELLING    A        B       R        A        A       A        A       A        C
"""

HELD_BY_A_WORKER = IN_BACKGROUND.replace(" C\n", " A\n")
"""The same while a worker has acknowledged a lease of the run."""

PERSISTED_RESULT = """
              SCHEDULED PENDING RUNNING COMPLETED FAILED CANCELLED CRASHED PAUSED CANCELLING
    COMPLETED     R        R       R        R        R       R        B       B        B
"""


OUTCOMES = {
    "A": (OrchestrationStatus.ACCEPT, None),
    "a": (OrchestrationStatus.ACCEPT, 0),
    "R": (OrchestrationStatus.REJECT, None),
    "B": (OrchestrationStatus.ABORT, None),
    "C": (OrchestrationStatus.REJECT, None),
}

SUBSTITUTES = {"C": propose(StateType.CANCELLED)}
"""State that is set instead of the proposed one, by outcome."""


def decide_transition(
    policy: Policy,
    leaving: StateType | None,
    entering: StateType,
    *,
    in_flow_run: bool,
    data: str | None = None,
    has_worker: bool = False,
) -> Decision:
    run = task_run(leaving, data=data, run_count=0)
    flow_run = flow_run_facts(StateType.RUNNING) if in_flow_run else None
    return decide(policy, transition(run, entering, flow_run=flow_run, flow_run_run_count=1, has_worker=has_worker))


def assert_outcome(decision: Decision, outcome: str, entering: StateType) -> None:
    status, run_count = OUTCOMES[outcome]
    assert (decision.status, decision.effects.run_count) == (status, run_count)
    assert decision.state == (propose(entering) if status is OrchestrationStatus.ACCEPT else SUBSTITUTES.get(outcome))
    assert (decision.reason is None) is (status is OrchestrationStatus.ACCEPT)
    assert decision.delay_seconds is None


@pytest.mark.parametrize(("leaving", "entering", "outcome"), cells(IN_FLOW_RUN))
def test_transitions_in_a_flow_run(leaving: StateType | None, entering: StateType, outcome: str) -> None:
    policy = task_run_policy(in_flow_run=True, forced=False)

    decision = decide_transition(policy, leaving, entering, in_flow_run=True)

    assert_outcome(decision, outcome, entering)


@pytest.mark.parametrize(("leaving", "entering", "outcome"), cells(IN_BACKGROUND))
def test_transitions_in_the_background(leaving: StateType | None, entering: StateType, outcome: str) -> None:
    policy = task_run_policy(in_flow_run=False, forced=False)

    decision = decide_transition(policy, leaving, entering, in_flow_run=False)

    assert_outcome(decision, outcome, entering)


@pytest.mark.parametrize(("leaving", "entering", "outcome"), cells(HELD_BY_A_WORKER))
def test_transitions_in_the_background_under_a_lease(
    leaving: StateType | None, entering: StateType, outcome: str
) -> None:
    policy = task_run_policy(in_flow_run=False, forced=False)

    decision = decide_transition(policy, leaving, entering, in_flow_run=False, has_worker=True)

    assert_outcome(decision, outcome, entering)


@pytest.mark.parametrize("data", ['{"type":"reference"}', '{"type":"literal"}', '{"a":1}', '"text"', "7", "[0]"])
@pytest.mark.parametrize("in_flow_run", [True, False], ids=["in_a_flow_run", "in_the_background"])
@pytest.mark.parametrize(("leaving", "entering", "outcome"), cells(PERSISTED_RESULT))
def test_transitions_with_a_persisted_result(
    leaving: StateType, entering: StateType, outcome: str, in_flow_run: bool, data: str
) -> None:
    policy = task_run_policy(in_flow_run=in_flow_run, forced=False)

    decision = decide_transition(policy, leaving, entering, in_flow_run=in_flow_run, data=data)

    assert_outcome(decision, outcome, entering)


@pytest.mark.parametrize("data", [None, '{"type":"literal"}'], ids=["without_a_result", "with_a_persisted_result"])
@pytest.mark.parametrize("in_flow_run", [True, False], ids=["in_a_flow_run", "in_the_background"])
@pytest.mark.parametrize(("leaving", "entering", "outcome"), cells(FORCED))
def test_forced_transitions(
    leaving: StateType | None, entering: StateType, outcome: str, in_flow_run: bool, data: str | None
) -> None:
    policy = task_run_policy(in_flow_run=in_flow_run, forced=True)

    decision = decide_transition(policy, leaving, entering, in_flow_run=in_flow_run, data=data)

    assert_outcome(decision, outcome, entering)


@pytest.mark.parametrize("entering", StateType)
@pytest.mark.parametrize("flow_run_state", [None, *StateType])
def test_any_initial_state_is_accepted_in_any_flow_run_state(
    flow_run_state: StateType | None, entering: StateType
) -> None:
    policy = task_run_creation_policy(in_flow_run=True)

    decision = decide(policy, transition(task_run(), entering, flow_run=flow_run_facts(flow_run_state)))

    assert_outcome(decision, "A", entering)


@pytest.mark.parametrize("entering", StateType)
def test_a_background_run_may_be_created_in_any_state_but_cancelling(entering: StateType) -> None:
    policy = task_run_creation_policy(in_flow_run=False)

    decision = decide_transition(policy, None, entering, in_flow_run=False)

    assert_outcome(decision, "C" if entering is StateType.CANCELLING else "A", entering)


@pytest.mark.parametrize("table", [IN_FLOW_RUN, IN_BACKGROUND, HELD_BY_A_WORKER, FORCED])
def test_the_tables_cover_every_pair_of_states(table: str) -> None:
    assert_every_pair(table)

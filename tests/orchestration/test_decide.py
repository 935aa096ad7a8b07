"""How `decide` calls the rules of a policy and combines their verdicts."""

from dataclasses import replace

import pytest

from db.enums import StateType
from db.records import StateDetails
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.policy import IN_BACKGROUND, IN_FLOW_RUN
from resolvers.orchestration.transition import (
    ANY_STATE,
    Abort,
    Amend,
    Effects,
    OrchestrationStatus,
    Reject,
    Rule,
    Transition,
    Verdict,
    Wait,
    rule,
)
from tests.builders.transitions import flow_run_facts, in_seconds, propose, task_run, transition

RUNNING = flow_run_facts(StateType.RUNNING)
PAUSED = flow_run_facts(StateType.PAUSED)
CANCELLED = flow_run_facts(StateType.CANCELLED)


def rule_returning(verdict: Verdict | None, seen: list[Transition]) -> Rule:
    """Return a rule that governs all transitions, always returns `verdict` and appends each transition to `seen`."""

    @rule()
    def return_verdict(transition: Transition) -> Verdict | None:
        seen.append(transition)
        return verdict

    return return_verdict


def test_a_proposal_without_objections_is_accepted_unchanged() -> None:
    proposed = propose(StateType.RUNNING, name="Mine", data="[1]", cache_key="k")

    decision = decide(
        [rule_returning(None, []), rule_returning(None, [])], transition(task_run(StateType.PENDING), proposed)
    )

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed, None, None)


def test_a_rule_is_called_for_transitions_that_it_governs() -> None:
    seen: list[Transition] = []
    running_to_failed = replace(
        rule_returning(None, seen), leaving=frozenset({StateType.RUNNING}), entering=frozenset({StateType.FAILED})
    )
    governed = transition(task_run(StateType.RUNNING), StateType.FAILED)

    decide([running_to_failed], governed)

    assert seen == [governed]


@pytest.mark.parametrize(
    ("leaving", "entering"),
    [
        (StateType.RUNNING, StateType.CRASHED),
        (StateType.PENDING, StateType.FAILED),
        (None, StateType.FAILED),
        (StateType.FAILED, StateType.RUNNING),
    ],
)
def test_a_rule_is_not_called_for_other_transitions(leaving: StateType | None, entering: StateType) -> None:
    seen: list[Transition] = []
    running_to_failed = replace(
        rule_returning(Abort("never"), seen),
        leaving=frozenset({StateType.RUNNING}),
        entering=frozenset({StateType.FAILED}),
    )

    decision = decide([running_to_failed], transition(task_run(leaving), entering))

    assert seen == []
    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


def test_a_rule_has_its_functions_name_and_governs_every_transition_by_default() -> None:
    @rule()
    def accept_everything(transition: Transition) -> Verdict | None:
        return None

    assert accept_everything.name == "accept_everything"
    assert accept_everything.leaving == accept_everything.entering == ANY_STATE == {None, *StateType}


def test_rules_run_in_order_and_see_the_proposal_as_amended_so_far() -> None:
    seen: list[Transition] = []
    amended = propose(StateType.RUNNING, name="Amended")
    running = transition(task_run(StateType.PENDING), StateType.RUNNING)

    decision = decide(
        [rule_returning(None, seen), rule_returning(Amend(amended), seen), rule_returning(None, seen)], running
    )

    assert seen == [running, running, replace(running, proposed=amended)]
    assert decision == Decision(OrchestrationStatus.ACCEPT, amended)


@pytest.mark.parametrize(
    ("verdict", "decision"),
    [
        (Reject("r"), Decision(OrchestrationStatus.REJECT, None, "r")),
        (
            Reject("r", propose(StateType.PAUSED)),
            Decision(OrchestrationStatus.REJECT, propose(StateType.PAUSED), "r"),
        ),
        (Abort("r"), Decision(OrchestrationStatus.ABORT, None, "r")),
        (Wait("r", 3.0), Decision(OrchestrationStatus.WAIT, None, "r", 3.0)),
    ],
)
def test_the_first_objection_decides_and_later_rules_are_not_called(verdict: Verdict, decision: Decision) -> None:
    seen: list[Transition] = []
    rules = [rule_returning(None, []), rule_returning(verdict, []), rule_returning(Abort("too late"), seen)]

    made = decide(rules, transition(task_run(StateType.PENDING), StateType.RUNNING))

    assert made == decision
    assert seen == []


def test_an_amendment_is_kept_if_no_later_rule_objects() -> None:
    amended = propose(StateType.RUNNING, name="Amended")

    decision = decide(
        [rule_returning(Amend(amended, Effects(run_count=0)), []), rule_returning(None, [])],
        transition(task_run(StateType.FAILED, run_count=3), StateType.RUNNING),
    )

    assert decision == Decision(OrchestrationStatus.ACCEPT, amended, effects=Effects(run_count=0))


def test_a_later_amendment_keeps_the_run_count_of_an_earlier_one() -> None:
    first, second = propose(StateType.RUNNING, name="First"), propose(StateType.RUNNING, name="Second")

    decision = decide(
        [rule_returning(Amend(first, Effects(run_count=0)), []), rule_returning(Amend(second), [])],
        transition(task_run(StateType.FAILED), StateType.RUNNING),
    )

    assert decision == Decision(OrchestrationStatus.ACCEPT, second, effects=Effects(run_count=0))


@pytest.mark.parametrize("verdict", [Reject("r"), Reject("r", propose(StateType.PAUSED)), Abort("r"), Wait("r", 1.0)])
def test_an_amendment_is_dropped_if_a_later_rule_objects(verdict: Verdict) -> None:
    amend = rule_returning(Amend(propose(StateType.RUNNING, name="Amended"), Effects(run_count=0)), [])

    decision = decide(
        [amend, rule_returning(verdict, [])], transition(task_run(StateType.FAILED, run_count=3), StateType.RUNNING)
    )

    assert decision.effects.run_count is None
    assert decision.state in (None, propose(StateType.PAUSED))


def test_deciding_changes_neither_the_run_nor_the_proposal() -> None:
    run = task_run(StateType.FAILED, run_count=3, flow_run_id="the flow run")
    before = replace(run)
    proposed = propose(StateType.RUNNING)

    decide(IN_FLOW_RUN, transition(run, proposed, flow_run=flow_run_facts(StateType.RUNNING, run_count=2)))

    assert run == before
    assert proposed == propose(StateType.RUNNING)


def test_a_failed_run_of_a_running_flow_run_resets_its_run_count() -> None:
    decision = decide(
        IN_FLOW_RUN, transition(task_run(StateType.FAILED, run_count=3), StateType.RUNNING, flow_run=RUNNING)
    )

    assert (decision.status, decision.effects.run_count) == (OrchestrationStatus.ACCEPT, 0)


def test_a_paused_flow_run_makes_failed_runs_not_ready_with_count_unchanged() -> None:
    decision = decide(
        IN_FLOW_RUN, transition(task_run(StateType.FAILED, run_count=3), StateType.RUNNING, flow_run=PAUSED)
    )

    assert decision.status is OrchestrationStatus.REJECT
    assert decision.state == propose(StateType.PAUSED, name="NotReady")
    assert decision.effects.run_count is None


def test_a_cancelled_flow_run_aborts_failed_runs_with_count_unchanged() -> None:
    decision = decide(
        IN_FLOW_RUN, transition(task_run(StateType.FAILED, run_count=3), StateType.RUNNING, flow_run=CANCELLED)
    )

    assert (decision.status, decision.state, decision.effects.run_count) == (OrchestrationStatus.ABORT, None, None)


@pytest.mark.parametrize("flow_run", [RUNNING, PAUSED, CANCELLED])
def test_a_persisted_result_is_checked_before_the_flow_run(flow_run: object) -> None:
    completed = task_run(StateType.COMPLETED, data='{"type":"reference"}')

    decision = decide(IN_FLOW_RUN, transition(completed, StateType.RUNNING, flow_run=flow_run))

    assert decision == Decision(
        OrchestrationStatus.REJECT,
        None,
        "The task run is COMPLETED with a persisted result and cannot change its state.",
    )


@pytest.mark.parametrize(
    ("flow_run", "status"),
    [
        (RUNNING, OrchestrationStatus.WAIT),
        (PAUSED, OrchestrationStatus.REJECT),
        (CANCELLED, OrchestrationStatus.ABORT),
    ],
)
def test_the_flow_run_is_checked_before_the_scheduled_time(flow_run: object, status: OrchestrationStatus) -> None:
    scheduled = task_run(StateType.SCHEDULED, details=StateDetails(scheduled_time=in_seconds(100)))

    decision = decide(IN_FLOW_RUN, transition(scheduled, StateType.RUNNING, flow_run=flow_run))

    assert decision.status is status


@pytest.mark.parametrize("policy", [IN_FLOW_RUN, IN_BACKGROUND])
def test_a_lost_lease_is_checked_before_everything_else(policy: list[Rule]) -> None:
    completed = task_run(StateType.COMPLETED, data='{"type":"reference"}')

    decision = decide(
        policy, transition(completed, StateType.RUNNING, flow_run=PAUSED, lease_id="a", held_lease_id="b")
    )

    assert decision.status is OrchestrationStatus.ABORT
    assert (decision.reason or "").startswith("The lease is no longer held.")


def test_a_second_background_claim_is_aborted_before_its_terminal_state_is_checked() -> None:
    cancelled = task_run(StateType.CANCELLED, run_count=3)

    decision = decide(IN_BACKGROUND, transition(cancelled, StateType.PENDING))

    assert decision == Decision(OrchestrationStatus.ABORT, None, "The run is CANCELLED and cannot be claimed.")

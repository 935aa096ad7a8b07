"""How the rules are asked, and what comes of their verdicts."""

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
from tests.builders.transitions import in_seconds, propose, task_run, transition, under_flow_run

RUNNING = under_flow_run(StateType.RUNNING)
PAUSED = under_flow_run(StateType.PAUSED)
CANCELLED = under_flow_run(StateType.CANCELLED)


def saying(verdict: Verdict | None, asked: list[Transition]) -> Rule:
    """A rule for all transitions that always says this, and notes what it was asked about."""

    @rule()
    def say(transition: Transition) -> Verdict | None:
        asked.append(transition)
        return verdict

    return say


# --- asking ---


def test_a_proposal_that_no_rule_objects_to_is_accepted_as_it_is() -> None:
    proposed = propose(StateType.RUNNING, name="Mine", data="[1]", cache_key="k")

    decision = decide([saying(None, []), saying(None, [])], transition(task_run(StateType.PENDING), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed, None, None)


def test_a_rule_is_asked_about_the_transitions_that_it_governs() -> None:
    asked: list[Transition] = []
    running_to_failed = replace(
        saying(None, asked), leaving=frozenset({StateType.RUNNING}), entering=frozenset({StateType.FAILED})
    )
    governed = transition(task_run(StateType.RUNNING), StateType.FAILED)

    decide([running_to_failed], governed)

    assert asked == [governed]


@pytest.mark.parametrize(
    ("leaving", "entering"),
    [
        (StateType.RUNNING, StateType.CRASHED),
        (StateType.PENDING, StateType.FAILED),
        (None, StateType.FAILED),
        (StateType.FAILED, StateType.RUNNING),
    ],
)
def test_a_rule_is_not_asked_about_any_other(leaving: StateType | None, entering: StateType) -> None:
    asked: list[Transition] = []
    running_to_failed = replace(
        saying(Abort("never"), asked), leaving=frozenset({StateType.RUNNING}), entering=frozenset({StateType.FAILED})
    )

    decision = decide([running_to_failed], transition(task_run(leaving), entering))

    assert asked == []
    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering))


def test_a_rule_bears_the_name_of_its_function_and_governs_every_transition_unless_it_says_otherwise() -> None:
    @rule()
    def let_all_pass(transition: Transition) -> Verdict | None:
        return None

    assert let_all_pass.name == "let_all_pass"
    assert let_all_pass.leaving == let_all_pass.entering == ANY_STATE == {None, *StateType}


def test_rules_are_asked_in_their_order_and_each_sees_what_the_one_before_made_of_the_proposal() -> None:
    asked: list[Transition] = []
    amended = propose(StateType.RUNNING, name="Amended")
    running = transition(task_run(StateType.PENDING), StateType.RUNNING)

    decision = decide([saying(None, asked), saying(Amend(amended), asked), saying(None, asked)], running)

    assert asked == [running, running, replace(running, proposed=amended)]
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
def test_the_first_rule_that_objects_ends_the_matter(verdict: Verdict, decision: Decision) -> None:
    asked: list[Transition] = []
    rules = [saying(None, []), saying(verdict, []), saying(Abort("too late"), asked)]

    made = decide(rules, transition(task_run(StateType.PENDING), StateType.RUNNING))

    assert made == decision
    assert asked == []


# --- changes that a later rule undoes ---


def test_an_amendment_is_kept_where_all_later_rules_let_it_pass() -> None:
    amended = propose(StateType.RUNNING, name="Amended")

    decision = decide(
        [saying(Amend(amended, Effects(run_count=0)), []), saying(None, [])],
        transition(task_run(StateType.FAILED, run_count=3), StateType.RUNNING),
    )

    assert decision == Decision(OrchestrationStatus.ACCEPT, amended, effects=Effects(run_count=0))


def test_an_amendment_of_something_else_does_not_undo_the_count_of_an_earlier_one() -> None:
    first, second = propose(StateType.RUNNING, name="First"), propose(StateType.RUNNING, name="Second")

    decision = decide(
        [saying(Amend(first, Effects(run_count=0)), []), saying(Amend(second), [])],
        transition(task_run(StateType.FAILED), StateType.RUNNING),
    )

    assert decision == Decision(OrchestrationStatus.ACCEPT, second, effects=Effects(run_count=0))


@pytest.mark.parametrize("verdict", [Reject("r"), Reject("r", propose(StateType.PAUSED)), Abort("r"), Wait("r", 1.0)])
def test_an_amendment_is_dropped_where_a_later_rule_refuses(verdict: Verdict) -> None:
    amend = saying(Amend(propose(StateType.RUNNING, name="Amended"), Effects(run_count=0)), [])

    decision = decide(
        [amend, saying(verdict, [])], transition(task_run(StateType.FAILED, run_count=3), StateType.RUNNING)
    )

    assert decision.effects.run_count is None
    assert decision.state in (None, propose(StateType.PAUSED))


def test_deciding_changes_neither_the_run_nor_the_proposal() -> None:
    run = task_run(StateType.FAILED, run_count=3, flow_run_id="the flow run")
    before = replace(run)
    proposed = propose(StateType.RUNNING)

    decide(IN_FLOW_RUN, transition(run, proposed, flow_run=under_flow_run(StateType.RUNNING, run_count=2)))

    assert run == before
    assert proposed == propose(StateType.RUNNING)


# --- the order in the policies ---


def test_a_failed_run_of_a_running_flow_run_starts_over() -> None:
    decision = decide(
        IN_FLOW_RUN, transition(task_run(StateType.FAILED, run_count=3), StateType.RUNNING, flow_run=RUNNING)
    )

    assert (decision.status, decision.effects.run_count) == (OrchestrationStatus.ACCEPT, 0)


def test_a_failed_run_of_a_paused_flow_run_becomes_not_ready_and_keeps_its_count() -> None:
    decision = decide(
        IN_FLOW_RUN, transition(task_run(StateType.FAILED, run_count=3), StateType.RUNNING, flow_run=PAUSED)
    )

    assert decision.status is OrchestrationStatus.REJECT
    assert decision.state == propose(StateType.PAUSED, name="NotReady")
    assert decision.effects.run_count is None


def test_a_failed_run_of_a_flow_run_that_is_over_is_aborted_and_keeps_its_count() -> None:
    decision = decide(
        IN_FLOW_RUN, transition(task_run(StateType.FAILED, run_count=3), StateType.RUNNING, flow_run=CANCELLED)
    )

    assert (decision.status, decision.state, decision.effects.run_count) == (OrchestrationStatus.ABORT, None, None)


@pytest.mark.parametrize("flow_run", [RUNNING, PAUSED, CANCELLED])
def test_a_kept_result_is_looked_at_before_the_flow_run(flow_run: object) -> None:
    completed = task_run(StateType.COMPLETED, data='{"type":"reference"}')

    decision = decide(IN_FLOW_RUN, transition(completed, StateType.RUNNING, flow_run=flow_run))

    assert decision == Decision(OrchestrationStatus.REJECT, None, "The run is COMPLETED and its result is kept.")


@pytest.mark.parametrize(
    ("flow_run", "status"),
    [
        (RUNNING, OrchestrationStatus.WAIT),
        (PAUSED, OrchestrationStatus.REJECT),
        (CANCELLED, OrchestrationStatus.ABORT),
    ],
)
def test_the_flow_run_is_looked_at_before_the_scheduled_time(flow_run: object, status: OrchestrationStatus) -> None:
    scheduled = task_run(StateType.SCHEDULED, details=StateDetails(scheduled_time=in_seconds(100)))

    decision = decide(IN_FLOW_RUN, transition(scheduled, StateType.RUNNING, flow_run=flow_run))

    assert decision.status is status


@pytest.mark.parametrize("policy", [IN_FLOW_RUN, IN_BACKGROUND])
def test_a_lost_lease_is_looked_at_before_all_else(policy: list[Rule]) -> None:
    completed = task_run(StateType.COMPLETED, data='{"type":"reference"}')

    decision = decide(
        policy, transition(completed, StateType.RUNNING, flow_run=PAUSED, lease_id="a", held_lease_id="b")
    )

    assert decision.status is OrchestrationStatus.ABORT
    assert (decision.reason or "").startswith("This lease is no longer held")


def test_a_second_claim_on_a_background_run_is_aborted_before_its_end_is_looked_at() -> None:
    cancelled = task_run(StateType.CANCELLED, run_count=3)

    decision = decide(IN_BACKGROUND, transition(cancelled, StateType.PENDING))

    assert decision == Decision(OrchestrationStatus.ABORT, None, "The run is CANCELLED: it can not be claimed again.")

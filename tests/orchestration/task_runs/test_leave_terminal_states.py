"""When a task run may leave a terminal state."""

import pytest

from db.enums import TERMINAL, StateType
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.task_runs.leave_terminal_states import leave_terminal_states
from resolvers.orchestration.transition import Effects, OrchestrationStatus
from tests.builders.transitions import flow_run_facts, propose, task_run, transition

TERMINAL_STATES = sorted(TERMINAL)
RESTARTED_STATES = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]
OUTCOME_STATES = [StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED]
FORBIDDEN_STATES = [StateType.CRASHED, StateType.PAUSED, StateType.CANCELLING]

PERSISTED = ['{"type":"reference"}', '{"type":"literal"}', '{"type":null}', '{"value":1}', '"text"', "7", "true", "[0]"]
UNPERSISTED = [None, "null", "{}", '""', "0", "0.0", "false", "[]", '{"type":"unpersisted"}']


@pytest.mark.parametrize("entering", RESTARTED_STATES)
@pytest.mark.parametrize("leaving", TERMINAL_STATES)
def test_a_terminal_run_may_restart_with_its_run_count_reset(leaving: StateType, entering: StateType) -> None:
    proposed = propose(entering)

    decision = decide([leave_terminal_states], transition(task_run(leaving, run_count=3), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed, effects=Effects(run_count=0))


@pytest.mark.parametrize("entering", OUTCOME_STATES)
@pytest.mark.parametrize("leaving", TERMINAL_STATES)
def test_a_terminal_run_may_change_its_outcome_and_keeps_its_count(leaving: StateType, entering: StateType) -> None:
    proposed = propose(entering)

    decision = decide([leave_terminal_states], transition(task_run(leaving, run_count=3), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize("entering", FORBIDDEN_STATES)
@pytest.mark.parametrize("leaving", TERMINAL_STATES)
def test_a_terminal_run_cannot_become_crashed_paused_or_cancelling(leaving: StateType, entering: StateType) -> None:
    decision = decide([leave_terminal_states], transition(task_run(leaving), entering))

    assert decision == Decision(
        OrchestrationStatus.ABORT, None, f"The task run is {leaving.value} and cannot become {entering.value}."
    )


@pytest.mark.parametrize("data", UNPERSISTED)
def test_a_completed_run_without_a_persisted_result_may_run_again(data: str | None) -> None:
    decision = decide([leave_terminal_states], transition(task_run(StateType.COMPLETED, data=data), StateType.RUNNING))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING), effects=Effects(run_count=0))


@pytest.mark.parametrize("data", PERSISTED)
@pytest.mark.parametrize("entering", [*RESTARTED_STATES, *OUTCOME_STATES])
def test_a_completed_run_with_a_persisted_result_does_not_change(entering: StateType, data: str) -> None:
    decision = decide([leave_terminal_states], transition(task_run(StateType.COMPLETED, data=data), entering))

    assert decision == Decision(
        OrchestrationStatus.REJECT,
        None,
        "The task run is COMPLETED with a persisted result and cannot change its state.",
    )


@pytest.mark.parametrize("entering", FORBIDDEN_STATES)
def test_forbidden_states_are_aborted_even_with_a_persisted_result(entering: StateType) -> None:
    decision = decide([leave_terminal_states], transition(task_run(StateType.COMPLETED, data=PERSISTED[0]), entering))

    assert (decision.status, decision.state) == (OrchestrationStatus.ABORT, None)


@pytest.mark.parametrize("leaving", [each for each in TERMINAL_STATES if each is not StateType.COMPLETED])
def test_the_data_of_an_unsuccessful_run_is_not_a_persisted_result(leaving: StateType) -> None:
    decision = decide([leave_terminal_states], transition(task_run(leaving, data=PERSISTED[0]), StateType.RUNNING))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING), effects=Effects(run_count=0))


@pytest.mark.parametrize("name", [None, "Mine"])
def test_a_run_whose_flow_run_restarted_is_always_named_retrying(name: str | None) -> None:
    rerun = transition(
        task_run(StateType.FAILED),
        propose(StateType.RUNNING, name=name, cache_key="k"),
        flow_run=flow_run_facts(StateType.RUNNING, run_count=2),
        flow_run_run_count=1,
    )

    decision = decide([leave_terminal_states], rerun)

    retrying = propose(StateType.RUNNING, name="Retrying", cache_key="k")
    assert decision == Decision(OrchestrationStatus.ACCEPT, retrying, effects=Effects(run_count=0))


def test_a_run_whose_flow_run_did_not_restart_keeps_its_requested_name() -> None:
    rerun = transition(
        task_run(StateType.FAILED),
        propose(StateType.RUNNING, name="Mine"),
        flow_run=flow_run_facts(StateType.RUNNING, run_count=2),
        flow_run_run_count=2,
    )

    decision = decide([leave_terminal_states], rerun)

    assert decision.state == propose(StateType.RUNNING, name="Mine")


@pytest.mark.parametrize("entering", [StateType.SCHEDULED, StateType.PENDING])
def test_only_running_is_named_retrying(entering: StateType) -> None:
    rerun = transition(task_run(StateType.FAILED), entering, flow_run=flow_run_facts(StateType.RUNNING, run_count=2))

    decision = decide([leave_terminal_states], rerun)

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering), effects=Effects(run_count=0))


@pytest.mark.parametrize("entering", StateType)
@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each not in TERMINAL)])
def test_a_nonterminal_run_is_not_affected(leaving: StateType | None, entering: StateType) -> None:
    proposed = propose(entering)

    decision = decide([leave_terminal_states], transition(task_run(leaving, data=PERSISTED[0]), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)

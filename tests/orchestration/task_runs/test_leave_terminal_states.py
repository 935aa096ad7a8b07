"""When a run that has ended may be taken up again."""

import pytest

from db.enums import TERMINAL, StateType
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.rules.task_runs.leave_terminal_states import leave_terminal_states
from resolvers.orchestration.transition import Effects, OrchestrationStatus
from tests.builders.transitions import propose, task_run, transition, under_flow_run

ENDED = sorted(TERMINAL)
TAKEN_UP = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]
ENDED_OTHERWISE = [StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED]
IMPOSSIBLE = [StateType.CRASHED, StateType.PAUSED, StateType.CANCELLING]

KEPT = ['{"type":"reference"}', '{"type":"literal"}', '{"type":null}', '{"value":1}', '"text"', "7", "true", "[0]"]
NOT_KEPT = [None, "null", "{}", '""', "0", "0.0", "false", "[]", '{"type":"unpersisted"}']


@pytest.mark.parametrize("entering", TAKEN_UP)
@pytest.mark.parametrize("leaving", ENDED)
def test_a_run_that_has_ended_may_start_over_and_counts_its_runs_afresh(
    leaving: StateType, entering: StateType
) -> None:
    proposed = propose(entering)

    decision = decide([leave_terminal_states], transition(task_run(leaving, run_count=3), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed, effects=Effects(run_count=0))


@pytest.mark.parametrize("entering", ENDED_OTHERWISE)
@pytest.mark.parametrize("leaving", ENDED)
def test_a_run_that_has_ended_may_end_otherwise_and_keeps_its_count(leaving: StateType, entering: StateType) -> None:
    proposed = propose(entering)

    decision = decide([leave_terminal_states], transition(task_run(leaving, run_count=3), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)


@pytest.mark.parametrize("entering", IMPOSSIBLE)
@pytest.mark.parametrize("leaving", ENDED)
def test_a_run_that_has_ended_can_not_crash_or_pause_or_be_called_off(leaving: StateType, entering: StateType) -> None:
    decision = decide([leave_terminal_states], transition(task_run(leaving), entering))

    assert decision == Decision(
        OrchestrationStatus.ABORT, None, f"The run has ended ({leaving.value}): it can not become {entering.value}."
    )


@pytest.mark.parametrize("data", NOT_KEPT)
def test_a_completed_run_without_a_result_may_run_again(data: str | None) -> None:
    decision = decide([leave_terminal_states], transition(task_run(StateType.COMPLETED, data=data), StateType.RUNNING))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING), effects=Effects(run_count=0))


@pytest.mark.parametrize("data", KEPT)
@pytest.mark.parametrize("entering", [*TAKEN_UP, *ENDED_OTHERWISE])
def test_a_completed_run_whose_result_is_kept_stays_as_it_is(entering: StateType, data: str) -> None:
    decision = decide([leave_terminal_states], transition(task_run(StateType.COMPLETED, data=data), entering))

    assert decision == Decision(OrchestrationStatus.REJECT, None, "The run is COMPLETED and its result is kept.")


@pytest.mark.parametrize("entering", IMPOSSIBLE)
def test_what_is_impossible_after_the_end_is_aborted_even_where_a_result_is_kept(entering: StateType) -> None:
    decision = decide([leave_terminal_states], transition(task_run(StateType.COMPLETED, data=KEPT[0]), entering))

    assert (decision.status, decision.state) == (OrchestrationStatus.ABORT, None)


@pytest.mark.parametrize("leaving", [each for each in ENDED if each is not StateType.COMPLETED])
def test_the_data_of_a_run_that_did_not_complete_is_no_result_to_keep(leaving: StateType) -> None:
    decision = decide([leave_terminal_states], transition(task_run(leaving, data=KEPT[0]), StateType.RUNNING))

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(StateType.RUNNING), effects=Effects(run_count=0))


@pytest.mark.parametrize("name", [None, "Mine"])
def test_a_run_whose_flow_run_has_begun_anew_runs_as_retrying_whatever_its_name_was_to_be(name: str | None) -> None:
    again = transition(
        task_run(StateType.FAILED),
        propose(StateType.RUNNING, name=name, cache_key="k"),
        flow_run=under_flow_run(StateType.RUNNING, run_count=2),
        flow_run_run_count=1,
    )

    decision = decide([leave_terminal_states], again)

    retrying = propose(StateType.RUNNING, name="Retrying", cache_key="k")
    assert decision == Decision(OrchestrationStatus.ACCEPT, retrying, effects=Effects(run_count=0))


def test_a_run_whose_flow_run_is_still_the_same_keeps_the_name_it_asked_for() -> None:
    again = transition(
        task_run(StateType.FAILED),
        propose(StateType.RUNNING, name="Mine"),
        flow_run=under_flow_run(StateType.RUNNING, run_count=2),
        flow_run_run_count=2,
    )

    decision = decide([leave_terminal_states], again)

    assert decision.state == propose(StateType.RUNNING, name="Mine")


@pytest.mark.parametrize("entering", [StateType.SCHEDULED, StateType.PENDING])
def test_only_running_is_named_retrying(entering: StateType) -> None:
    again = transition(task_run(StateType.FAILED), entering, flow_run=under_flow_run(StateType.RUNNING, run_count=2))

    decision = decide([leave_terminal_states], again)

    assert decision == Decision(OrchestrationStatus.ACCEPT, propose(entering), effects=Effects(run_count=0))


@pytest.mark.parametrize("entering", StateType)
@pytest.mark.parametrize("leaving", [None, *(each for each in StateType if each not in TERMINAL)])
def test_a_run_that_has_not_ended_is_none_of_its_business(leaving: StateType | None, entering: StateType) -> None:
    proposed = propose(entering)

    decision = decide([leave_terminal_states], transition(task_run(leaving, data=KEPT[0]), proposed))

    assert decision == Decision(OrchestrationStatus.ACCEPT, proposed)

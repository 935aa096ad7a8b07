"""The statistics of a run after it enters a state, whichever rule set the state."""

import re

import pytest

from db.enums import TERMINAL, StateType
from db.records import StateDetails
from resolvers.transitions.enter_state import enter_state
from tests.builders.transitions import NOW, flow_run, in_seconds, propose, task_run

TERMINAL_STATES = sorted(TERMINAL)
NONTERMINAL_STATES = [each for each in StateType if each not in TERMINAL]
NOT_RUNNING = [each for each in StateType if each is not StateType.RUNNING]
NOT_SCHEDULED = [each for each in StateType if each is not StateType.SCHEDULED]

EARLIER = in_seconds(-60)
LATER = in_seconds(60)


@pytest.mark.parametrize("leaving", [None, *StateType])
@pytest.mark.parametrize("entering", StateType)
def test_a_run_shows_the_state_that_it_has_entered(leaving: StateType | None, entering: StateType) -> None:
    run = task_run(leaving, since=EARLIER, created=EARLIER, updated=EARLIER)

    state = enter_state(run, propose(entering, name="Mine", message="Why", data="[1]"), NOW)

    assert run.state is state
    assert (run.state_id, run.state_type, run.state_name, run.state_timestamp) == (state.id, entering, "Mine", NOW)
    assert (state.run_id, state.type, state.name, state.timestamp) == (run.id, entering, "Mine", NOW)
    assert (state.message, state.data) == ("Why", "[1]")
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", state.id)
    assert (run.created, run.updated) == (EARLIER, NOW)


def test_an_empty_name_stays_empty() -> None:
    run = task_run()

    enter_state(run, propose(StateType.RUNNING, name=""), NOW)

    assert run.state_name == ""


def test_the_transition_id_is_stored_with_its_state() -> None:
    state = enter_state(task_run(), propose(StateType.RUNNING, transition_id="a"), NOW)

    assert (state.transition_id, state.details.transition_id) == ("a", "a")


def test_a_substitute_state_stores_the_requested_transition_id() -> None:
    state = enter_state(task_run(), propose(StateType.PAUSED, name="NotReady"), NOW, transition_id="a")

    assert (state.transition_id, state.details.transition_id) == ("a", None)


def test_a_background_runs_details_name_only_the_run_despite_the_proposal() -> None:
    run = task_run()

    state = enter_state(run, propose(StateType.RUNNING, flow_run_id="other", task_run_id="other", cache_key="k"), NOW)

    assert state.details == StateDetails(flow_run_id=None, task_run_id=run.id, cache_key="k")


def test_a_task_runs_details_name_the_run_and_its_flow_run() -> None:
    run = task_run(flow_run_id="the flow run")

    state = enter_state(run, propose(StateType.RUNNING, task_run_id="other"), NOW)

    assert state.details == StateDetails(flow_run_id="the flow run", task_run_id=run.id)


@pytest.mark.parametrize("parent", [None, "the parent"])
def test_a_flow_runs_details_name_it_and_its_parent_task_run(parent: str | None) -> None:
    run = flow_run(parent_task_run_id=parent)

    state = enter_state(run, propose(StateType.RUNNING, flow_run_id="other", task_run_id="other"), NOW)

    assert state.details == StateDetails(flow_run_id=run.id, task_run_id=parent)


def test_the_proposal_is_not_modified() -> None:
    proposed = propose(StateType.SCHEDULED)

    enter_state(task_run(flow_run_id="the flow run"), proposed, NOW)

    assert proposed == propose(StateType.SCHEDULED)


def test_the_first_running_state_sets_the_start_time() -> None:
    run = task_run(StateType.PENDING)

    enter_state(run, propose(StateType.RUNNING), NOW)

    assert run.start_time == NOW


@pytest.mark.parametrize("leaving", StateType)
def test_running_again_keeps_the_start_time(leaving: StateType) -> None:
    run = task_run(leaving, start_time=EARLIER)

    enter_state(run, propose(StateType.RUNNING), NOW)

    assert run.start_time == EARLIER


@pytest.mark.parametrize("entering", NOT_RUNNING)
@pytest.mark.parametrize("started", [None, EARLIER])
def test_no_other_state_sets_or_clears_the_start_time(entering: StateType, started: str | None) -> None:
    run = task_run(StateType.PENDING, start_time=started)

    enter_state(run, propose(entering), NOW)

    assert run.start_time == started


@pytest.mark.parametrize("entering", TERMINAL_STATES)
def test_a_terminal_state_sets_the_end_time_of_a_started_run(entering: StateType) -> None:
    run = task_run(StateType.RUNNING, since=EARLIER, start_time=EARLIER)

    enter_state(run, propose(entering), NOW)

    assert run.end_time == NOW


@pytest.mark.parametrize("entering", TERMINAL_STATES)
@pytest.mark.parametrize("leaving", [None, StateType.SCHEDULED, StateType.PENDING, StateType.PAUSED])
def test_a_run_that_never_ran_has_no_end_time(leaving: StateType | None, entering: StateType) -> None:
    run = task_run(leaving)

    enter_state(run, propose(entering), NOW)

    assert run.end_time is None


@pytest.mark.parametrize("entering", TERMINAL_STATES)
@pytest.mark.parametrize("leaving", TERMINAL_STATES)
def test_another_terminal_state_keeps_the_first_end_time(leaving: StateType, entering: StateType) -> None:
    run = task_run(leaving, start_time=in_seconds(-120), end_time=EARLIER)

    enter_state(run, propose(entering), NOW)

    assert run.end_time == EARLIER


@pytest.mark.parametrize("entering", NONTERMINAL_STATES)
@pytest.mark.parametrize("leaving", TERMINAL_STATES)
def test_leaving_a_terminal_state_clears_the_end_time(leaving: StateType, entering: StateType) -> None:
    run = task_run(leaving, start_time=in_seconds(-120), end_time=EARLIER)

    enter_state(run, propose(entering), NOW)

    assert run.end_time is None


@pytest.mark.parametrize("entering", NONTERMINAL_STATES)
def test_a_nonterminal_state_sets_no_end_time(entering: StateType) -> None:
    run = task_run(StateType.RUNNING, since=EARLIER, start_time=EARLIER)

    enter_state(run, propose(entering), NOW)

    assert run.end_time is None


@pytest.mark.parametrize("entering", StateType)
def test_any_state_after_running_adds_the_time_spent_running(entering: StateType) -> None:
    run = task_run(StateType.RUNNING, since=in_seconds(-1.25), total_run_time_seconds=10.5)

    enter_state(run, propose(entering), NOW)

    assert run.total_run_time_seconds == 11.75


@pytest.mark.parametrize("entering", StateType)
@pytest.mark.parametrize("leaving", [None, *NOT_RUNNING])
def test_time_spent_in_other_states_is_not_run_time(leaving: StateType | None, entering: StateType) -> None:
    run = task_run(leaving, since=EARLIER, total_run_time_seconds=10.5)

    enter_state(run, propose(entering), NOW)

    assert run.total_run_time_seconds == 10.5


def test_after_the_clock_was_set_back_a_state_directly_follows_the_previous_one() -> None:
    since = "2030-01-01T13:00:00.000000Z"
    run = task_run(StateType.RUNNING, since=since, start_time=since, total_run_time_seconds=10.5)

    state = enter_state(run, propose(StateType.COMPLETED), "2030-01-01T12:00:00.000000Z")

    assert state.timestamp == run.end_time == run.updated == "2030-01-01T13:00:00.000001Z"
    assert run.total_run_time_seconds == 10.500001


def test_a_run_that_is_running_since_the_future_has_no_negative_run_time() -> None:
    run = task_run(StateType.RUNNING, since=in_seconds(2), total_run_time_seconds=10.5)
    run.read_at = NOW

    assert run.estimated_run_time_seconds == 10.5


@pytest.mark.parametrize("entering", NOT_SCHEDULED)
def test_the_first_state_sets_the_expected_start_time(entering: StateType) -> None:
    run = task_run()

    enter_state(run, propose(entering, scheduled_time=LATER), NOW)

    assert run.expected_start_time == NOW


def test_a_run_created_scheduled_is_expected_at_its_scheduled_time() -> None:
    run = task_run()

    enter_state(run, propose(StateType.SCHEDULED, scheduled_time=LATER), NOW)

    assert run.expected_start_time == LATER


@pytest.mark.parametrize("entering", StateType)
def test_later_states_keep_the_expected_start_time(entering: StateType) -> None:
    run = task_run(StateType.SCHEDULED, expected_start_time=EARLIER)

    enter_state(run, propose(entering, scheduled_time=LATER), NOW)

    assert run.expected_start_time == EARLIER


@pytest.mark.parametrize("leaving", [None, *StateType])
def test_a_scheduled_run_has_a_next_scheduled_start_time(leaving: StateType | None) -> None:
    run = task_run(leaving, next_scheduled_start_time=EARLIER if leaving is StateType.SCHEDULED else None)

    enter_state(run, propose(StateType.SCHEDULED, scheduled_time=LATER), NOW)

    assert run.next_scheduled_start_time == LATER


@pytest.mark.parametrize("entering", NOT_SCHEDULED)
def test_leaving_scheduled_clears_the_next_scheduled_start_time(entering: StateType) -> None:
    run = task_run(StateType.SCHEDULED, next_scheduled_start_time=LATER)

    enter_state(run, propose(entering, scheduled_time=LATER), NOW)

    assert run.next_scheduled_start_time is None


def test_a_scheduled_state_without_a_time_is_due_now() -> None:
    run = task_run()

    state = enter_state(run, propose(StateType.SCHEDULED), NOW)

    assert state.details.scheduled_time == NOW
    assert (run.expected_start_time, run.next_scheduled_start_time) == (NOW, NOW)


@pytest.mark.parametrize("entering", NOT_SCHEDULED)
def test_no_other_state_gets_a_scheduled_time(entering: StateType) -> None:
    state = enter_state(task_run(), propose(entering), NOW)

    assert state.details.scheduled_time is None


@pytest.mark.parametrize("leaving", [None, *StateType])
def test_every_running_state_increments_the_run_count(leaving: StateType | None) -> None:
    run = task_run(leaving, run_count=2)

    enter_state(run, propose(StateType.RUNNING), NOW)

    assert run.run_count == 3


@pytest.mark.parametrize("entering", NOT_RUNNING)
@pytest.mark.parametrize("leaving", [None, *StateType])
def test_no_other_state_changes_the_run_count(leaving: StateType | None, entering: StateType) -> None:
    run = task_run(leaving, run_count=2)

    enter_state(run, propose(entering), NOW)

    assert run.run_count == 2


def test_a_resumed_flow_run_keeps_its_run_count() -> None:
    run = flow_run(StateType.SCHEDULED, run_count=1, resuming=True)

    enter_state(run, propose(StateType.RUNNING), NOW)

    assert (run.run_count, run.resuming) == (1, False)


@pytest.mark.parametrize("entering", TERMINAL_STATES)
def test_a_flow_run_that_ends_is_no_longer_resuming(entering: StateType) -> None:
    run = flow_run(StateType.SCHEDULED, run_count=1, resuming=True)

    enter_state(run, propose(entering), NOW)

    assert (run.run_count, run.resuming) == (1, False)


@pytest.mark.parametrize("entering", [StateType.SCHEDULED, StateType.PENDING, StateType.PAUSED, StateType.CANCELLING])
def test_a_flow_run_is_resuming_until_it_runs_or_ends(entering: StateType) -> None:
    run = flow_run(StateType.SCHEDULED, run_count=1, resuming=True)

    enter_state(run, propose(entering), NOW)

    assert (run.run_count, run.resuming) == (1, True)


def test_the_statistics_of_a_run_that_fails_and_then_completes() -> None:
    run = task_run()

    enter_state(run, propose(StateType.SCHEDULED, scheduled_time=in_seconds(5)), NOW)
    enter_state(run, propose(StateType.PENDING), in_seconds(6))
    enter_state(run, propose(StateType.RUNNING), in_seconds(7))
    enter_state(run, propose(StateType.FAILED), in_seconds(10))
    enter_state(run, propose(StateType.SCHEDULED, scheduled_time=in_seconds(20)), in_seconds(11))
    enter_state(run, propose(StateType.RUNNING), in_seconds(20))
    enter_state(run, propose(StateType.COMPLETED), in_seconds(24.5))

    assert (run.expected_start_time, run.next_scheduled_start_time) == (in_seconds(5), None)
    assert (run.start_time, run.end_time) == (in_seconds(7), in_seconds(24.5))
    assert (run.run_count, run.total_run_time_seconds) == (2, 7.5)
    assert (run.estimated_run_time_seconds, run.estimated_start_time_delta_seconds) == (7.5, 2.0)

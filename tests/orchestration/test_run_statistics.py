"""What a run's figures say after a state, whichever rule made it."""

import re

import pytest

from db.enums import TERMINAL, StateType
from db.records import StateDetails
from resolvers.orchestration.decide import enter
from tests.builders.transitions import NOW, flow_run, in_seconds, propose, task_run

ENDED = sorted(TERMINAL)
NOT_ENDED = [each for each in StateType if each not in TERMINAL]
NOT_RUNNING = [each for each in StateType if each is not StateType.RUNNING]
NOT_SCHEDULED = [each for each in StateType if each is not StateType.SCHEDULED]

EARLIER = in_seconds(-60)
LATER = in_seconds(60)


# --- the state ---


@pytest.mark.parametrize("leaving", [None, *StateType])
@pytest.mark.parametrize("entering", StateType)
def test_a_run_shows_the_state_that_it_has_entered(leaving: StateType | None, entering: StateType) -> None:
    run = task_run(leaving, since=EARLIER, created=EARLIER, updated=EARLIER)

    state = enter(run, propose(entering, name="Mine", message="Why", data="[1]"), NOW)

    assert run.state is state
    assert (run.state_id, run.state_type, run.state_name, run.state_timestamp) == (state.id, entering, "Mine", NOW)
    assert (state.run_id, state.type, state.name, state.timestamp) == (run.id, entering, "Mine", NOW)
    assert (state.message, state.data) == ("Why", "[1]")
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", state.id)
    assert (run.created, run.updated) == (EARLIER, NOW)


def test_an_empty_name_stays_empty() -> None:
    run = task_run()

    enter(run, propose(StateType.RUNNING, name=""), NOW)

    assert run.state_name == ""


def test_the_transition_is_kept_with_its_state() -> None:
    state = enter(task_run(), propose(StateType.RUNNING, transition_id="a"), NOW)

    assert (state.transition_id, state.details.transition_id) == ("a", "a")


def test_a_state_that_stands_in_for_another_keeps_the_transition_that_was_asked_for() -> None:
    state = enter(task_run(), propose(StateType.PAUSED, name="NotReady"), NOW, transition_id="a")

    assert (state.transition_id, state.details.transition_id) == ("a", None)


# --- state details ---


def test_a_background_runs_state_names_the_run_and_no_flow_run_whatever_the_proposal_says() -> None:
    run = task_run()

    state = enter(run, propose(StateType.RUNNING, flow_run_id="other", task_run_id="other", cache_key="k"), NOW)

    assert state.details == StateDetails(flow_run_id=None, task_run_id=run.id, cache_key="k")


def test_the_state_of_a_task_run_in_a_flow_run_names_both() -> None:
    run = task_run(flow_run_id="the flow run")

    state = enter(run, propose(StateType.RUNNING, task_run_id="other"), NOW)

    assert state.details == StateDetails(flow_run_id="the flow run", task_run_id=run.id)


@pytest.mark.parametrize("parent", [None, "the parent"])
def test_a_flow_runs_state_names_it_and_the_task_run_behind_which_it_stands(parent: str | None) -> None:
    run = flow_run(parent_task_run_id=parent)

    state = enter(run, propose(StateType.RUNNING, flow_run_id="other", task_run_id="other"), NOW)

    assert state.details == StateDetails(flow_run_id=run.id, task_run_id=parent)


def test_the_proposal_itself_is_left_as_it_was() -> None:
    proposed = propose(StateType.SCHEDULED)

    enter(task_run(flow_run_id="the flow run"), proposed, NOW)

    assert proposed == propose(StateType.SCHEDULED)


# --- start_time ---


def test_the_first_running_starts_the_run() -> None:
    run = task_run(StateType.PENDING)

    enter(run, propose(StateType.RUNNING), NOW)

    assert run.start_time == NOW


@pytest.mark.parametrize("leaving", StateType)
def test_running_again_does_not_move_the_start(leaving: StateType) -> None:
    run = task_run(leaving, start_time=EARLIER)

    enter(run, propose(StateType.RUNNING), NOW)

    assert run.start_time == EARLIER


@pytest.mark.parametrize("entering", NOT_RUNNING)
@pytest.mark.parametrize("started", [None, EARLIER])
def test_no_other_state_starts_a_run_or_takes_its_start_back(entering: StateType, started: str | None) -> None:
    run = task_run(StateType.PENDING, start_time=started)

    enter(run, propose(entering), NOW)

    assert run.start_time == started


# --- end_time ---


@pytest.mark.parametrize("entering", ENDED)
def test_a_run_that_has_run_ends_with_a_terminal_state(entering: StateType) -> None:
    run = task_run(StateType.RUNNING, since=EARLIER, start_time=EARLIER)

    enter(run, propose(entering), NOW)

    assert run.end_time == NOW


@pytest.mark.parametrize("entering", ENDED)
@pytest.mark.parametrize("leaving", [None, StateType.SCHEDULED, StateType.PENDING, StateType.PAUSED])
def test_a_run_that_never_ran_has_no_end(leaving: StateType | None, entering: StateType) -> None:
    run = task_run(leaving)

    enter(run, propose(entering), NOW)

    assert run.end_time is None


@pytest.mark.parametrize("entering", ENDED)
@pytest.mark.parametrize("leaving", ENDED)
def test_ending_otherwise_keeps_the_first_end(leaving: StateType, entering: StateType) -> None:
    run = task_run(leaving, start_time=in_seconds(-120), end_time=EARLIER)

    enter(run, propose(entering), NOW)

    assert run.end_time == EARLIER


@pytest.mark.parametrize("entering", NOT_ENDED)
@pytest.mark.parametrize("leaving", ENDED)
def test_a_run_that_is_taken_up_again_has_not_ended(leaving: StateType, entering: StateType) -> None:
    run = task_run(leaving, start_time=in_seconds(-120), end_time=EARLIER)

    enter(run, propose(entering), NOW)

    assert run.end_time is None


@pytest.mark.parametrize("entering", NOT_ENDED)
def test_a_state_that_is_not_terminal_ends_nothing(entering: StateType) -> None:
    run = task_run(StateType.RUNNING, since=EARLIER, start_time=EARLIER)

    enter(run, propose(entering), NOW)

    assert run.end_time is None


# --- total_run_time ---


@pytest.mark.parametrize("entering", StateType)
def test_whatever_follows_running_adds_the_time_spent_in_it(entering: StateType) -> None:
    run = task_run(StateType.RUNNING, since=in_seconds(-1.25), total_run_time_seconds=10.5)

    enter(run, propose(entering), NOW)

    assert run.total_run_time_seconds == 11.75


@pytest.mark.parametrize("entering", StateType)
@pytest.mark.parametrize("leaving", [None, *NOT_RUNNING])
def test_time_spent_in_another_state_does_not_count(leaving: StateType | None, entering: StateType) -> None:
    run = task_run(leaving, since=EARLIER, total_run_time_seconds=10.5)

    enter(run, propose(entering), NOW)

    assert run.total_run_time_seconds == 10.5


def test_the_run_time_is_negative_where_the_clock_was_set_back() -> None:
    run = task_run(StateType.RUNNING, since=in_seconds(2))

    enter(run, propose(StateType.COMPLETED), NOW)

    assert run.total_run_time_seconds == -2.0


# --- expected_start_time ---


@pytest.mark.parametrize("entering", NOT_SCHEDULED)
def test_a_run_is_expected_when_its_first_state_is_made(entering: StateType) -> None:
    run = task_run()

    enter(run, propose(entering, scheduled_time=LATER), NOW)

    assert run.expected_start_time == NOW


def test_a_run_that_begins_scheduled_is_expected_at_its_scheduled_time() -> None:
    run = task_run()

    enter(run, propose(StateType.SCHEDULED, scheduled_time=LATER), NOW)

    assert run.expected_start_time == LATER


@pytest.mark.parametrize("entering", StateType)
def test_no_later_state_moves_what_was_expected(entering: StateType) -> None:
    run = task_run(StateType.SCHEDULED, expected_start_time=EARLIER)

    enter(run, propose(entering, scheduled_time=LATER), NOW)

    assert run.expected_start_time == EARLIER


# --- next_scheduled_start_time ---


@pytest.mark.parametrize("leaving", [None, *StateType])
def test_a_scheduled_run_says_when_it_is_to_start_next(leaving: StateType | None) -> None:
    run = task_run(leaving, next_scheduled_start_time=EARLIER if leaving is StateType.SCHEDULED else None)

    enter(run, propose(StateType.SCHEDULED, scheduled_time=LATER), NOW)

    assert run.next_scheduled_start_time == LATER


@pytest.mark.parametrize("entering", NOT_SCHEDULED)
def test_a_run_that_is_no_longer_scheduled_has_no_next_start(entering: StateType) -> None:
    run = task_run(StateType.SCHEDULED, next_scheduled_start_time=LATER)

    enter(run, propose(entering, scheduled_time=LATER), NOW)

    assert run.next_scheduled_start_time is None


def test_a_scheduled_state_without_a_time_is_for_now() -> None:
    run = task_run()

    state = enter(run, propose(StateType.SCHEDULED), NOW)

    assert state.details.scheduled_time == NOW
    assert (run.expected_start_time, run.next_scheduled_start_time) == (NOW, NOW)


@pytest.mark.parametrize("entering", NOT_SCHEDULED)
def test_no_other_state_is_given_a_scheduled_time(entering: StateType) -> None:
    state = enter(task_run(), propose(entering), NOW)

    assert state.details.scheduled_time is None


# --- run_count ---


@pytest.mark.parametrize("leaving", [None, *StateType])
def test_every_running_counts_as_a_run(leaving: StateType | None) -> None:
    run = task_run(leaving, run_count=2)

    enter(run, propose(StateType.RUNNING), NOW)

    assert run.run_count == 3


@pytest.mark.parametrize("entering", NOT_RUNNING)
@pytest.mark.parametrize("leaving", [None, *StateType])
def test_no_other_state_changes_the_count(leaving: StateType | None, entering: StateType) -> None:
    run = task_run(leaving, run_count=2)

    enter(run, propose(entering), NOW)

    assert run.run_count == 2


def test_a_flow_run_that_is_resumed_goes_on_with_the_same_run() -> None:
    run = flow_run(StateType.SCHEDULED, run_count=1, resuming=True)

    enter(run, propose(StateType.RUNNING), NOW)

    assert (run.run_count, run.resuming) == (1, False)


@pytest.mark.parametrize("entering", ENDED)
def test_a_flow_run_that_ends_is_no_longer_being_resumed(entering: StateType) -> None:
    run = flow_run(StateType.SCHEDULED, run_count=1, resuming=True)

    enter(run, propose(entering), NOW)

    assert (run.run_count, run.resuming) == (1, False)


@pytest.mark.parametrize("entering", [StateType.SCHEDULED, StateType.PENDING, StateType.PAUSED, StateType.CANCELLING])
def test_a_flow_run_is_being_resumed_until_it_runs_or_ends(entering: StateType) -> None:
    run = flow_run(StateType.SCHEDULED, run_count=1, resuming=True)

    enter(run, propose(entering), NOW)

    assert (run.run_count, run.resuming) == (1, True)


# --- a life ---


def test_the_figures_of_a_run_that_fails_is_taken_up_again_and_completes() -> None:
    run = task_run()

    enter(run, propose(StateType.SCHEDULED, scheduled_time=in_seconds(5)), NOW)
    enter(run, propose(StateType.PENDING), in_seconds(6))
    enter(run, propose(StateType.RUNNING), in_seconds(7))
    enter(run, propose(StateType.FAILED), in_seconds(10))
    enter(run, propose(StateType.SCHEDULED, scheduled_time=in_seconds(20)), in_seconds(11))
    enter(run, propose(StateType.RUNNING), in_seconds(20))
    enter(run, propose(StateType.COMPLETED), in_seconds(24.5))

    assert (run.expected_start_time, run.next_scheduled_start_time) == (in_seconds(5), None)
    assert (run.start_time, run.end_time) == (in_seconds(7), in_seconds(24.5))
    assert (run.run_count, run.total_run_time_seconds) == (2, 7.5)
    assert (run.estimated_run_time_seconds, run.estimated_start_time_delta_seconds) == (7.5, 2.0)

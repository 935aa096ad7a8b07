"""The checker accepts valid evidence and finds each injected violation."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos.checker import CHECKS, violations
from tests.chaos.evidence import (
    DATABASE,
    Absence,
    Attempt,
    Claim,
    ClockStep,
    Creation,
    Evidence,
    Run,
    State,
    Verdict,
    Wait,
)
from tests.chaos.lease_checks import live_leases, times_without_a_server
from tests.chaos.started_evidence import STARTED_VIOLATIONS, valid_started_evidence

LEASE_SECONDS = 2.0


def valid_evidence() -> Evidence:
    """Two runs: `one` lost its first worker and was retried; `two` waited for the slot of `one`."""
    evidence = Evidence(["run-1", "run-2"], LEASE_SECONDS, {"scarce": 1})
    evidence.creations = [
        Creation("run-1", "one", True),
        Creation("run-1", "one", False),
        Creation("run-2", "two", True),
    ]
    evidence.runs = [
        Run(
            "one",
            "run-1",
            1,
            ("scarce",),
            (
                State("SCHEDULED", "Scheduled", 0.0, scheduled_at=0.0),
                State("RUNNING", "Running", 1.0, "t1"),
                State("SCHEDULED", "AwaitingRetry", 3.1, scheduled_at=3.2),
                State("RUNNING", "Retrying", 3.4, "t2"),
                State("FAILED", "Failed", 4.0, "t3"),
            ),
            run_count=2,
        ),
        Run(
            "two",
            "run-2",
            0,
            ("scarce",),
            (
                State("SCHEDULED", "Scheduled", 0.0, scheduled_at=4.0),
                State("PENDING", "Pending", 4.2, "u1"),
                State("RUNNING", "Running", 4.3, "u2"),
                State("COMPLETED", "Completed", 5.0, "u3"),
            ),
            run_count=1,
        ),
    ]
    evidence.claims = [
        Claim(0.9, "w1", "one", "a", 1),
        Claim(3.3, "w2", "one", "b", 2),
        Claim(4.1, "w1", "two", "c", 1),
    ]
    for run, lease, kind, transition, sent_at, status, created in (
        ("one", "a", "RUNNING", "t1", 0.95, "ACCEPT", True),
        ("one", "a", "RENEW", None, 1.0, "HELD", False),
        ("one", "b", "RUNNING", "t2", 3.35, "ACCEPT", True),
        ("one", "a", "COMPLETED", "late", 3.5, "ABORT", False),
        ("one", "b", "FAILED", "t3", 3.9, "ACCEPT", True),
        ("two", "c", "PENDING", "u1", 4.15, "ACCEPT", True),
        ("two", "c", "RUNNING", "u2", 4.25, "ACCEPT", True),
        ("two", "c", "COMPLETED", "u3", 4.9, "ACCEPT", False),
    ):
        evidence.attempts.append(Attempt(sent_at, run, lease, kind, transition))
        evidence.verdicts.append(Verdict(sent_at, run, lease, kind, status, created, transition, sent_at + 0.1))
    evidence.servers = ["server-0", "server-1"]
    return evidence


def change_state(evidence: Evidence, run: int, index: int, **changes: object) -> None:
    states = list(evidence.runs[run].states)
    states[index] = replace(states[index], **changes)
    evidence.runs[run] = replace(evidence.runs[run], states=tuple(states))


def change_states(evidence: Evidence, run: int, select: Callable[[tuple[State, ...]], tuple[State, ...]]) -> None:
    evidence.runs[run] = replace(evidence.runs[run], states=select(evidence.runs[run].states))


def test_valid_evidence_has_no_violations() -> None:
    assert violations(valid_evidence()) == []


def inject_an_unfinished_run(evidence: Evidence) -> None:
    change_states(evidence, 1, lambda states: states[:3])
    del evidence.verdicts[-1]


def inject_a_lost_creation(evidence: Evidence) -> None:
    evidence.planned.append("run-3")
    evidence.creations.append(Creation("run-3", "three", True))


def inject_a_duplicate_run(evidence: Evidence) -> None:
    evidence.runs.append(replace(evidence.runs[1], id="double"))


def inject_a_creation_reported_twice(evidence: Evidence) -> None:
    evidence.creations.append(Creation("run-1", "one", True))


def inject_an_aborted_report_that_was_sent_once(evidence: Evidence) -> None:
    evidence.verdicts[0] = replace(evidence.verdicts[0], status="ABORT", state_created=False, received_at=3.5)


def inject_an_abort_of_a_repeated_final_report(evidence: Evidence) -> None:
    change_state(evidence, 0, 2, transition="failed")
    evidence.attempts.append(Attempt(3.05, "one", "a", "FAILED", "failed"))
    repeat(evidence, "FAILED", "failed", "a", sent_at=3.6)


def inject_an_abort_under_a_lease_that_was_held(evidence: Evidence) -> None:
    repeat(evidence, "RUNNING", "t1", "a", sent_at=2.0)


def inject_an_abort_without_a_lost_lease(evidence: Evidence) -> None:
    repeat(evidence, "RUNNING", "t2", "b", sent_at=8.0)


def repeat(evidence: Evidence, kind: str, transition: str, lease: str, *, sent_at: float) -> None:
    """Add a request that proposes a state of the run `one` again, with the result ABORT."""
    evidence.attempts.append(Attempt(sent_at, "one", lease, kind, transition))
    evidence.verdicts.append(Verdict(sent_at, "one", lease, kind, "ABORT", False, transition, sent_at + 0.1))


def inject_an_invalid_transition(evidence: Evidence) -> None:
    change_states(evidence, 1, lambda states: (states[0], *states[2:], State("RUNNING", "Running", 6.0, "u1")))


def inject_an_excess_retry(evidence: Evidence) -> None:
    evidence.runs[0] = replace(evidence.runs[0], retries=0)


def inject_a_failure_with_a_retry_left(evidence: Evidence) -> None:
    evidence.runs[0] = replace(evidence.runs[0], retries=2)


def inject_a_run_undeliverable_too_early(evidence: Evidence) -> None:
    change_states(evidence, 1, lambda states: (*states[:2], State("CRASHED", "Undeliverable", 5.0)))
    evidence.verdicts = [each for each in evidence.verdicts if each.transition not in ("u2", "u3")]
    evidence.attempts.append(Attempt(4.9, "two", "c", "RELEASE"))


def inject_a_lost_report(evidence: Evidence) -> None:
    change_state(evidence, 1, 3, transition="another")
    evidence.attempts.append(Attempt(4.9, "two", "c", "COMPLETED", "another"))


def inject_a_refused_report_that_was_written(evidence: Evidence) -> None:
    evidence.verdicts[-1] = replace(evidence.verdicts[-1], status="ABORT")


def inject_a_report_under_a_lost_lease(evidence: Evidence) -> None:
    change_state(evidence, 0, 4, transition="late")
    evidence.verdicts = [each for each in evidence.verdicts if each.transition not in ("t3", "late")]


def inject_a_lease_held_beside_a_later_one(evidence: Evidence) -> None:
    evidence.attempts.append(Attempt(3.5, "one", "a", "ACKNOWLEDGE"))
    evidence.verdicts.append(Verdict(3.5, "one", "a", "ACKNOWLEDGE", "HELD", False))


def inject_two_leases_for_one_delivery(evidence: Evidence) -> None:
    evidence.claims.append(Claim(3.35, "w3", "one", "d", 2))


def inject_a_lease_that_ended_early(evidence: Evidence) -> None:
    change_state(evidence, 0, 2, at=2.8)


def inject_a_delivery_while_another_was_held(evidence: Evidence) -> None:
    evidence.claims.append(Claim(2.5, "w3", "one", "d", 2))
    evidence.claims[1] = replace(evidence.claims[1], attempt=3)


def inject_live_work_lost_after_a_time_without_a_server(evidence: Evidence) -> None:
    interrupt(evidence, Absence("server-0", 1.2, 3.0), Absence("server-1", 1.1, 2.9))


def inject_live_work_lost_after_an_absence_of_the_database(evidence: Evidence) -> None:
    interrupt(evidence, Absence(DATABASE, 1.2, 3.0))


def interrupt(evidence: Evidence, *absences: Absence) -> None:
    """Let the first worker renew the lease of the run `one` every half second, and only the first time with a response."""
    evidence.absences += absences
    evidence.attempts += [Attempt(sent_at, "one", "a", "RENEW") for sent_at in (1.5, 2.0, 2.5, 3.0)]


def inject_a_state_dated_before_the_one_before_it(evidence: Evidence) -> None:
    change_state(evidence, 1, 3, at=4.29)


def inject_a_state_dated_before_its_proposal(evidence: Evidence) -> None:
    change_state(evidence, 1, 1, at=3.6)


def inject_a_state_dated_ahead(evidence: Evidence) -> None:
    change_state(evidence, 1, 3, at=5.6, appeared=(4.9, 5.0))


def inject_an_early_delivery(evidence: Evidence) -> None:
    evidence.claims[2] = replace(evidence.claims[2], at=3.8)


def inject_a_run_above_the_limit(evidence: Evidence) -> None:
    change_state(evidence, 1, 2, at=3.5)


def inject_a_queue_entry(evidence: Evidence) -> None:
    evidence.queued.append("one")


def inject_a_slot(evidence: Evidence) -> None:
    evidence.slots.append("one")


def inject_a_server_error(evidence: Evidence) -> None:
    evidence.faults.append("ERROR")


VIOLATIONS: dict[Callable[[Evidence], None], str] = {
    inject_an_unfinished_run: "every_run_is_terminal",
    inject_a_lost_creation: "every_creation_made_exactly_one_run",
    inject_a_duplicate_run: "every_creation_made_exactly_one_run",
    inject_a_creation_reported_twice: "every_creation_made_exactly_one_run",
    inject_an_invalid_transition: "every_history_has_valid_transitions",
    inject_an_excess_retry: "runs_are_retried_as_often_as_their_policy_allows",
    inject_a_failure_with_a_retry_left: "runs_are_retried_as_often_as_their_policy_allows",
    inject_a_run_undeliverable_too_early: "undeliverable_runs_lost_enough_workers",
    inject_a_lost_report: "responses_agree_with_the_history",
    inject_a_refused_report_that_was_written: "responses_agree_with_the_history",
    inject_an_aborted_report_that_was_sent_once: "responses_agree_with_the_history",
    inject_an_abort_of_a_repeated_final_report: "responses_agree_with_the_history",
    inject_an_abort_under_a_lease_that_was_held: "responses_agree_with_the_history",
    inject_an_abort_without_a_lost_lease: "responses_agree_with_the_history",
    inject_a_report_under_a_lost_lease: "no_write_was_accepted_under_a_lost_lease",
    inject_a_lease_held_beside_a_later_one: "no_run_has_two_live_leases",
    inject_two_leases_for_one_delivery: "no_run_has_two_live_leases",
    inject_a_lease_that_ended_early: "no_lease_ends_early",
    inject_a_delivery_while_another_was_held: "no_lease_ends_early",
    inject_live_work_lost_after_a_time_without_a_server: "live_work_outlasts_times_without_a_server",
    inject_live_work_lost_after_an_absence_of_the_database: "live_work_outlasts_times_without_a_server",
    inject_a_state_dated_before_the_one_before_it: "histories_are_dated_in_order",
    inject_a_state_dated_before_its_proposal: "states_are_dated_when_they_were_written",
    inject_a_state_dated_ahead: "states_are_dated_when_they_were_written",
    inject_an_early_delivery: "nothing_is_delivered_before_it_is_due",
    inject_a_run_above_the_limit: "limits_are_never_exceeded",
    inject_a_queue_entry: "no_queue_entry_or_slot_remains",
    inject_a_slot: "no_queue_entry_or_slot_remains",
    inject_a_server_error: "servers_reported_no_errors",
}


@pytest.mark.parametrize(("inject", "check"), VIOLATIONS.items(), ids=[inject.__name__ for inject in VIOLATIONS])
def test_an_injected_violation_is_found(inject: Callable[[Evidence], None], check: str) -> None:
    evidence = valid_evidence()
    inject(evidence)

    assert check in {found.partition(":")[0] for found in violations(evidence)}


@pytest.mark.parametrize("kind", ["PENDING", "RUNNING"])
def test_a_repeated_report_may_be_aborted_once_its_lease_was_lost(kind: str) -> None:
    evidence = valid_evidence()
    evidence.attempts[0] = replace(evidence.attempts[0], kind=kind)
    evidence.verdicts[0] = replace(evidence.verdicts[0], kind=kind)

    repeat(evidence, kind, "t1", "a", sent_at=3.2)

    assert violations(evidence) == []


def test_work_may_be_lost_in_a_time_without_a_server_if_its_worker_was_paused() -> None:
    evidence = valid_evidence()
    interrupt(evidence, Absence(DATABASE, 1.2, 3.0), Absence("w1", 1.4, 1.6))

    assert violations(evidence) == []


def test_work_may_be_lost_while_one_of_two_servers_is_available() -> None:
    evidence = valid_evidence()
    interrupt(evidence, Absence("server-0", 1.2, 3.0), Absence("server-1", 1.2, 1.4), Absence("server-1", 2.0, 3.0))

    assert times_without_a_server(evidence) == [(1.2, 1.4), (2.0, 3.0)]
    assert live_leases(evidence) == 1
    assert violations(evidence) == []


def test_work_may_be_requeued_if_its_worker_releases_it() -> None:
    evidence = valid_evidence()
    interrupt(evidence, Absence(DATABASE, 1.2, 3.0))
    evidence.attempts.append(Attempt(1.1, "one", "a", "RELEASE"))

    assert violations(evidence) == []


def test_work_may_be_lost_if_its_worker_stops_renewing() -> None:
    evidence = valid_evidence()
    interrupt(evidence, Absence(DATABASE, 1.2, 3.0))
    evidence.attempts = [each for each in evidence.attempts if each.sent_at != 2.0 or each.kind != "RENEW"]

    assert violations(evidence) == []


def test_work_may_be_lost_if_a_renewal_after_the_absence_gets_no_response() -> None:
    evidence = valid_evidence()
    interrupt(evidence, Absence(DATABASE, 1.2, 1.9))

    assert violations(evidence) == []


def test_a_stepped_clock_may_date_states_and_deliver_runs_by_what_it_showed() -> None:
    evidence = valid_evidence()
    evidence.clock_steps = [ClockStep(4.0, 300.0), ClockStep(4.5, 0.0)]
    change_state(evidence, 1, 0, scheduled_at=304.0)
    for index, appeared in ((1, (4.1, 4.2)), (2, (4.2, 4.3)), (3, (4.9, 5.0))):
        change_state(evidence, 1, index, at=304.3 + index / 1e6, appeared=appeared)

    assert violations(evidence) == []


def test_a_stepped_clock_is_no_excuse_before_it_is_stepped() -> None:
    evidence = valid_evidence()
    evidence.clock_steps = [ClockStep(4.25, 300.0)]
    change_state(evidence, 1, 0, scheduled_at=304.0)

    (found,) = violations(evidence)

    assert found == "nothing_is_delivered_before_it_is_due: two was delivered 299.900 s early"


def test_valid_evidence_of_started_claims_has_no_violations() -> None:
    assert violations(valid_started_evidence()) == []


@pytest.mark.parametrize(
    ("inject", "check"), STARTED_VIOLATIONS.items(), ids=[inject.__name__ for inject in STARTED_VIOLATIONS]
)
def test_a_violation_around_started_claims_and_waits_is_found(inject: Callable[[Evidence], None], check: str) -> None:
    evidence = valid_started_evidence()
    inject(evidence)

    assert check in {found.partition(":")[0] for found in violations(evidence)}


def test_a_waiting_query_may_miss_an_end_while_a_server_is_absent() -> None:
    evidence = valid_started_evidence()
    evidence.waits.insert(1, Wait(3.1, 13.1, ["two"], []))
    evidence.absences.append(Absence("server-0", 2.0, 3.0))

    assert violations(evidence) == []


def test_a_paused_worker_may_receive_a_delivery_after_the_run_was_scheduled_again() -> None:
    evidence = valid_started_evidence()
    change_state(evidence, 0, 2, scheduled_at=2.3)
    evidence.claims.append(Claim(2.15, "w3", "one", "10", 1, is_started=True, state_type="RUNNING", run_count=1))

    assert violations(evidence) == []


def test_a_started_run_that_its_worker_releases_is_requeued_uncounted() -> None:
    evidence = valid_started_evidence()
    change_state(evidence, 1, 2, type="SCHEDULED", name="AwaitingRedelivery", at=1.7)
    change_states(
        evidence,
        1,
        lambda states: (
            *states,
            State("RUNNING", "Running", 3.0, id="34"),
            State("COMPLETED", "Completed", 3.2, "t2", id="35"),
        ),
    )
    evidence.claims.append(Claim(3.1, "w1", "two", "33", 2, is_started=True, state_type="RUNNING", run_count=1))
    evidence.attempts += [Attempt(1.6, "two", "12", "RELEASE"), Attempt(3.15, "two", "33", "COMPLETED", "t2")]
    evidence.waits[1] = Wait(3.1, 3.7, ["two"], [["two", "COMPLETED", "Completed"]])

    assert violations(evidence) == []


def test_every_check_finds_an_injected_violation() -> None:
    assert {check.__name__ for check in CHECKS} == set((VIOLATIONS | STARTED_VIOLATIONS).values())

"""Valid evidence of started claims and of clients that wait, and violations that are injected into it."""

from collections.abc import Callable
from dataclasses import replace

from tests.chaos.evidence import Attempt, Awaited, Claim, Creation, Evidence, Run, State, Verdict, Wait

LEASE_SECONDS = 2.0


def valid_started_evidence() -> Evidence:
    """Three runs: `one` was started again after a lost response, `two` lost its worker, and `three` was reported at once."""
    evidence = Evidence(["run-1", "run-2", "run-3"], LEASE_SECONDS, {})
    evidence.creations = [Creation(f"run-{number}", run, True) for number, run in enumerate(("one", "two", "three"), 1)]
    evidence.runs = [
        Run(
            "one",
            "run-1",
            0,
            (),
            (
                State("SCHEDULED", "Scheduled", 0.0, scheduled_at=0.0, id="01"),
                State("RUNNING", "Running", 1.0, id="11"),
                State("SCHEDULED", "AwaitingRedelivery", 2.0, scheduled_at=2.0, id="20"),
                State("RUNNING", "Running", 2.2, id="23"),
                State("COMPLETED", "Completed", 3.0, "t1", id="30"),
            ),
            run_count=1,
        ),
        Run(
            "two",
            "run-2",
            0,
            (),
            (
                State("SCHEDULED", "Scheduled", 0.0, scheduled_at=0.0, id="02"),
                State("RUNNING", "Running", 1.0, id="13"),
                State("CRASHED", "WorkerLost", 3.6, id="36"),
            ),
            run_count=1,
        ),
        Run(
            "three",
            "run-3",
            0,
            (),
            (
                State("SCHEDULED", "Scheduled", 0.0, scheduled_at=0.0, id="03"),
                State("RUNNING", "Running", 1.0, id="15"),
                State("COMPLETED", "Completed", 1.2, "t3", id="17"),
            ),
            run_count=1,
        ),
    ]
    # The response to the claim that created the lease `10` of the run `one` was lost.
    evidence.claims = [
        Claim(1.1, "w2", "two", "12", 1, is_started=True, state_type="RUNNING", run_count=1),
        Claim(1.1, "w2", "three", "14", 1, is_started=True, state_type="RUNNING", run_count=1),
        Claim(2.3, "w1", "one", "22", 2, is_started=True, state_type="RUNNING", run_count=1),
    ]
    for run, lease, kind, transition, sent_at, status, created in (
        ("two", "12", "RENEW", None, 1.5, "HELD", False),
        ("three", "14", "COMPLETED", "t3", 1.15, "ACCEPT", True),
        ("one", "22", "COMPLETED", "t1", 2.9, "ACCEPT", True),
    ):
        evidence.attempts.append(Attempt(sent_at, run, lease, kind, transition))
        evidence.verdicts.append(Verdict(sent_at, run, lease, kind, status, created, transition, sent_at + 0.2))
    evidence.awaited = [Awaited("one"), Awaited("two")]
    evidence.waits = [
        Wait(0.1, 3.1, ["one", "two"], [["one", "COMPLETED", "Completed"]]),
        Wait(3.1, 3.7, ["two"], [["two", "CRASHED", "WorkerLost"]]),
    ]
    evidence.servers = ["server-0"]
    return evidence


def _change_run(evidence: Evidence, run: int, **changes: object) -> None:
    evidence.runs[run] = replace(evidence.runs[run], **changes)


def inject_a_delivery_that_is_not_running(evidence: Evidence) -> None:
    evidence.claims[0] = replace(evidence.claims[0], state_type="SCHEDULED")


def inject_a_delivery_that_was_not_started(evidence: Evidence) -> None:
    states = evidence.runs[1].states
    _change_run(evidence, 1, states=(states[0], replace(states[2], name="Undeliverable")), run_count=0)


def inject_a_lost_worker_without_a_confirmation(evidence: Evidence) -> None:
    del evidence.attempts[0], evidence.verdicts[0]


def inject_a_retry_after_a_lost_response(evidence: Evidence) -> None:
    states = evidence.runs[0].states
    retried = (*states[:2], replace(states[2], name="AwaitingRetry"), replace(states[3], name="Retrying"), states[4])
    _change_run(evidence, 0, retries=1, states=retried, run_count=2)
    evidence.claims[2] = replace(evidence.claims[2], run_count=2)


def inject_a_confirmed_run_that_counts_as_unconfirmed(evidence: Evidence) -> None:
    states = evidence.runs[1].states
    _change_run(evidence, 1, states=(*states[:2], replace(states[2], name="Undeliverable")), run_count=0)


def inject_an_unconfirmed_run_that_counts(evidence: Evidence) -> None:
    _change_run(evidence, 0, run_count=2)


def inject_a_delivery_that_counts_an_unconfirmed_run(evidence: Evidence) -> None:
    evidence.claims[2] = replace(evidence.claims[2], run_count=2)


def inject_a_started_run_undeliverable_too_early(evidence: Evidence) -> None:
    states = evidence.runs[0].states
    _change_run(evidence, 0, states=(*states[:2], State("CRASHED", "Undeliverable", 2.0, id="20")), run_count=0)
    del evidence.claims[2]


def inject_a_report_after_a_later_start(evidence: Evidence) -> None:
    evidence.claims.append(Claim(1.1, "w3", "one", "10", 1, is_started=True, state_type="RUNNING", run_count=1))
    evidence.attempts[2] = replace(evidence.attempts[2], lease="10")


def inject_a_lost_worker_before_its_lease_expired(evidence: Evidence) -> None:
    states = evidence.runs[1].states
    _change_run(evidence, 1, states=(*states[:2], replace(states[2], at=3.3)))


def inject_a_lost_report_of_an_exchange(evidence: Evidence) -> None:
    states = evidence.runs[2].states
    _change_run(evidence, 2, states=(*states[:2], replace(states[2], transition="another")))
    evidence.attempts.append(Attempt(1.15, "three", "14", "COMPLETED", "another"))


def inject_an_end_that_was_reported_too_early(evidence: Evidence) -> None:
    evidence.waits[0] = replace(evidence.waits[0], received_at=2.8)


def inject_an_end_that_is_not_the_last_state(evidence: Evidence) -> None:
    evidence.waits[1] = replace(evidence.waits[1], ended=[["two", "FAILED", "Failed"]])


def inject_a_run_that_was_not_found(evidence: Evidence) -> None:
    evidence.waits[1] = replace(evidence.waits[1], not_found=["two"])


def inject_an_end_that_was_not_reported(evidence: Evidence) -> None:
    del evidence.waits[1]


def inject_a_response_without_an_earlier_end(evidence: Evidence) -> None:
    evidence.waits.append(Wait(3.8, 3.9, ["two"], []))


def inject_a_lost_wake_up(evidence: Evidence) -> None:
    evidence.waits.append(Wait(3.1, 13.1, ["two"], []))


STARTED_VIOLATIONS: dict[Callable[[Evidence], None], str] = {
    inject_a_delivery_that_is_not_running: "deliveries_of_started_runs_are_running",
    inject_a_delivery_that_was_not_started: "deliveries_of_started_runs_are_running",
    inject_a_lost_worker_without_a_confirmation: "only_confirmed_runs_lose_their_worker",
    inject_a_retry_after_a_lost_response: "only_confirmed_runs_lose_their_worker",
    inject_a_confirmed_run_that_counts_as_unconfirmed: "confirmed_runs_are_requeued_only_by_their_workers",
    inject_an_unconfirmed_run_that_counts: "run_counts_agree_with_the_history",
    inject_a_delivery_that_counts_an_unconfirmed_run: "run_counts_agree_with_the_history",
    inject_a_started_run_undeliverable_too_early: "undeliverable_runs_lost_enough_workers",
    inject_a_report_after_a_later_start: "no_write_was_accepted_under_a_lost_lease",
    inject_a_lost_worker_before_its_lease_expired: "no_lease_ends_early",
    inject_a_lost_report_of_an_exchange: "responses_agree_with_the_history",
    inject_an_end_that_was_reported_too_early: "every_reported_end_is_in_the_history",
    inject_an_end_that_is_not_the_last_state: "every_reported_end_is_in_the_history",
    inject_a_run_that_was_not_found: "every_reported_end_is_in_the_history",
    inject_an_end_that_was_not_reported: "every_end_is_reported",
    inject_a_response_without_an_earlier_end: "no_wake_up_is_lost",
    inject_a_lost_wake_up: "no_wake_up_is_lost",
}

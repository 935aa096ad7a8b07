"""Check the evidence of a chaos test against the guarantees of Runyard. Each check yields the violations it finds.

The evidence is independent of the clocks and the statements of servers: the journals of workers and clients, the database
tables, and the times at which an observer of the tables saw each state.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from tests.chaos.evidence import Evidence, Run, State
from tests.chaos.lease_checks import (
    live_work_outlasts_times_without_a_server,
    no_lease_ends_early,
    no_run_has_two_live_leases,
    no_write_was_accepted_under_a_lost_lease,
    responses_agree_with_the_history,
)
from tests.chaos.start_checks import (
    confirmed_runs_are_requeued_only_by_their_workers,
    deliveries_of_started_runs_are_running,
    only_confirmed_runs_lose_their_worker,
    run_counts_agree_with_the_history,
)
from tests.chaos.time_checks import (
    CLOCK_SKEW_SECONDS,
    histories_are_dated_in_order,
    nothing_is_delivered_before_it_is_due,
    states_are_dated_when_they_were_written,
)
from tests.chaos.wait_checks import every_end_is_reported, every_reported_end_is_in_the_history, no_wake_up_is_lost

TERMINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

VALID_TRANSITIONS = {
    (None, "Scheduled"),
    ("SCHEDULED", "Pending"),
    ("SCHEDULED", "Running"),
    ("SCHEDULED", "Retrying"),
    ("SCHEDULED", "Rerunning"),
    ("SCHEDULED", "Undeliverable"),
    ("PENDING", "Running"),
    ("PENDING", "Retrying"),
    ("PENDING", "Rerunning"),
    ("PENDING", "AwaitingRedelivery"),
    ("PENDING", "Undeliverable"),
    ("RUNNING", "Completed"),
    ("RUNNING", "Failed"),
    ("RUNNING", "AwaitingRetry"),
    ("RUNNING", "AwaitingRedelivery"),
    ("RUNNING", "WorkerLost"),
    ("RUNNING", "Undeliverable"),
}
"""From a state type to a state name: every transition that the chaos workers and the rules can make."""

MAX_EXPIRED_DELIVERIES = 5
"""Number of consecutive lost workers after which a run is undeliverable."""


def violations(evidence: Evidence) -> list[str]:
    """Return a description of every violated guarantee."""
    return [f"{check.__name__}: {found}" for check in CHECKS for found in check(evidence)]


def every_run_is_terminal(evidence: Evidence) -> Iterator[str]:
    for run in evidence.runs:
        if run.states[-1].type not in TERMINAL:
            yield f"{run.id} is {run.states[-1].name}"


def every_creation_made_exactly_one_run(evidence: Evidence) -> Iterator[str]:
    run_counts = Counter(run.dynamic_key for run in evidence.runs)
    ids = {run.dynamic_key: run.id for run in evidence.runs}
    created_counts = Counter(each.dynamic_key for each in evidence.creations if each.created)
    for key in evidence.planned:
        if run_counts[key] != 1:
            yield f"{key} has {run_counts[key]} runs"
        if created_counts[key] > 1:
            yield f"{key} was reported as created {created_counts[key]} times"
    for each in evidence.creations:
        if ids.get(each.dynamic_key) != each.run:
            yield f"{each.dynamic_key} was reported as {each.run} and is {ids.get(each.dynamic_key)}"


def every_history_has_valid_transitions(evidence: Evidence) -> Iterator[str]:
    for run in evidence.runs:
        before: State | None = None
        for state in run.states:
            if (before.type if before else None, state.name) not in VALID_TRANSITIONS:
                yield f"{run.id} went from {before and before.name} to {state.name}"
            before = state


def runs_are_retried_as_often_as_their_policy_allows(evidence: Evidence) -> Iterator[str]:
    for run in evidence.runs:
        attempts, was_running = 0, False
        for state in run.states:
            attempts += state.type == "RUNNING"
            # A worker that releases a RUNNING run has made no attempt.
            attempts -= state.name == "AwaitingRedelivery" and was_running
            was_running = state.type == "RUNNING"
            if state.name == "AwaitingRetry" and attempts > run.retries:
                yield f"{run.id} awaits a retry after {attempts} attempts with {run.retries} retries"
            if state.name in ("Failed", "WorkerLost") and attempts <= run.retries:
                yield f"{run.id} is {state.name} after {attempts} attempts with {run.retries} retries"


def undeliverable_runs_lost_enough_workers(evidence: Evidence) -> Iterator[str]:
    # A started run can have a lapse although no worker has received it.
    started = {each.lease for each in evidence.claims if each.is_started}
    attempted = {(each.run, each.lease) for each in evidence.attempts if each.lease not in started}
    workers = Counter(run for run, _ in attempted)
    for run in evidence.runs:
        lost = workers[run.id] + sum(state.is_start for state in run.states)
        if run.states[-1].name == "Undeliverable" and lost < MAX_EXPIRED_DELIVERIES:
            yield f"{run.id} is undeliverable after only {lost} workers"


def limits_are_never_exceeded(evidence: Evidence) -> Iterator[str]:
    for tag, limit in evidence.limits.items():
        changes = [change for run in evidence.runs if tag in run.tags for change in _slot_changes(run)]
        holders = highest = 0
        for _, change in sorted(changes):
            holders += change
            highest = max(highest, holders)
        if highest > limit:
            yield f"{highest} runs with the tag {tag} ran at the same time; the limit is {limit}"


def _slot_changes(run: Run) -> Iterator[tuple[float, int]]:
    """Yield when the run took (+1) and freed (-1) a slot. Slots are freed early by the allowed clock skew."""
    for state, after in zip(run.states, run.states[1:], strict=False):
        if state.type == "RUNNING" and after.earliest_at - CLOCK_SKEW_SECONDS > state.latest_at:
            yield state.latest_at, 1
            yield after.earliest_at - CLOCK_SKEW_SECONDS, -1


def no_queue_entry_or_slot_remains(evidence: Evidence) -> Iterator[str]:
    for run in evidence.queued:
        yield f"{run} is still in the queue"
    for run in evidence.slots:
        yield f"{run} still holds a slot"


def servers_reported_no_errors(evidence: Evidence) -> Iterator[str]:
    yield from evidence.faults


CHECKS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    every_run_is_terminal,
    every_creation_made_exactly_one_run,
    every_history_has_valid_transitions,
    runs_are_retried_as_often_as_their_policy_allows,
    undeliverable_runs_lost_enough_workers,
    responses_agree_with_the_history,
    no_write_was_accepted_under_a_lost_lease,
    no_run_has_two_live_leases,
    no_lease_ends_early,
    live_work_outlasts_times_without_a_server,
    deliveries_of_started_runs_are_running,
    only_confirmed_runs_lose_their_worker,
    confirmed_runs_are_requeued_only_by_their_workers,
    run_counts_agree_with_the_history,
    histories_are_dated_in_order,
    states_are_dated_when_they_were_written,
    nothing_is_delivered_before_it_is_due,
    limits_are_never_exceeded,
    no_queue_entry_or_slot_remains,
    every_reported_end_is_in_the_history,
    every_end_is_reported,
    no_wake_up_is_lost,
    servers_reported_no_errors,
)

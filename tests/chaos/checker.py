"""Check the evidence of a chaos test against the guarantees of Runyard. Each check yields the violations it finds."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from tests.chaos.evidence import Evidence, Run, State

TERMINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

CLOCK_SKEW_SECONDS = 0.1
"""Allowed difference, in seconds, between the clocks of servers and workers."""

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
}
"""From a state type to a state name: every transition that the chaos workers and the rules can make."""

MAX_EXPIRED_DELIVERIES = 5
"""Number of consecutive lost workers after which a run is undeliverable."""

RELEASING_REQUESTS = {"RELEASE", "COMPLETED", "FAILED"}
"""Requests with which a worker ends its lease."""


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
        attempts = 0
        for state in run.states:
            attempts += state.type == "RUNNING"
            if state.name == "AwaitingRetry" and attempts > run.retries:
                yield f"{run.id} awaits a retry after {attempts} attempts with {run.retries} retries"
            if state.name in ("Failed", "WorkerLost") and attempts <= run.retries:
                yield f"{run.id} is {state.name} after {attempts} attempts with {run.retries} retries"


def undeliverable_runs_lost_enough_workers(evidence: Evidence) -> Iterator[str]:
    attempted = {(each.run, each.lease) for each in evidence.attempts}
    workers = Counter(run for run, _ in attempted)
    for run in evidence.runs:
        if run.states[-1].name == "Undeliverable" and workers[run.id] < MAX_EXPIRED_DELIVERIES:
            yield f"{run.id} is undeliverable after only {workers[run.id]} workers"


def responses_agree_with_the_history(evidence: Evidence) -> Iterator[str]:
    written = {(run.id, state.transition) for run in evidence.runs for state in run.states if state.transition}
    for each in evidence.verdicts:
        if each.transition is None:
            continue
        is_written = (each.run, each.transition) in written
        if each.status in ("ACCEPT", "REJECT") and not is_written:
            yield f"{each.run}: {each.kind} got {each.status} and is not in the history"
        if each.status in ("ABORT", "WAIT") and is_written:
            yield f"{each.run}: {each.kind} got {each.status} and is in the history"


def no_write_was_accepted_under_a_lost_lease(evidence: Evidence) -> Iterator[str]:
    """Check that no state of an earlier lease follows a state of a later lease, or the state by which its lease expired."""
    attempts = {claim.lease: claim.attempt for claim in evidence.claims}
    leases = {each.transition: each.lease for each in evidence.attempts if each.transition}
    for run in evidence.runs:
        latest, lost = 0, 0
        for state in run.states[1:]:
            if state.transition is None:
                lost = latest
                continue
            attempt = attempts[leases[state.transition]]
            if attempt < latest or attempt <= lost:
                yield f"{run.id} became {state.name} under its delivery {attempt}, after {max(latest, lost)} was lost"
            latest = max(latest, attempt)


def no_run_has_two_live_leases(evidence: Evidence) -> Iterator[str]:
    leases: dict[tuple[str, int], set[str]] = defaultdict(set)
    claimed: dict[str, list[tuple[int, float]]] = defaultdict(list)
    attempts: dict[str, int] = {}
    for claim in evidence.claims:
        leases[claim.run, claim.attempt].add(claim.lease)
        claimed[claim.run].append((claim.attempt, claim.at))
        attempts[claim.lease] = claim.attempt
    for (run, attempt), found in leases.items():
        if len(found) > 1:
            yield f"{run} has {len(found)} leases for its delivery {attempt}"
    for each in evidence.verdicts:
        later = [at for attempt, at in claimed[each.run] if attempt > attempts[each.lease]]
        if each.was_held and later and each.sent_at > min(later):
            yield f"{each.run}: {each.kind} under delivery {attempts[each.lease]} was accepted after a later delivery"


def no_lease_ends_early(evidence: Evidence) -> Iterator[str]:
    """Check that each lease lasts for its full duration after the acknowledgement and after each renewal."""
    ends = _earliest_ends(evidence)
    held: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for claim in evidence.claims:
        if claim.lease in ends:
            held[claim.run].append((claim.attempt, ends[claim.lease]))
    for claim in evidence.claims:
        for attempt, ends_at in held[claim.run]:
            if attempt < claim.attempt and claim.at < ends_at - CLOCK_SKEW_SECONDS:
                yield f"{claim.run} was delivered again {ends_at - claim.at:.3f} s before lease {attempt} expired"
    attempts = {claim.lease: claim.attempt for claim in evidence.claims}
    leases = {each.transition: each.lease for each in evidence.attempts if each.transition}
    for run in evidence.runs:
        current = 0
        for state in run.states[1:]:
            if state.transition is not None:
                current = attempts[leases[state.transition]]
                continue
            for attempt, ends_at in held[run.id]:
                if attempt == current and state.at < ends_at - CLOCK_SKEW_SECONDS:
                    yield f"{run.id} became {state.name} {ends_at - state.at:.3f} s before lease {attempt} expired"


def _earliest_ends(evidence: Evidence) -> dict[str, float]:
    """Return the earliest possible end of each acknowledged lease, from the requests and responses of its worker."""
    held_leases = {each.lease for each in evidence.verdicts if each.was_held}
    ends: dict[str, float] = {}
    for each in evidence.attempts:
        # Any of these requests may have acknowledged the lease, but not before it was sent.
        if each.lease in held_leases:
            ends[each.lease] = min(ends.get(each.lease, float("inf")), each.sent_at + evidence.lease_seconds)
    for each in evidence.verdicts:
        if each.kind == "RENEW" and each.status == "HELD":
            ends[each.lease] = max(ends[each.lease], each.sent_at + evidence.lease_seconds)
    for each in evidence.attempts:
        if each.lease in ends and each.kind in RELEASING_REQUESTS:
            ends[each.lease] = min(ends[each.lease], each.sent_at)
    return ends


def nothing_is_delivered_before_it_is_due(evidence: Evidence) -> Iterator[str]:
    runs = {run.id: run for run in evidence.runs}
    for claim in evidence.claims:
        scheduled = [
            state
            for state in runs[claim.run].states
            if state.scheduled_at and state.at <= claim.at - CLOCK_SKEW_SECONDS
        ]
        if scheduled and claim.at < (scheduled[-1].scheduled_at or 0) - CLOCK_SKEW_SECONDS:
            yield f"{claim.run} was delivered {(scheduled[-1].scheduled_at or 0) - claim.at:.3f} s early"


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
        if state.type == "RUNNING" and after.at - CLOCK_SKEW_SECONDS > state.at:
            yield state.at, 1
            yield after.at - CLOCK_SKEW_SECONDS, -1


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
    nothing_is_delivered_before_it_is_due,
    limits_are_never_exceeded,
    no_queue_entry_or_slot_remains,
    servers_reported_no_errors,
)

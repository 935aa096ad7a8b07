"""Holds what is known after a run of chaos against what Runyard promises. Each check tells the violations that it found."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from tests.chaos.evidence import Evidence, Run, State

TERMINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

CLOCKS = 0.1
"""Seconds by which what servers and workers hold for the time may differ."""

STEPS = {
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
"""From a type of state to a name: all that the workers of chaos and the rules can bring about."""

MOST_LAPSES = 5
"""How many workers in a row may be lost before a run is undeliverable."""


LETS_GO = {"RELEASE", "COMPLETED", "FAILED"}
"""With these requests a worker ends its lease itself."""


def violations(evidence: Evidence) -> list[str]:
    """Every promise that was broken, in words; none where all were kept."""
    return [f"{check.__name__}: {found}" for check in CHECKS for found in check(evidence)]


def every_run_has_ended(evidence: Evidence) -> Iterator[str]:
    for run in evidence.runs:
        if run.states[-1].type not in TERMINAL:
            yield f"{run.id} is {run.states[-1].name}"


def every_creation_is_there_once(evidence: Evidence) -> Iterator[str]:
    there = Counter(run.dynamic_key for run in evidence.runs)
    ids = {run.dynamic_key: run.id for run in evidence.runs}
    made = Counter(each.dynamic_key for each in evidence.creations if each.created)
    for key in evidence.planned:
        if there[key] != 1:
            yield f"{key} is there {there[key]} times"
        if made[key] > 1:
            yield f"{key} was answered as new {made[key]} times"
    for each in evidence.creations:
        if ids.get(each.dynamic_key) != each.run:
            yield f"{each.dynamic_key} was answered as {each.run} and is {ids.get(each.dynamic_key)}"


def every_history_is_a_legal_walk(evidence: Evidence) -> Iterator[str]:
    for run in evidence.runs:
        before: State | None = None
        for state in run.states:
            if (before.type if before else None, state.name) not in STEPS:
                yield f"{run.id} went from {before and before.name} to {state.name}"
            before = state


def runs_are_retried_as_often_as_they_may_be(evidence: Evidence) -> Iterator[str]:
    for run in evidence.runs:
        tries = 0
        for state in run.states:
            tries += state.type == "RUNNING"
            if state.name == "AwaitingRetry" and tries > run.retries:
                yield f"{run.id} awaits a retry after {tries} tries, and has {run.retries} retries"
            if state.name in ("Failed", "WorkerLost") and tries <= run.retries:
                yield f"{run.id} is {state.name} after {tries} tries, and has {run.retries} retries"


def a_run_is_undeliverable_after_so_many_lost_workers(evidence: Evidence) -> Iterator[str]:
    begun = {(each.run, each.lease) for each in evidence.attempts}
    workers = Counter(run for run, _ in begun)
    for run in evidence.runs:
        if run.states[-1].name == "Undeliverable" and workers[run.id] < MOST_LAPSES:
            yield f"{run.id} is undeliverable, and only {workers[run.id]} workers had it"


def what_was_answered_is_in_the_history(evidence: Evidence) -> Iterator[str]:
    written = {(run.id, state.transition) for run in evidence.runs for state in run.states if state.transition}
    for each in evidence.verdicts:
        if each.transition is None:
            continue
        is_written = (each.run, each.transition) in written
        if each.status in ("ACCEPT", "REJECT") and not is_written:
            yield f"{each.run}: {each.kind} was answered {each.status} and is not in the history"
        if each.status in ("ABORT", "WAIT") and is_written:
            yield f"{each.run}: {each.kind} was answered {each.status} and is in the history"


def no_write_was_accepted_under_a_lost_lease(evidence: Evidence) -> Iterator[str]:
    """A state under an earlier lease may not follow one under a later lease, nor one by which the sweep ended its lease."""
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
            yield f"{each.run}: {each.kind} under delivery {attempts[each.lease]} was held after a later one had begun"


def no_lease_is_ended_before_its_time(evidence: Evidence) -> Iterator[str]:
    """Whoever has taken a run over has it for as long as the lease says from then on, and from each renewal on."""
    ends = _earliest_ends(evidence)
    held: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for claim in evidence.claims:
        if claim.lease in ends:
            held[claim.run].append((claim.attempt, ends[claim.lease]))
    for claim in evidence.claims:
        for attempt, ends_at in held[claim.run]:
            if attempt < claim.attempt and claim.at < ends_at - CLOCKS:
                yield f"{claim.run} was delivered again {ends_at - claim.at:.3f} s before delivery {attempt} ran out"
    attempts = {claim.lease: claim.attempt for claim in evidence.claims}
    leases = {each.transition: each.lease for each in evidence.attempts if each.transition}
    for run in evidence.runs:
        present = 0
        for state in run.states[1:]:
            if state.transition is not None:
                present = attempts[leases[state.transition]]
                continue
            for attempt, ends_at in held[run.id]:
                if attempt == present and state.at < ends_at - CLOCKS:
                    yield f"{run.id} became {state.name} {ends_at - state.at:.3f} s before delivery {attempt} ran out"


def _earliest_ends(evidence: Evidence) -> dict[str, float]:
    """When each lease that was taken over can have ended at the earliest, by what its worker sent and was answered."""
    taken_over = {each.lease for each in evidence.verdicts if each.was_held}
    ends: dict[str, float] = {}
    for each in evidence.attempts:
        # Whichever of them took it over, it was not served before it was sent.
        if each.lease in taken_over:
            ends[each.lease] = min(ends.get(each.lease, float("inf")), each.sent_at + evidence.lease_seconds)
    for each in evidence.verdicts:
        if each.kind == "RENEW" and each.status == "HELD":
            ends[each.lease] = max(ends[each.lease], each.sent_at + evidence.lease_seconds)
    for each in evidence.attempts:
        if each.lease in ends and each.kind in LETS_GO:
            ends[each.lease] = min(ends[each.lease], each.sent_at)
    return ends


def nothing_is_delivered_before_it_is_due(evidence: Evidence) -> Iterator[str]:
    runs = {run.id: run for run in evidence.runs}
    for claim in evidence.claims:
        scheduled = [state for state in runs[claim.run].states if state.scheduled_at and state.at <= claim.at - CLOCKS]
        if scheduled and claim.at < (scheduled[-1].scheduled_at or 0) - CLOCKS:
            yield f"{claim.run} was delivered {(scheduled[-1].scheduled_at or 0) - claim.at:.3f} s early"


def limits_are_never_exceeded(evidence: Evidence) -> Iterator[str]:
    for tag, limit in evidence.limits.items():
        changes = [change for run in evidence.runs if tag in run.tags for change in _slots_of(run)]
        holders = most = 0
        for _, change in sorted(changes):
            holders += change
            most = max(most, holders)
        if most > limit:
            yield f"{most} runs with the tag {tag} ran at a time, and {limit} may"


def _slots_of(run: Run) -> Iterator[tuple[float, int]]:
    """When the run took a slot (+1), and gave it back (-1); a little early, since servers may differ over the time."""
    for state, after in zip(run.states, run.states[1:], strict=False):
        if state.type == "RUNNING" and after.at - CLOCKS > state.at:
            yield state.at, 1
            yield after.at - CLOCKS, -1


def nothing_is_left_behind(evidence: Evidence) -> Iterator[str]:
    for run in evidence.queued:
        yield f"{run} is still in the queue"
    for run in evidence.slots:
        yield f"{run} still holds a slot"


def the_servers_had_no_fault_of_their_own(evidence: Evidence) -> Iterator[str]:
    yield from evidence.faults


CHECKS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    every_run_has_ended,
    every_creation_is_there_once,
    every_history_is_a_legal_walk,
    runs_are_retried_as_often_as_they_may_be,
    a_run_is_undeliverable_after_so_many_lost_workers,
    what_was_answered_is_in_the_history,
    no_write_was_accepted_under_a_lost_lease,
    no_run_has_two_live_leases,
    no_lease_is_ended_before_its_time,
    nothing_is_delivered_before_it_is_due,
    limits_are_never_exceeded,
    nothing_is_left_behind,
    the_servers_had_no_fault_of_their_own,
)

"""Checks of runs that claims have started."""

from collections.abc import Iterator
from itertools import pairwise

from tests.chaos.evidence import Evidence, Run
from tests.chaos.lease_checks import Leases
from tests.chaos.time_checks import CLOCK_SKEW_SECONDS

LOST_WORKER = {"AwaitingRetry", "WorkerLost"}
"""Names of the states of a RUNNING run after its worker was lost."""

NOT_STARTED = {"AwaitingRedelivery", "Undeliverable"}
"""Names of the states after a RUNNING that does not count as a run."""


def deliveries_of_started_runs_are_running(evidence: Evidence) -> Iterator[str]:
    starts = Leases(evidence).starts
    for claim in evidence.claims:
        if claim.state_type != ("RUNNING" if claim.is_started else "SCHEDULED"):
            yield f"{claim.run} was delivered as {claim.state_type}"
        if claim.is_started and claim.lease not in starts:
            yield f"{claim.run} was delivered by a claim that did not start it"


def only_confirmed_runs_lose_their_worker(evidence: Evidence) -> Iterator[str]:
    """Check that a run is not WorkerLost, and uses no retry, before a worker has sent a request with its lease."""
    leases = Leases(evidence)
    for run in evidence.runs:
        for start, after in pairwise(run.states):
            if not start.is_start or after.transition is not None or after.name not in LOST_WORKER:
                continue
            lease = leases.lease_of(start)
            confirmations = leases.attempts[lease] if lease else []
            if not any(each.sent_at <= after.latest_at + CLOCK_SKEW_SECONDS for each in confirmations):
                yield f"{run.id} became {after.name} after a start that no worker confirmed"


def confirmed_runs_are_requeued_only_by_their_workers(evidence: Evidence) -> Iterator[str]:
    """Check that a RUNNING run whose lease was held in a response is not requeued uncounted without a release."""
    leases = Leases(evidence)
    for run in evidence.runs:
        for running, after in pairwise(run.states):
            if running.type != "RUNNING" or after.transition is not None or after.name not in NOT_STARTED:
                continue
            lease = leases.lease_of(running)
            if lease in leases.earliest_ends and not any(each.kind == "RELEASE" for each in leases.attempts[lease]):
                yield f"{run.id} became {after.name} although its worker had confirmed it"


def run_counts_agree_with_the_history(evidence: Evidence) -> Iterator[str]:
    """Check each run's count, and that of each started delivery: a run that was requeued unconfirmed has not run."""
    leases = Leases(evidence)
    delivered = {claim.lease: claim.run_count for claim in evidence.claims if claim.is_started}
    for run in evidence.runs:
        counts = _run_counts(run)
        if run.run_count != counts[-1]:
            yield f"{run.id} has the run count {run.run_count} instead of {counts[-1]}"
        for state, count in zip(run.states, counts, strict=True):
            lease = leases.lease_of(state) if state.is_start else None
            if lease is not None and delivered[lease] != count:
                yield f"{run.id} was delivered with the run count {delivered[lease]} instead of {count}"


def _run_counts(run: Run) -> list[int]:
    """Return the run count after each state. The workers enter RUNNING at most once under a lease."""
    counts = [int(run.states[0].type == "RUNNING")]
    for before, state in pairwise(run.states):
        is_uncounted = before.type == "RUNNING" and state.name in NOT_STARTED
        counts.append(counts[-1] + (state.type == "RUNNING") - is_uncounted)
    return counts

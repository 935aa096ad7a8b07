"""Statistics of a chaos test."""

from collections import Counter
from itertools import pairwise

from tests.chaos.chaos import ChaosResult
from tests.chaos.lease_checks import live_leases, times_without_a_server


def format_statistics(result: ChaosResult) -> str:
    """Return the statistics as text, one line per subject."""
    evidence = result.evidence
    states = [state for run in evidence.runs for state in run.states]
    names = Counter(state.name for state in states)
    verdicts = Counter(f"{each.kind} {each.status}" for each in evidence.verdicts)
    times = times_without_a_server(evidence)
    unanswered = len(evidence.attempts) - len(evidence.verdicts)
    absent = sum(end - start for start, end in times)
    after_starts = Counter(
        after.name for run in evidence.runs for before, after in pairwise(run.states) if before.is_start
    )
    unconfirmed, lost = after_starts["AwaitingRedelivery"], after_starts["WorkerLost"]
    starts, received = sum(state.is_start for state in states), sum(claim.is_started for claim in evidence.claims)
    reported = sum(len(wait.ended) for wait in evidence.waits)
    lines = {
        "faults": f"{result.faults.total()} ({_counts(result.faults)})",
        "runs": f"{len(evidence.runs)} in {result.seconds:.1f} s, {len(evidence.runs) / result.seconds:.0f} per second",
        "outcomes": _counts(Counter(run.states[-1].name for run in evidence.runs)),
        "deliveries": f"{len(evidence.claims)} received, {sum(claim.attempt > 1 for claim in evidence.claims)} redelivered",
        "starts": f"{starts} by claims, {received} received, {unconfirmed} requeued, {lost} with a lost worker",
        "retries": f"{names['AwaitingRetry']}, redeliveries of RUNNING runs: {names['AwaitingRedelivery']}",
        "ends": f"{len(evidence.awaited)} awaited, {reported} reported in {len(evidence.waits)} responses",
        "no server": f"{len(times)} times, {absent:.1f} s in total, with {live_leases(evidence)} live leases",
        "requests": f"{len(evidence.attempts)} by workers, {unanswered} without a response",
        "responses": _counts(verdicts),
        "deadlocks": f"{result.deadlocks}",
    }
    return "\n".join(f"{subject + ':':12}{text}" for subject, text in lines.items())


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))

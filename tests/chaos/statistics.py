"""Statistics of a chaos test."""

from collections import Counter

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
    lines = {
        "faults": f"{result.faults.total()} ({_counts(result.faults)})",
        "runs": f"{len(evidence.runs)} in {result.seconds:.1f} s, {len(evidence.runs) / result.seconds:.0f} per second",
        "outcomes": _counts(Counter(run.states[-1].name for run in evidence.runs)),
        "deliveries": f"{len(evidence.claims)} received, {sum(claim.attempt > 1 for claim in evidence.claims)} redelivered",
        "retries": f"{names['AwaitingRetry']}, redeliveries of started runs: {names['AwaitingRedelivery']}",
        "no server": f"{len(times)} times, {absent:.1f} s in total, with {live_leases(evidence)} live leases",
        "requests": f"{len(evidence.attempts)} by workers, {unanswered} without a response",
        "responses": _counts(verdicts),
        "deadlocks": f"{result.deadlocks}",
    }
    return "\n".join(f"{subject + ':':12}{text}" for subject, text in lines.items())


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))

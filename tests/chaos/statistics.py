"""What a run of chaos was like, in figures."""

from collections import Counter

from tests.chaos.chaos import Outcome


def figures(outcome: Outcome) -> str:
    """A line for each subject."""
    evidence = outcome.evidence
    states = [state for run in evidence.runs for state in run.states]
    names = Counter(state.name for state in states)
    verdicts = Counter(f"{each.kind} {each.status}" for each in evidence.verdicts)
    again = len(evidence.attempts) - len(evidence.verdicts)
    lines = {
        "faults": f"{outcome.faults.total()} ({_counts(outcome.faults)})",
        "runs": f"{len(evidence.runs)} in {outcome.seconds:.1f} s, {len(evidence.runs) / outcome.seconds:.0f} a second",
        "ends": _counts(Counter(run.states[-1].name for run in evidence.runs)),
        "deliveries": f"{len(evidence.claims)} seen, {sum(claim.attempt > 1 for claim in evidence.claims)} of them again",
        "retries": f"{names['AwaitingRetry']}, redeliveries of what had begun: {names['AwaitingRedelivery']}",
        "requests": f"{len(evidence.attempts)} of workers, {again} of them without an answer",
        "answers": _counts(verdicts),
        "deadlocks": f"{outcome.deadlocks}",
    }
    return "\n".join(f"{subject + ':':12}{told}" for subject, told in lines.items())


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))

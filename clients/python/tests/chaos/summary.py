"""Statistics of a chaos test, as text."""

from collections import Counter
from itertools import pairwise

from chaos.chaos import ChaosResult
from chaos.explanations import explanation


def format_statistics(result: ChaosResult) -> str:
    """Return the statistics as text, one line per subject."""
    evidence = result.evidence
    states = Counter(state.name for run in evidence.runs for state in run.states)
    outcomes = Counter(each.outcome or "died" for each in evidence.executions)
    reasons = Counter(each.reason for each in evidence.executions if each.reason)
    repeats = Counter(
        explanation(evidence, first, second.begun_at) or "unexplained"
        for executions in evidence.executions_by_run().values()
        for first, second in pairwise(executions)
    )
    drains = Counter(str(fault.exit_code) for fault in evidence.faults if fault.kind == "worker drained")
    lines = {
        "faults": f"{result.injected.total()} ({_counts(result.injected)})",
        "runs": f"{len(evidence.runs)} in {result.seconds:.1f} s",
        "ends": _counts(Counter(run.end.name for run in evidence.runs)),
        "states": _counts(states),
        "executions": f"{len(evidence.executions)} ({_counts(outcomes)})",
        "stops": _counts(reasons),
        "repeated": f"{repeats.total()} ({_counts(repeats)})",
        "exit codes": f"{_counts(drains)} of drained workers",
        "received": f"{len(evidence.results)} results, {_counts(Counter(name for name, _ in evidence.failures.values()))}",
    }
    return "\n".join(f"{subject + ':':12}{text}" for subject, text in lines.items())


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"

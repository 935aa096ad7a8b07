"""Checks of the times that servers record, and of due times. Real time is the time of workers and of the observer."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from tests.chaos.evidence import Evidence

CLOCK_SKEW_SECONDS = 0.1
"""Allowed difference, in seconds, between the clocks of servers and workers."""

DATING_TOLERANCE_SECONDS = 0.5
"""Allowed difference, in seconds, between the timestamp of a state and the time at which it was written."""

CLOCK_READING_SECONDS = 2.0
"""Time, in seconds, within which a server notices a step of the clock that decides on due times."""


def histories_are_dated_in_order(evidence: Evidence) -> Iterator[str]:
    """Check that no state has an earlier timestamp than the state before it, whatever the clocks did."""
    for run in evidence.runs:
        for before, after in pairwise(run.states):
            if after.at < before.at:
                yield f"{run.id} became {after.name} {before.at - after.at:.6f} s before it became {before.name}"


def states_are_dated_when_they_were_written(evidence: Evidence) -> Iterator[str]:
    """Check each timestamp against the observer, and that of a proposed state against the requests of its worker.

    Where the wall clock decides and is stepped, any clock that it showed meanwhile is accepted, and because no timestamp
    decreases, any that it showed since the run was created.
    """
    sent, received = _request_times(evidence)
    for run in evidence.runs:
        created_at = run.states[0].appeared[0]
        for state in run.states:
            latest = min(state.appeared[1], received[run.id, state.transition])
            earliest = sent[run.id, state.transition]
            _, ahead = clock_offsets(evidence, created_at, latest)
            behind, _ = clock_offsets(evidence, earliest, latest)
            if state.at > latest + ahead + DATING_TOLERANCE_SECONDS:
                yield f"{run.id} became {state.name} {state.at - latest:.3f} s before its timestamp"
            if state.at < earliest + behind - DATING_TOLERANCE_SECONDS:
                yield f"{run.id} became {state.name} {earliest - state.at:.3f} s or more after its timestamp"


_Transition = tuple[str, str | None]


def _request_times(evidence: Evidence) -> tuple[dict[_Transition, float], dict[_Transition, float]]:
    """Return when each transition was first sent, and when a response that shows it as written was first received."""
    sent: dict[_Transition, float] = defaultdict(lambda: float("-inf"))
    received: dict[_Transition, float] = defaultdict(lambda: float("inf"))
    for attempt in evidence.attempts:
        if attempt.transition is not None:
            key = attempt.run, attempt.transition
            sent[key] = min(sent.get(key, float("inf")), attempt.sent_at)
    for verdict in evidence.verdicts:
        if verdict.transition is not None and verdict.status in ("ACCEPT", "REJECT"):
            key = verdict.run, verdict.transition
            received[key] = min(received[key], verdict.received_at)
    return sent, received


def nothing_is_delivered_before_it_is_due(evidence: Evidence) -> Iterator[str]:
    """Check that the clock that decides had shown the scheduled time when the run was delivered.

    A worker that was paused may receive a delivery late, when the run has been scheduled again. Such states have larger ids
    than the lease, because ids begin with the time of their creation.
    """
    runs = {run.id: run for run in evidence.runs}
    for claim in evidence.claims:
        scheduled = [
            state
            for state in runs[claim.run].states
            if state.scheduled_at and state.id < claim.lease and state.latest_at <= claim.at - CLOCK_SKEW_SECONDS
        ]
        if not scheduled:
            continue
        due_at = scheduled[-1].scheduled_at or 0
        _, ahead = clock_offsets(evidence, scheduled[-1].earliest_at, claim.at)
        if claim.at + ahead < due_at - CLOCK_SKEW_SECONDS:
            yield f"{claim.run} was delivered {due_at - claim.at - ahead:.3f} s early"


def clock_offsets(evidence: Evidence, start: float, end: float) -> tuple[float, float]:
    """Return the lowest and the highest offset of the deciding clock that a server may have read in an interval."""
    offsets = [0.0]
    for step in evidence.clock_steps:
        if step.at <= start - CLOCK_READING_SECONDS:
            offsets = [step.offset]
        elif step.at <= end:
            offsets.append(step.offset)
    return min(offsets), max(offsets)

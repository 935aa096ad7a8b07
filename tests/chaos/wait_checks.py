"""Checks of clients that wait for the ends of runs."""

from collections.abc import Iterator

from tests.chaos.evidence import DATABASE, Evidence, State, Wait
from tests.chaos.time_checks import CLOCK_SKEW_SECONDS

WAKE_UP_SECONDS = 3.0
"""Time, in seconds, within which a waiting query returns after an end, while no server and no database is absent.

Several polls of a server that has missed the notification fit into it.
"""


def every_reported_end_is_in_the_history(evidence: Evidence) -> Iterator[str]:
    """Check that waiting clients get only runs that had ended, with their last states, and that they get every run."""
    last = {run.id: run.states[-1] for run in evidence.runs}
    for wait in evidence.waits:
        for run, type, name in wait.ended:
            state = last[run]
            if (state.type, state.name) != (type, name):
                yield f"{run} was reported as {name} and is {state.name}"
            elif state.earliest_at > wait.received_at + CLOCK_SKEW_SECONDS:
                yield f"{run} was reported as {name} {state.earliest_at - wait.received_at:.3f} s before that"
        for run in wait.not_found:
            yield f"{run} was reported as not found"


def every_end_is_reported(evidence: Evidence) -> Iterator[str]:
    reported = {run for wait in evidence.waits for run, _, _ in wait.ended}
    for each in evidence.awaited:
        if each.run not in reported:
            yield f"the end of {each.run} was not reported to the client that waits for it"


def no_wake_up_is_lost(evidence: Evidence) -> Iterator[str]:
    """Check that a response omits no run that had ended before the query, or that should have ended the wait."""
    last = {run.id: run.states[-1] for run in evidence.runs}
    for wait in evidence.waits:
        if wait.has_more:
            continue
        for run in sorted(set(wait.runs) - {run for run, _, _ in wait.ended}):
            state = last[run]
            if state.latest_at < wait.sent_at - CLOCK_SKEW_SECONDS:
                yield f"{run} was not reported {wait.sent_at - state.latest_at:.3f} s after its end"
            elif state.latest_at < wait.received_at - WAKE_UP_SECONDS and not _is_disturbed(evidence, wait, state):
                yield f"a client waited for {run} for {wait.received_at - state.latest_at:.3f} s after its end"


def _is_disturbed(evidence: Evidence, wait: Wait, end: State) -> bool:
    """Return whether a server or the database was absent, or about to return, between the end and the response."""
    since = end.earliest_at - WAKE_UP_SECONDS
    names = {*evidence.servers, DATABASE}
    return any(each.of in names and each.start <= wait.received_at and each.end >= since for each in evidence.absences)

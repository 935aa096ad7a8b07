"""Expiry of background runs that have not started."""

from db.enums import StateType
from db.records import TaskRunRecord
from resolvers.orchestration.transition import TERMINAL_STATES, ProposedState, Reject, Transition, Verdict, rule


@rule(entering={StateType.RUNNING})
def expire_unstarted_runs(transition: Transition) -> Verdict | None:
    """Set CANCELLED (`Expired`) instead of RUNNING if the run has expired and has never started.

    A run that has ended keeps its state.
    """
    run = transition.run
    assert isinstance(run, TaskRunRecord)
    if run.start_time is not None or run.expires_at is None or run.expires_at > transition.now:
        return None
    expired = expired_state(run.expires_at)
    return Reject(expired.message or "", None if transition.current_type in TERMINAL_STATES else expired)


def expired_state(expires_at: str) -> ProposedState:
    """Return the state of a run that has expired at this time."""
    return ProposedState(StateType.CANCELLED, "Expired", f"The task run expired at {expires_at} before it started.")

"""Cancellation of a background run that no worker holds."""

from db.enums import StateType
from resolvers.orchestration.transition import (
    ANY_STATE,
    TERMINAL_STATES,
    ProposedState,
    Reject,
    Transition,
    Verdict,
    rule,
)


@rule(leaving=ANY_STATE - TERMINAL_STATES, entering={StateType.CANCELLING})
def cancel_unheld_task_runs_immediately(transition: Transition) -> Verdict | None:
    """Set CANCELLED instead of CANCELLING when no worker has acknowledged a lease of the run.

    No worker would complete the cancellation: the run is queued, or its worker holds no lease and does not learn of it.
    """
    if transition.has_worker:
        return None
    proposed = transition.proposed
    return Reject(
        "No worker has acknowledged the task run, which is cancelled immediately.",
        ProposedState(StateType.CANCELLED, StateType.CANCELLED.default_name, proposed.message, proposed.data),
    )

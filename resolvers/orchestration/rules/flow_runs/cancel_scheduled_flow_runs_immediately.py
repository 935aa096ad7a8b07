"""Cancellation of a flow run that has not started."""

from db.enums import StateType
from resolvers.orchestration.transition import ProposedState, Reject, Transition, Verdict, rule


@rule(leaving={StateType.SCHEDULED}, entering={StateType.CANCELLING})
def cancel_scheduled_flow_runs_immediately(transition: Transition) -> Verdict | None:
    """Set CANCELLED instead of CANCELLING for a SCHEDULED flow run, because no process has to stop first."""
    proposed = transition.proposed
    return Reject(
        "The flow run has not started and is cancelled immediately.",
        ProposedState(StateType.CANCELLED, StateType.CANCELLED.default_name, proposed.message, proposed.data),
    )

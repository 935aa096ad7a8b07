"""Transitions of a cancelled flow run."""

from db.enums import StateType
from resolvers.orchestration.transition import ANY_STATE, Reject, Transition, Verdict, rule


@rule(
    leaving={StateType.CANCELLED, StateType.CANCELLING},
    entering=ANY_STATE - {StateType.CANCELLED},
)
def restrict_cancelling_to_cancelled(transition: Transition) -> Verdict | None:
    """Reject all states but CANCELLED for a flow run that is CANCELLING or CANCELLED."""
    return Reject(f"The flow run is {transition.current_type} and can only become CANCELLED.")

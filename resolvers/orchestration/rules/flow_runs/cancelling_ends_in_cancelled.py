"""What was called off stays called off."""

from db.enums import StateType
from resolvers.orchestration.transition import ANY_STATE, Reject, Transition, Verdict, rule


@rule(
    leaving={StateType.CANCELLED, StateType.CANCELLING},
    entering=ANY_STATE - {StateType.CANCELLED},
)
def cancelling_ends_in_cancelled(transition: Transition) -> Verdict | None:
    """Let a flow run that is being cancelled go nowhere but to CANCELLED."""
    return Reject(f"The flow run is {transition.current_type}: it can only become CANCELLED.")

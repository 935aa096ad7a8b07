"""PENDING is the claim on a run: of several who propose it, one gets it."""

from db.enums import StateType
from resolvers.orchestration.transition import Abort, Transition, Verdict, rule


@rule(
    leaving={StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.CANCELLED},
    entering={StateType.PENDING},
)
def prevent_pending(transition: Transition) -> Verdict | None:
    """Refuse PENDING for a run that somebody has already claimed, or that was called off."""
    assert transition.current_type is not None
    return Abort(f"The run is {transition.current_type}: it can not be claimed again.")

"""Start of a background run that has been cancelled."""

from db.enums import StateType
from resolvers.orchestration.transition import Reject, Transition, Verdict, rule


@rule(leaving={StateType.CANCELLED, StateType.CANCELLING}, entering={StateType.RUNNING})
def reject_running_after_cancellation(transition: Transition) -> Verdict | None:
    """Reject RUNNING for a run that is CANCELLED or CANCELLING.

    A worker without a lease may have received the run before it was cancelled. SCHEDULED runs it again on purpose.
    """
    return Reject(f"The task run is {transition.current_type}. To run it again, set SCHEDULED.")

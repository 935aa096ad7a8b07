"""Mutual exclusion of clients that claim a run by proposing PENDING."""

from db.enums import StateType
from resolvers.orchestration.transition import Abort, Transition, Verdict, rule


@rule(
    leaving={StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.CANCELLED},
    entering={StateType.PENDING},
)
def prevent_pending(transition: Transition) -> Verdict | None:
    """Abort PENDING for a run that is already claimed, or cancelled.

    Of several clients that propose PENDING for the same run, only the first one is accepted.
    """
    assert transition.current_type is not None
    return Abort(f"The run is {transition.current_type} and cannot be claimed.")

"""There is nothing to stop in a flow run that has not started."""

from db.enums import StateType
from resolvers.orchestration.transition import ProposedState, Reject, Transition, Verdict, rule


@rule(leaving={StateType.SCHEDULED}, entering={StateType.CANCELLING})
def cancel_at_once_what_never_started(transition: Transition) -> Verdict | None:
    """Put CANCELLED in the place of CANCELLING for a flow run that is still SCHEDULED."""
    asked = transition.proposed
    return Reject(
        "The flow run has not started: there is nothing to wait for.",
        ProposedState(StateType.CANCELLED, StateType.CANCELLED.default_name, asked.message, asked.data),
    )

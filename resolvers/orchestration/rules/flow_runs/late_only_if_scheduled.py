"""Only what is scheduled can be late."""

from db.enums import StateType
from resolvers.orchestration.transition import Reject, Transition, Verdict, rule


@rule(entering={StateType.SCHEDULED})
def late_only_if_scheduled(transition: Transition) -> Verdict | None:
    """Refuse the name `Late` to a flow run that is not SCHEDULED (any more)."""
    if transition.proposed.name == "Late" and transition.current_type is not StateType.SCHEDULED:
        return Reject("The flow run is not scheduled, so it is not late.")
    return None

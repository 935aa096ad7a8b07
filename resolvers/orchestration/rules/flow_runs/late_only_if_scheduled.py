"""The state name `Late`."""

from db.enums import StateType
from resolvers.orchestration.transition import Reject, Transition, Verdict, rule


@rule(entering={StateType.SCHEDULED})
def late_only_if_scheduled(transition: Transition) -> Verdict | None:
    """Reject a SCHEDULED state with the name `Late` for a flow run that is not SCHEDULED."""
    if transition.proposed.name == "Late" and transition.current_type is not StateType.SCHEDULED:
        return Reject("Only a SCHEDULED flow run can be marked as Late.")
    return None

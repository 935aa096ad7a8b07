"""A claimed run keeps the time it was scheduled for."""

from dataclasses import replace

from db.enums import StateType
from resolvers.orchestration.transition import Amend, Transition, Verdict, rule


@rule(leaving={StateType.SCHEDULED}, entering={StateType.PENDING})
def copy_scheduled_time(transition: Transition) -> Verdict | None:
    """Carry the scheduled time over to PENDING, where RUNNING will ask for it; one that the proposal names wins."""
    proposed, current = transition.proposed, transition.current
    if current is None or proposed.details.scheduled_time is not None:
        return None
    details = replace(proposed.details, scheduled_time=current.details.scheduled_time)
    return Amend(replace(proposed, details=details))

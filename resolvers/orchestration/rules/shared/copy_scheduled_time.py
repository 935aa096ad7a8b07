"""The scheduled time of a run that is claimed."""

from dataclasses import replace

from db.enums import StateType
from resolvers.orchestration.transition import Amend, Transition, Verdict, rule


@rule(leaving={StateType.SCHEDULED}, entering={StateType.PENDING})
def copy_scheduled_time(transition: Transition) -> Verdict | None:
    """Copy the scheduled time from SCHEDULED to PENDING, unless the proposal has one.

    `wait_for_scheduled_time` reads it when the run becomes RUNNING.
    """
    proposed, current = transition.proposed, transition.current
    if current is None or proposed.details.scheduled_time is not None:
        return None
    details = replace(proposed.details, scheduled_time=current.details.scheduled_time)
    return Amend(replace(proposed, details=details))

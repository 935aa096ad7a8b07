"""A run does not start before its time."""

from math import ceil

from db.enums import StateType
from db.runtime.timestamps import seconds_between
from resolvers.orchestration.transition import Transition, Verdict, Wait, rule


@rule(leaving={StateType.SCHEDULED, StateType.PENDING}, entering={StateType.RUNNING})
def wait_for_scheduled_time(transition: Transition) -> Verdict | None:
    """Tell a worker that comes early how many whole seconds to wait. Up to half a second early passes."""
    scheduled_time = transition.current.details.scheduled_time if transition.current else None
    if scheduled_time is None:
        return None
    delay = ceil(seconds_between(transition.now, scheduled_time) - 0.5)
    if delay <= 0:
        return None
    return Wait("The run is scheduled for later.", float(delay))

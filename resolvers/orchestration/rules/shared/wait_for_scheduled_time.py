"""The earliest start of a run."""

from math import ceil

from db.enums import StateType
from db.runtime.timestamps import seconds_between
from resolvers.orchestration.transition import Transition, Verdict, Wait, rule


@rule(leaving={StateType.SCHEDULED, StateType.PENDING}, entering={StateType.RUNNING})
def wait_for_scheduled_time(transition: Transition) -> Verdict | None:
    """Delay RUNNING until the scheduled time of the current state.

    The delay is a whole number of seconds, rounded to the nearest one. A start up to half a second early is accepted.
    """
    scheduled_time = transition.current.details.scheduled_time if transition.current else None
    if scheduled_time is None:
        return None
    delay = ceil(seconds_between(transition.now, scheduled_time) - 0.5)
    if delay <= 0:
        return None
    return Wait(f"The run is scheduled for {scheduled_time}.", float(delay))

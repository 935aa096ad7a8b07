"""No more runs of a tag at a time than its limit allows."""

from db.enums import StateType
from resolvers.orchestration.transition import Abort, Amend, Effects, Transition, Verdict, Wait, rule

WAIT_SECONDS = 30.0
"""How long a run that finds no free slot is told to wait."""


@rule(entering={StateType.RUNNING})
def take_concurrency_slots(transition: Transition) -> Verdict | None:
    """Take a slot of each limit on the run's tags, or none at all. A slot that the run holds is not asked for twice."""
    for limit in transition.limits:
        if limit.limit == 0:
            return Abort(f"The concurrency limit of the tag {limit.tag!r} is 0: nothing with it may run.")
        if limit.used_by_others >= limit.limit:
            return Wait(f"All slots of the tag {limit.tag!r} are taken.", WAIT_SECONDS, for_slot=True)
    return Amend(effects=Effects(takes_slots=True)) if transition.limits else None

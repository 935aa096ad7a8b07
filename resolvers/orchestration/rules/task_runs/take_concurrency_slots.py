"""Concurrency limits by tag."""

from db.enums import StateType
from resolvers.orchestration.transition import Abort, Amend, Effects, Transition, Verdict, Wait, rule

WAIT_SECONDS = 30.0
"""Delay of a run that waits for a free slot, in seconds."""


@rule(entering={StateType.RUNNING})
def take_concurrency_slots(transition: Transition) -> Verdict | None:
    """Take a slot of each limit on the tags of the run, all or none. A slot that the run already holds is kept.

    A limit of 0 aborts. A limit without a free slot delays the run. The first such limit in the order of tags decides.
    """
    for limit in transition.limits:
        if limit.limit == 0:
            return Abort(f"The concurrency limit of tag {limit.tag!r} is 0: no task run with this tag can run.")
        if limit.used_by_others >= limit.limit:
            reason = f"All slots of tag {limit.tag!r} are in use; its concurrency limit is {limit.limit:,}."
            return Wait(reason, WAIT_SECONDS, for_slot=True)
    return Amend(effects=Effects(takes_slots=True)) if transition.limits else None

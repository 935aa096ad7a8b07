"""Concurrency limits by tag."""

from collections.abc import Iterable

from db.enums import StateType
from resolvers.orchestration.transition import Abort, Amend, Effects, LimitFacts, Transition, Verdict, Wait, rule

WAIT_SECONDS = 30.0
"""Delay of a run that waits for a free slot, in seconds."""


@rule(entering={StateType.RUNNING})
def take_concurrency_slots(transition: Transition) -> Verdict | None:
    """Take a slot of each limit on the tags of the run, all or none. A slot that the run already holds is kept.

    A limit of 0 aborts. A limit without a free slot delays the run. The first such limit in the order of tags decides.
    """
    limit = first_full_limit(transition.limits)
    if limit is None:
        return Amend(effects=Effects(takes_slots=True)) if transition.limits else None
    if limit.limit == 0:
        reason = f"The concurrency limit of tag {limit.tag!r} is 0: no task run with this tag can run."
        return Abort(reason, waits_for_tag=limit.tag)
    reason = f"All slots of tag {limit.tag!r} are in use; its concurrency limit is {limit.limit:,}."
    return Wait(reason, WAIT_SECONDS, waits_for_tag=limit.tag)


def first_full_limit(limits: Iterable[LimitFacts]) -> LimitFacts | None:
    """Return the first of these limits that has no free slot for the run; None when each has one."""
    return next((each for each in limits if each.used_by_others >= each.limit), None)

"""A result that is kept need not be made again."""

from dataclasses import replace

from db.enums import StateType
from resolvers.orchestration.transition import ProposedState, Reject, Transition, Verdict, rule


@rule(entering={StateType.RUNNING})
def retrieve_from_cache(transition: Transition) -> Verdict | None:
    """Put the kept state in the place of RUNNING, under the name `Cached`.

    The key is the proposal's own; keys are shared by all tasks. `refreshCache` asks for the work to be done anyway.
    """
    cached, asked = transition.cached, transition.proposed.details
    if cached is None or not asked.cache_key or asked.refresh_cache:
        return None
    details = replace(cached.details, transition_id=asked.transition_id)
    return Reject(
        "A result is kept under this cache key.",
        ProposedState(cached.type, "Cached", cached.message, cached.data, details),
    )

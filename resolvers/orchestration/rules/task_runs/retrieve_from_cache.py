"""Use of results from the result cache."""

from dataclasses import replace

from db.enums import StateType
from resolvers.orchestration.transition import ProposedState, Reject, Transition, Verdict, rule


@rule(entering={StateType.RUNNING})
def retrieve_from_cache(transition: Transition) -> Verdict | None:
    """Set the cached state, with the name `Cached`, instead of RUNNING.

    The cache key is the one of the proposed state. All tasks share one set of keys. `refreshCache` skips the cache.
    """
    cached, proposed_details = transition.cached, transition.proposed.details
    if cached is None or not proposed_details.cache_key or proposed_details.refresh_cache:
        return None
    details = replace(cached.details, transition_id=proposed_details.transition_id)
    return Reject(
        "A cached result exists for this cache key.",
        ProposedState(cached.type, "Cached", cached.message, cached.data, details),
    )

"""A result with a cache key is kept for others."""

from db.enums import StateType
from resolvers.orchestration.transition import Amend, Effects, Transition, Verdict, rule


@rule(entering={StateType.COMPLETED})
def insert_into_cache(transition: Transition) -> Verdict | None:
    """Keep the state under its cache key, until its cache expiration; one that has passed is kept for nobody."""
    return Amend(effects=Effects(keeps_result=True)) if transition.proposed.details.cache_key else None

"""Storage of results in the result cache."""

from db.enums import StateType
from resolvers.orchestration.transition import Amend, Effects, Transition, Verdict, rule


@rule(entering={StateType.COMPLETED})
def insert_into_cache(transition: Transition) -> Verdict | None:
    """Store a COMPLETED state under its cache key, until its cache expiration.

    An expiration in the past is accepted, but the stored state is never used.
    """
    return Amend(effects=Effects(caches_result=True)) if transition.proposed.details.cache_key else None

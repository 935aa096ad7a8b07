"""A worker that lost its lease changes nothing."""

from resolvers.orchestration.transition import Abort, Transition, Verdict, rule


@rule()
def fence_lost_leases(transition: Transition) -> Verdict | None:
    """Stop a worker whose lease has run out or has passed to someone else.

    A worker can be paused past its lease and wake up believing that it still owns the run. Its report must change
    nothing, since another worker may already be running it. Proposals without a lease (operators, programs) pass.
    """
    if transition.lease_id is not None and transition.lease_id != transition.held_lease_id:
        return Abort("This lease is no longer held: stop working on the run, another worker may have it.")
    return None

"""Fencing of workers that have lost their lease."""

from resolvers.orchestration.transition import Abort, Transition, Verdict, rule


@rule()
def fence_lost_leases(transition: Transition) -> Verdict | None:
    """Abort proposals under a lease that has expired or is not the current lease of the run.

    A worker that was suspended past its lease may still believe that it owns the run, while another worker is already
    executing it. Proposals without a lease (from operators and programs) are not affected.
    """
    if transition.lease_id is not None and transition.lease_id != transition.held_lease_id:
        return Abort("The lease is no longer held. Stop working on the task run: another worker may be executing it.")
    return None

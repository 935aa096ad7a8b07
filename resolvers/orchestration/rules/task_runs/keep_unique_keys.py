"""Unique keys of task runs that start again."""

from resolvers.orchestration.transition import ANY_STATE, TERMINAL_STATES, Reject, Transition, Verdict, rule


@rule(leaving=TERMINAL_STATES, entering=ANY_STATE - TERMINAL_STATES)
def keep_unique_keys(transition: Transition) -> Verdict | None:
    """Reject a state that is not terminal while another run holds the unique key of the run.

    Ending a run frees its unique key, and another run may have been created with it since. Applies with `force` too:
    at most one run that has not ended has a unique key.
    """
    if transition.unique_key_holder_id is None:
        return None
    return Reject(
        f"The task run {transition.unique_key_holder_id} has the same unique key and has not ended. "
        "This run cannot start again before it ends."
    )

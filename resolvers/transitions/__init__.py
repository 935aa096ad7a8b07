"""State transitions: decides proposed states by the rules and writes all their effects in one transaction.

The effects are the new state, the statistics of the run, its queue entry, its concurrency slots and cached results.

    set_states.py         sets states proposed by clients, for task runs and flow runs
    batch.py              decides the task run transitions of one batch, and collects their effects
    enter_state.py        applies a decided state to a run, in memory
    concurrency_slots.py  the slots that a batch takes and frees
    unique_keys.py        the unique keys that the runs of a batch hold
    measurements.py       what a batch contributes to the metrics

Guarantees: a transition of a batch sees the effects of earlier ones; runs are locked in ascending order of id, then
limits in ascending order of tag; a repeated transition id changes nothing. Imports `resolvers.queue`,
`resolvers.orchestration`, `resolvers.errors` and `db`.
"""

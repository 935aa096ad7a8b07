"""Delivery of due background runs to workers, each run under a lease.

    dispatcher.py      claims runs for all subscribers of this server and distributes them
    claim.py           the claim: selects due runs and leases them, in one transaction
    round_robin.py     which task key is next, remembered between claims
    subscribers.py     subscriptions and single claims, each with its credit
    leases.py          acknowledge, renew and release leases
    slot_check.py      which due runs can take their concurrency slots
    lease_recovery.py  what happens to a run whose worker is lost
    lease_sweeper.py   finds expired leases
    metrics.py         counts of claims, deliveries and recovered leases

Guarantees: a run is under at most one lease at a time, and the clock of the database decides when a lease expires. All
durable facts are in the queue table; memory holds only hints, credit and statistics. Losing them delays a run and never
loses it.

Imports `db`, the rooms `transitions`, `queue` and `orchestration`, and modules of `resolvers` outside its rooms.
"""

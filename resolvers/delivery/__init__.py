"""Delivery of due background runs to workers, each run under a lease.

    dispatcher.py         claims runs for all subscribers of this server and distributes them
    due_keys.py           which task keys may have a due run
    claim.py              the claim: selects due runs and leases them, in one transaction
    round_robin.py        which task key is next, remembered between claims
    subscribers.py        subscriptions and single claims, each with its credit
    exchange.py           reports, renewals and a claim in one transaction
    leases.py             acknowledge, renew and release leases
    lease_signals.py      waits for leases that are lost or whose runs are being cancelled
    progress_reports.py   what workers report about the progress of their runs
    slot_check.py         which due runs can take their concurrency slots
    run_starts.py         which due runs a claim can start, and their transitions to RUNNING
    lease_recovery.py     what happens to a run whose worker is lost
    lease_sweeper.py      finds expired leases
    deadlines.py          what happens to a run that has expired or exceeds its time limit
    deadline_sweeper.py   finds these runs
    heartbeats.py         records that servers are running, and extends leases after a time without any
    connected_workers.py  the workers that are connected to this server
    workers.py            the workers of all servers
    metrics.py            counts of claims, deliveries and recovered leases

Guarantees: a run is under at most one lease at a time, and the clock of the database decides when a lease expires. All
durable facts are in the queue table; memory holds only hints, credit and statistics. Losing them delays a run and never
loses it.

Imports `db`, the rooms `transitions`, `queue` and `orchestration`, and modules of `resolvers` outside its rooms.
"""

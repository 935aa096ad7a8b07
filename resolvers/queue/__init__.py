"""The queues of background task runs, one for each task key.

The queue is a table. A run has an entry from the transaction that makes it SCHEDULED until the run ends, or until a
client without its lease moves it out of SCHEDULED before a worker has acknowledged it. While a worker has the run, the
entry contains the lease. Memory holds only hints, such as cached counts.

    entries.py      effects of state changes on queue entries
    slot_waiters.py runs that wait for a concurrency slot
    pauses.py       pauses and resumes queues
    wait_reasons.py why a run is not delivered yet
    capacity.py     limits on the number of waiting runs
    task_queue.py   delivery order of one task key
    multi_queue.py  round robin over several task keys
    queue_ids.py    ids of queues in the API
    stats.py        statistics for the API
    depth.py        depths for metrics, for a bounded number of task keys

Guarantees: the state of a run and its entry change in the same transaction. Imports `resolvers.orchestration`,
`resolvers.errors` and `db`.
"""

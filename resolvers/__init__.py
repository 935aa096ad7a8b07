"""The domain: reads and writes of every field of the API, the orchestration of states, and the queue.

A resolver takes plain values and returns records (`db.records`). It knows nothing of GraphQL and contains no SQL. A
*write operation* is a plain function of a connection and a list of items, and returns one result or one refusal for
each item. The database combines the items of concurrent requests into one call.

    orchestration/  decides state transitions by rules
    queue/          the queue of each task key, its limits and statistics
    transitions/    sets states: applies decisions to runs, queue entries and concurrency slots
    delivery/       claims due runs for workers, and manages their leases
    bulk_changes/   cancels, retries and reschedules the runs that match a filter

Guarantees: an invalid item is refused by a `Refusal` and changes nothing; the result of a write operation is returned
after the write is durable. Imports `db` only.
"""

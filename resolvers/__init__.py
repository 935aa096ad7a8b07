"""What each field of the API does: reads, writes, the orchestration of states, and the queue.

A resolver takes plain values and gives back records (`db.records`); it knows nothing of GraphQL and holds no SQL. What
writes is written as an *operation*: a plain function of a connection and a list of items that gives back one result, or
one refusal, for each. The database gathers the items of concurrent requests and calls it once for all of them.

Promises: bad input is refused whole, by a `Refusal`, before anything is written; what an operation has answered is on
disk. Imports `db` alone.
"""

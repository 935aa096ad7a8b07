"""How a due run reaches one worker at a time.

The queue is a table: a run in the background has a row in it from the transaction that makes it SCHEDULED until it is
taken over or has ended. What is kept in memory here are hints, and which local subscriber may still be given how much.

    placement.py    where a change of state leaves a run in the queue
    bounds.py       how many runs may wait for a key
    task_queue.py   one key's due runs          multi_queue.py  a fair choice over several keys
    turns.py        whose turn it is, from one claim to the next
    claim.py        the claim: gives due runs to local subscribers' free credit, in one transaction
    leases.py       acknowledge, give back, take over
    subscriber.py   those whom the dispatcher claims for
    dispatcher.py   claims for all local subscribers at once, and hands out
    sweep.py        takes back what was delivered and never taken over
    figures.py      how it stands with each key      depths.py       the same, for a bounded number of keys
    counts.py       what it counts of its own work
"""

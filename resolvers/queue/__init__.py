"""How a due run reaches one worker at a time.

The queue is a table: a run in the background has a row in it from the transaction that makes it SCHEDULED until it is
taken over or has ended. What is kept in memory here are hints, and which local subscriber may still be given how much.

    placement.py    where a change of state leaves a run in the queue
    task_queue.py   one key's due runs          multi_queue.py  a fair choice over several keys
    claim.py        the claim: gives due runs to local subscribers' free credit, in one transaction
    leases.py       acknowledge, give back, take over
    dispatcher.py   claims for all local subscribers at once, and hands out
    sweep.py        takes back what was delivered and never taken over
    figures.py      what it counts of its own work
"""

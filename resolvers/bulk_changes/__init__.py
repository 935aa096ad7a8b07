"""Bulk changes: cancels, retries or reschedules the runs that match a filter, a page at a time, oldest first.

    verbs.py      which runs a verb applies to, and the state that it proposes for each of them; pure
    pages.py      the page of runs that one change examines, and its result
    task_runs.py  decides and writes the changes of task runs
    flow_runs.py  decides and writes the cancellation of flow runs

Guarantees: one transaction for each change, in a number of statements that does not depend on the number of runs; a dry
run decides as the change would and writes nothing. Imports `resolvers.transitions`, `resolvers.queue`,
`resolvers.orchestration`, `resolvers.errors` and `db`.
"""

"""Commands that use the API of a running server: `runyard runs`, `runyard queues` and `runyard workers`.

    options.py         options of several commands, and the variables RUNYARD_URL and RUNYARD_TOKEN
    run_commands.py    `runyard runs list`, `show`, `create` and `watch`
    change_commands.py `runyard runs cancel` and `retry`
    queue_commands.py  `runyard queues`
    worker_commands.py `runyard workers`
    client.py          requests and event streams of the API, over HTTP
    feed.py            the feed of state changes, across disconnections
    filters.py         filters for task runs from options
    bulk_changes.py    changes of all task runs that match a filter, in batches
    tables.py          tables and lines of text
    run_details.py     the text of `runyard runs show`
    wait_reasons.py    why a queued run is not delivered yet
    run_lists.py       pages and tables of runs
    creation.py        creates a run, and waits for its end
    watching.py        the lines of `runyard runs watch`

The modules of commands import only what the help needs; each command imports its dependencies when it is called. Tables
are for people, and `--json` is for programs. Errors exit with 1 and one line. Imports nothing of the server except
`queries`, `runyard.durations`, and the enumerations of `db.enums` and `resolvers.errors`.
"""

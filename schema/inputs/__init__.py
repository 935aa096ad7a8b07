"""GraphQL input types and arguments, and their conversion into values for resolvers.

    arguments.py    checks that GraphQL types cannot express
    filters.py      filters for lists
    mutations.py    input objects of mutations
    task_inputs.py  the JSON argument `taskInputs`
    cursors.py      encoding of opaque cursors

Guarantees: invalid input raises `BadInput` with the path of the argument, before anything is read or written. Imports
`resolvers`, and of `db` only records and ids.
"""

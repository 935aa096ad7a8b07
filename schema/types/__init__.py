"""GraphQL output types, one module for each kind of object.

The types read the attributes of a record directly, without conversion. Fields that need other rows use the loaders of
the context. Types refer to each other (a flow run has task runs, a task run has a flow run) by lazy references. Imports
`schema` except its root fields, `resolvers`, and of `db` only records and ids.
"""

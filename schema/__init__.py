"""The GraphQL API: types, inputs, root fields, and the execution of operations.

A root field parses its arguments, calls one resolver and returns its records. GraphQL types read the attributes of a
record directly, without conversion.

    mutations/  the fields of `Mutation`, by subject
    execution/  validates and executes operations
    limits/     limits on documents, variables and responses
    reads/      pages, and reads of only the selected columns
    errors.py   the only place that converts exceptions into GraphQL errors

Guarantees: every name in the schema has a description, `schema.graphql` is the current schema, and no client receives a
traceback. Imports `resolvers`, and of `db` no module that contains SQL.
"""

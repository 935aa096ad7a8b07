"""The GraphQL engine: parses, validates and executes operations of a Strawberry schema.

Documents are parsed and validated once. Compiled functions coerce inputs and complete results where possible (the fast
path); graphql-core executes everything else and reports every error (the fallback). Results do not depend on the path.

- `codegen`: generates functions that complete values.
- `selections`: selected fields of an operation and their compiled functions.
- `gather`: awaits fields concurrently and cancels them safely.

Guarantees: limits, scopes and variables are checked before an operation is executed; errors have the form that clients
receive. The room knows nothing of task runs: it does not import `db`, `resolvers`, or the context, types, inputs, reads
and root fields of `schema`.
"""

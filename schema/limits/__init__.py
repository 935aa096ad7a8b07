"""Limits on what one request can cost: the document, its cost, variables, filters, duration and response.

- `options`: the limits that the operator can set, with their defaults.
- `document_size`: counts a document before it is analyzed.
- `cost`: cost, filters and scopes of each operation.
- `text_checks`: values that no database can store.
- `validation`: validates with a bounded number of errors.

Guarantees: a limit is checked before the work that it bounds, and its error names the limit. Imports, of the layers
below, only errors, and the deadlines and memory budget of `db.runtime`; of `schema`, only `permissions` and `naming`.
"""

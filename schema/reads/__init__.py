"""Reads of pages and single rows with exactly the columns that a query selects.

- `pages`: arguments, cursors and connections of every list.
- `row_plans`: completes an object or a page from database rows.
- `history_plan`: completes a history from JSON that the database returns.

Guarantees: a selection that has no plan, or whose plan fails, is read as records and completed by graphql-core with the
same result. Imports the engine (`schema.execution`), inputs and limits of `schema`, `resolvers`, and of `db` the
records.
"""

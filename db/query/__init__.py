"""Queries whose form clients choose: filters, sort orders, pages and sets of columns, compiled to SQL.

Guarantees: values from clients are passed as parameters and never written into SQL. Statements are cached by the form
of the query, and every cache is bounded.

Imports `db.sql` and the modules of `db` that describe tables and connections, but not `db.statements`.
"""

"""Building blocks of SQL: statements that are compiled for both dialects, and expressions that differ between them.

Guarantees: a statement is compiled at its first use on each dialect and never changes its shape, since a list is passed
as one parameter. An expression has the same meaning on SQLite and PostgreSQL; where precision differs, its docstring
says how.

Imports no other part of the project. `db.query` and `db.statements` build on it.
"""

"""Storage: tables, migrations, statements and transactions, on SQLite and PostgreSQL. No other folder contains SQL.

A *unit of work* is a plain function of a `Connection`: it reads and writes through statements and returns a result. A
`Database` executes units of work. Writes run in a transaction, and no other transaction sees them before the commit.

Guarantees:

- The result of a write is returned after the write is durable.
- A read never waits for a write.
- Errors of the drivers are raised as exceptions of `db.errors`.

Imports nothing of the other layers. Every layer may import the data types of `db.enums` and `db.records`. Statements
and units of work are called by `resolvers` only.

- `statements/`: one module for each table or subject.
- `query/`: filters and pagination.
- `sql/`: statements and expressions for both SQL dialects.
- `sqlite/`, `postgresql/`: the two implementations of `db.database.Database`.
- `runtime/`: clock, ids, timestamps, timeouts and memory limits.
"""

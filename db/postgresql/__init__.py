"""PostgreSQL implementation of `db.database.Database`, over asyncpg.

Guarantees that any number of servers on one database behave as one. Imports other modules and rooms of `db`, except
`sqlite`.

- `driver`: the only module that imports asyncpg.
- `connection`, `transaction`: a unit of work outside of a transaction (reads) and in one (writes).
- `greenlets`: runs units of work, which are plain functions, on the event loop.
- `notifier`: notifications between servers, and the clock of the database.
"""

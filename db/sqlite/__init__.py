"""SQLite implementation of `db.database.Database`.

Guarantees that a committed write survives a power failure, and that a read never waits for a write. One server process
at a time uses a file. Imports other modules and rooms of `db`, except `postgresql`.
"""

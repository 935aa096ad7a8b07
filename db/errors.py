"""Exceptions of the database. Errors of the drivers are raised as one of them.

DatabaseError
├── DatabaseUnavailable   the database is busy or cannot be reached; retry later
│   ├── RowsLocked        another transaction has locked a row for too long; the database works
│   └── ServerWasSuspended  leases are extended first; retry
├── TransactionConflict   the transaction conflicted with another one; retry
├── DatabaseTooNew        the database was written by a later version of Runyard
└── BrokenReference       a row references a row that does not exist, or was deleted
"""


class DatabaseError(Exception):
    """Base class of all exceptions of the database."""


class DatabaseUnavailable(DatabaseError):
    """The database is busy or cannot be reached.

    The request may be retried. Nothing was written, unless the connection was lost during the commit.
    """


class RowsLocked(DatabaseUnavailable):
    """Another transaction has locked a row for too long. Nothing was written. Not an outage: other rows can be used."""


class ServerWasSuspended(DatabaseUnavailable):
    """This server was suspended before its transaction began. Nothing was written. A retry extends leases first."""


class TransactionConflict(DatabaseError):
    """The transaction conflicted with another one and was rolled back. A retry sees the changes of the other one."""


class DatabaseTooNew(DatabaseError):
    """The database has migrations that this version does not know."""


class BrokenReference(DatabaseError):
    """A written row references a row that does not exist."""

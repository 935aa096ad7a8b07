"""What the database can refuse, in our words.

DatabaseError
├── DatabaseUnavailable   nothing was written; the same request may succeed later
├── DatabaseTooNew        the file was written by a later version of Runyard
└── BrokenReference       a row names another one that is not there (or not any more)
"""


class DatabaseError(Exception):
    """The database did not do as asked."""


class DatabaseUnavailable(DatabaseError):
    """The database is busy or away. Nothing was written; asking again is right."""


class DatabaseTooNew(DatabaseError):
    """The database has migrations that this version does not know."""


class BrokenReference(DatabaseError):
    """A row that was to be written names one that is not there."""

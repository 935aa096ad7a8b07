"""What the database can refuse, in our words.

DatabaseError
├── DatabaseUnavailable   nobody knows of anything written; the same request may succeed later
├── Collision             another transaction was in the way; the same one again is right
├── TooMuchToRead         what was asked for is more than may be read at once; less is right
├── TooMuchAtOnce         large answers take all the memory that they may; the same request may succeed later
├── DatabaseTooNew        the file was written by a later version of Runyard
└── BrokenReference       a row names another one that is not there (or not any more)
"""


class DatabaseError(Exception):
    """The database did not do as asked."""


class DatabaseUnavailable(DatabaseError):
    """The database is busy or away. Asking again is right: nothing was written, unless it went away in the commit."""


class Collision(DatabaseError):
    """Another transaction was in the way of this one, which was undone; the same one again will see what that one did."""


class TooMuchToRead(DatabaseError):
    """What was asked for is more than may be read for one answer. Asking for less is right."""

    def __init__(self, most: int) -> None:
        super().__init__(f"More than {most:,} bytes would have to be read.")
        self.most = most
        self.kept_from_writing = False
        """Whether it has undone what was to be written in the same transaction."""


class TooMuchAtOnce(DatabaseError):
    """There is no room for another large answer beside those that are under way. Asking again is right."""


class DatabaseTooNew(DatabaseError):
    """The database has migrations that this version does not know."""


class BrokenReference(DatabaseError):
    """A row that was to be written names one that is not there."""

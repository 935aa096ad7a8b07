"""How many rows to ask for at a time, where each may be a few bytes or some megabytes."""

from contextlib import AbstractContextManager

from db.connection import Connection
from db.errors import TooMuchToRead

MOST_BYTES = 8 * 1024 * 1024
"""What a portion may take to read, and whoever asked for it holds until it is passed on."""

FITTING_BEFORE_MORE = 16
"""How many portions have to fit before a larger one is tried: on PostgreSQL, each that does not costs a connection."""


def reading_portion(connection: Connection, size: int) -> AbstractContextManager[None]:
    """Meanwhile a portion of so many rows is read. A single one is, however large it is."""
    return connection.allowance.instead(None if size == 1 else MOST_BYTES)


class Portion:
    """A number of rows that gets smaller where it was too much to read, and larger again while it fits."""

    def __init__(self, most: int) -> None:
        self.size = most
        self._most = most
        self._fitting = 0

    def was_too_much(self, asked: int, error: TooMuchToRead) -> None:
        """So many rows were too much: go on with half as many at most. Raises the error where it was a single row."""
        if asked == 1:
            raise error
        self.size = min(self.size, asked // 2)
        self._fitting = 0

    def has_fitted(self) -> None:
        """Make it larger, if it has fitted often enough."""
        if self.size == self._most:
            return
        self._fitting += 1
        if self._fitting == FITTING_BEFORE_MORE:
            self.size = min(2 * self.size, self._most)
            self._fitting = 0

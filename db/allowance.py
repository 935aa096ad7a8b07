"""How much may be read for one answer: a page may have a thousand runs, and each of them megabytes of parameters.

An operation has one allowance for all that it reads; whatever else reads has one for each reading. SQLite's rows are weighed
one by one as they come, in characters of the columns that can be long; PostgreSQL's by the bytes that it sends.
"""

from contextvars import ContextVar

from db.errors import TooMuchToRead

MOST_BYTES = 64 * 1024 * 1024


class Allowance:
    """What may still be read. Several readings may take from it at once; together they may take a little too much."""

    __slots__ = ("left", "most")

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most = most
        self.left = most

    def check(self) -> None:
        """TooMuchToRead where more has been read than may be."""
        if self.left < 0:
            raise TooMuchToRead(self.most)


_of_operation: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


def begin_operation(most: int) -> None:
    """Give all that this task, and those that it begins, read from now on one allowance."""
    _of_operation.set(Allowance(most))


def allowance(most: int) -> Allowance:
    """The allowance of the operation that is under way; outside of operations, one of its own."""
    of_operation = _of_operation.get()
    if of_operation is None:
        return Allowance(most)
    of_operation.check()
    return of_operation

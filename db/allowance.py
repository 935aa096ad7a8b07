"""How much may be read for one answer: a page may have a thousand runs, and each of them megabytes of parameters.

An operation has one allowance for all that it reads; whatever else reads has one for each reading. SQLite's rows are weighed
one by one as they come, in characters of the columns that can be long; PostgreSQL's by the bytes that it sends. What large
answers take until they are sent is limited for all of them together, too.
"""

from contextvars import ContextVar
from threading import Lock

from db.errors import TooMuchAtOnce, TooMuchToRead

MOST_BYTES = 64 * 1024 * 1024

SMALL = 1024 * 1024
"""What an answer may always take, however much others have taken."""


class Crowd:
    """What the large answers that are under way have taken together. May be used by any thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._lock = Lock()

    def take(self, count: int) -> bool:
        """Whether there is still room, these included. Give back what was taken in any case."""
        with self._lock:
            self._taken += count
            return self._taken <= self._most

    def give_back(self, count: int) -> None:
        """Make room for others."""
        with self._lock:
            self._taken -= count


class Allowance:
    """What may still be taken. Several readings may take from it at once; together they may take a little too much."""

    __slots__ = ("_charged", "_crowd", "_is_refused", "left", "most")

    def __init__(self, most: int = MOST_BYTES, crowd: Crowd | None = None) -> None:
        self.most = most
        self.left = most
        self._crowd = crowd
        self._charged = 0
        self._is_refused = False

    def take(self, count: int) -> bool:
        """Take so much; whether that was allowed."""
        self.left -= count
        taken = self.most - self.left
        if self._crowd is not None and taken > max(SMALL, self._charged):
            more, self._charged = taken - self._charged, taken
            self._is_refused |= not self._crowd.take(more)
        return self.left >= 0 and not self._is_refused

    def check(self) -> None:
        """TooMuchToRead or TooMuchAtOnce where more was taken than may be."""
        if self.left < 0:
            raise TooMuchToRead(self.most)
        if self._is_refused:
            raise TooMuchAtOnce

    def end(self) -> None:
        """Make room for others: what was taken is no longer in memory."""
        if self._crowd is not None:
            self._crowd.give_back(self._charged)
            self._crowd = None


_of_operation: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


def begin_operation(allowance: Allowance) -> None:
    """Let all that this task, and those that it begins, read from now on be taken from one allowance."""
    _of_operation.set(allowance)


def allowance(most: int) -> Allowance:
    """The allowance of the operation that is under way; outside of operations, one of its own."""
    of_operation = _of_operation.get()
    if of_operation is None:
        return Allowance(most)
    of_operation.check()
    return of_operation

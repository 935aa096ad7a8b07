"""How much may be read for one answer: a page may have a thousand runs, and each of them megabytes of parameters.

An operation has one allowance for all that it reads; whatever else reads has one for each reading. SQLite's rows are weighed
one by one as they come, in characters of the columns that can be long; PostgreSQL's by the bytes that it sends. What large
answers take until they are sent is counted together, too, and limits those of queries.
"""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import RLock

from db.errors import TooMuchAtOnce, TooMuchToRead

MOST_BYTES = 64 * 1024 * 1024

SMALL = 1024 * 1024
"""What an answer may always take, however much others have taken."""


class Crowd:
    """What the large answers that are under way have taken together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self.shares: dict[Share, None] = {}
        """Those who have taken anything, the first one first."""
        # Python may let go of a share, and so end it, at any moment.
        self.lock = RLock()


class Share:
    """What one answer has taken of the room for all. May be used by any thread."""

    def __init__(self, crowd: Crowd, *, gives_way: bool) -> None:
        """`gives_way`: whether it is refused where there is no room. What is not is counted all the same."""
        self._crowd = crowd
        self._gives_way = gives_way
        self._taken = 0
        self._has_ended = False

    def take(self, count: int) -> bool:
        """Take so much; whether there was room. The first of all may go beyond it, or all would be in each other's way."""
        crowd = self._crowd
        with crowd.lock:
            if self._has_ended:
                return False
            crowd.shares.setdefault(self)
            self._taken += count
            crowd.taken += count
            return not self._gives_way or crowd.taken <= crowd.most or next(iter(crowd.shares)) is self

    def end(self) -> None:
        """Make room for others: what was taken is no longer in memory."""
        crowd = self._crowd
        with crowd.lock:
            crowd.shares.pop(self, None)
            crowd.taken -= self._taken
            self._taken = 0
            self._has_ended = True

    @property
    def is_small(self) -> bool:
        """Whether it has taken none of the room, as most answers do."""
        return self._taken == 0


class Allowance:
    """What may still be taken. Several readings may take from it at once; together they may take a little too much."""

    __slots__ = ("_charged", "_is_refused", "_share", "left", "most")

    def __init__(self, most: int = MOST_BYTES, share: Share | None = None) -> None:
        self.most = most
        self.left = most
        self._share = share
        self._charged = 0
        self._is_refused = False

    def take(self, count: int) -> bool:
        """Take so much; whether that was allowed."""
        self.left -= count
        taken = self.most - self.left
        if self._share is not None and taken > max(SMALL, self._charged):
            more, self._charged = taken - self._charged, taken
            self._is_refused |= not self._share.take(more)
        return self.left >= 0 and not self._is_refused

    @contextmanager
    def instead(self, most: int | None) -> Generator[None]:
        """Let this be what may be taken meanwhile, None for anything, whatever else there is in the same transaction."""
        before = self.left
        self.left = sys.maxsize if most is None else min(most, self.most)
        try:
            yield
        finally:
            self.left = before

    def check(self) -> None:
        """TooMuchToRead or TooMuchAtOnce where more was taken than may be."""
        if self.left < 0:
            raise TooMuchToRead(self.most)
        if self._is_refused:
            raise TooMuchAtOnce


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

"""Memory budgets for reads: a page can contain a thousand runs, each with megabytes of parameters.

An operation has one read budget for everything that it reads; outside of operations, each read has its own. SQLite's
rows are counted one by one as they are fetched, in characters of the columns that can be long; PostgreSQL's are counted
in received bytes. The memory that large results hold until they are sent also counts towards a budget that all
operations share. Only queries are refused when the shared budget is exhausted.
"""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import RLock

MAX_READ_BYTES = 64 * 1024 * 1024

UNCOUNTED_BYTES = 1024 * 1024
"""Bytes that a result may always hold, regardless of other results."""


class ReadTooLarge(Exception):
    """An operation exceeds its read budget. The client must request less."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The data to read exceeds the limit of {limit:,} bytes.")
        self.limit = limit
        self.has_rolled_back_writes = False
        """Whether writes in the same transaction were rolled back."""


class MemoryBudgetExceeded(Exception):
    """The large results in flight use the whole shared budget. The request may be retried."""


class SharedMemoryBudget:
    """Memory that all large results in flight hold together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reserved = 0
        self.reservations: dict[MemoryReservation, None] = {}
        """Reservations that hold memory, oldest first."""
        # Reentrant, because garbage collection may release a reservation while the lock is held.
        self.lock = RLock()


class MemoryReservation:
    """Memory that one result holds of the shared budget. Thread-safe."""

    def __init__(self, budget: SharedMemoryBudget, *, can_be_refused: bool) -> None:
        """`can_be_refused`: whether it is refused when the budget is exhausted. Its bytes are counted in any case."""
        self._budget = budget
        self._can_be_refused = can_be_refused
        self._reserved = 0
        self._is_released = False

    def reserve(self, count: int) -> bool:
        """Reserve `count` more bytes and return whether they fit into the budget.

        The oldest reservation may exceed the budget; otherwise all of them could block each other.
        """
        budget = self._budget
        with budget.lock:
            if self._is_released:
                return False
            budget.reservations.setdefault(self)
            self._reserved += count
            budget.reserved += count
            return (
                not self._can_be_refused or budget.reserved <= budget.limit or next(iter(budget.reservations)) is self
            )

    def release(self) -> None:
        """Release the reserved bytes, which are no longer in memory."""
        budget = self._budget
        with budget.lock:
            budget.reservations.pop(self, None)
            budget.reserved -= self._reserved
            self._reserved = 0
            self._is_released = True

    @property
    def is_empty(self) -> bool:
        """Whether nothing is reserved, as for most results."""
        return self._reserved == 0


class ReadBudget:
    """What may still be read. Concurrent reads may share a budget, and together exceed it slightly."""

    __slots__ = ("_is_refused", "_reservation", "_reserved", "limit", "remaining")

    def __init__(self, limit: int = MAX_READ_BYTES, reservation: MemoryReservation | None = None) -> None:
        self.limit = limit
        self.remaining = limit
        self._reservation = reservation
        self._reserved = 0
        self._is_refused = False

    def consume(self, count: int) -> bool:
        """Count `count` bytes as read and return whether they are within the budget."""
        self.remaining -= count
        consumed = self.limit - self.remaining
        if self._reservation is not None and consumed > max(UNCOUNTED_BYTES, self._reserved):
            additional, self._reserved = consumed - self._reserved, consumed
            self._is_refused |= not self._reservation.reserve(additional)
        return self.remaining >= 0 and not self._is_refused

    @contextmanager
    def limited_to(self, limit: int | None) -> Generator[None]:
        """Set what may be read inside the context, whatever else the transaction reads. None removes the limit."""
        before = self.remaining
        self.remaining = sys.maxsize if limit is None else min(limit, self.limit)
        try:
            yield
        finally:
            self.remaining = before

    @contextmanager
    def restored_on_overflow(self) -> Generator[None]:
        """Count nothing for a read in the context that raises ReadTooLarge. A smaller read may then fit."""
        before = self.remaining
        try:
            yield
        except ReadTooLarge:
            self.remaining = before
            raise

    def check(self) -> None:
        """Raise ReadTooLarge or MemoryBudgetExceeded when more was read than allowed."""
        if self.remaining < 0:
            raise ReadTooLarge(self.limit)
        if self._is_refused:
            raise MemoryBudgetExceeded


_operation_budget: ContextVar[ReadBudget | None] = ContextVar("read_budget", default=None)


def set_operation_budget(budget: ReadBudget) -> None:
    """Count everything that this task, and the tasks that it starts, read from now on against `budget`."""
    _operation_budget.set(budget)


def current_read_budget(limit: int) -> ReadBudget:
    """Return the read budget of the current operation; outside of operations, a new one of `limit` bytes.

    Raises ReadTooLarge or MemoryBudgetExceeded when the operation has exceeded its budget.
    """
    operation_budget = _operation_budget.get()
    if operation_budget is None:
        return ReadBudget(limit)
    operation_budget.check()
    return operation_budget

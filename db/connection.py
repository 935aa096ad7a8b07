"""Interface of a unit of work to its transaction: fetch, run, lock and notify.

A unit of work is a plain function. It is called with a `Connection` inside a transaction and waits for nothing but the
database. The same function works on both databases.
"""

import random
import sqlite3
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from db.enums import StateType
from db.runtime.chance import Chance
from db.runtime.memory_budget import ReadBudget
from db.sql.statement import Parameters, Statement

Row = tuple[Any, ...]
NOTHING: Parameters = {}


@dataclass(frozen=True, slots=True)
class WorkAvailable:
    """A run was queued under this task key, or a queued run may be due earlier than before."""

    task_key: str


@dataclass(frozen=True, slots=True)
class LeaseSettled:
    """This lease was acknowledged or has ended. Its subscriber may receive another run."""

    lease_id: str


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """The lease has ended."""

    lease_id: str


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The run under this lease is CANCELLING: its worker is asked to stop it."""

    lease_id: str


@dataclass(frozen=True, slots=True)
class TaskRunEnded:
    """The task run has entered a terminal state, or was deleted."""

    run_id: str


class TaskRunEnd(NamedTuple):
    """A task run that has entered a terminal state."""

    task_key: str
    state_type: StateType
    run_seconds: float | None
    """Time in RUNNING states; None when the run has not started."""


@dataclass(frozen=True, slots=True)
class TaskRunsMeasured:
    """Task runs have started or ended. Concerns this server only, for its metrics."""

    wait_seconds: tuple[float, ...]
    """For each run that has started for the first time, its delay after the expected start."""
    ends: tuple[TaskRunEnd, ...]


@dataclass(frozen=True, slots=True)
class FlowRunsDeleted:
    """Flow runs were deleted together with their task runs, whose ids are not known."""


@dataclass(frozen=True, slots=True)
class NotificationsMissed:
    """Earlier notifications of other servers may have been lost."""


@dataclass(frozen=True, slots=True)
class ClockStepFollowed:
    """A server now follows a step of the database's clock. All servers must do so at the same time."""


@dataclass(frozen=True, slots=True)
class StatesWritten:
    """New states of task runs were written."""


@dataclass(frozen=True, slots=True)
class FlowRunStatesWritten:
    """New states of flow runs were written. Concerns this server only: other servers find them by polling."""


@dataclass(frozen=True, slots=True)
class DeadlineSet:
    """A run expires or times out at this time. Concerns this server only: other servers find it by polling."""

    at: str


Notification = (
    WorkAvailable
    | LeaseSettled
    | LeaseEnded
    | CancelRequested
    | TaskRunEnded
    | TaskRunsMeasured
    | FlowRunsDeleted
    | NotificationsMissed
    | ClockStepFollowed
    | StatesWritten
    | FlowRunStatesWritten
    | DeadlineSet
)


class Connection(Protocol):
    """A connection inside a transaction."""

    now: str
    """Start of the transaction, or its last lock, by the database's clock. Its comparisons and timestamps use it."""
    chance: Chance
    """Returns a random number, at least 0 and less than 1. Every random choice in the transaction uses it."""
    read_budget: ReadBudget
    """What the transaction may still read."""
    notifications: list[Notification]
    """Notifications to publish after the commit."""

    def fetch(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        """Return all rows of the statement. A list among the parameters is passed as one value.

        Raises ReadTooLarge or MemoryBudgetExceeded when the rows exceed the read budget.
        """
        ...

    def run(self, statement: Statement, parameters: Parameters = NOTHING) -> int:
        """Execute the statement and return the number of rows that it changed."""
        ...

    def run_many(self, statement: Statement, rows: Sequence[Parameters]) -> None:
        """Execute the statement for each row, in one call of the driver. No value may be a list."""
        ...

    def lock(self, statement: Statement, parameters: Parameters = NOTHING) -> None:
        """Lock the rows that `statement` finds until the transaction ends. Waits for others that have locked them.

        Lock first, then read: rows that were read before the lock may be stale. `now` is never before the lock. On a
        database with a single writer this does nothing. To prevent deadlocks, locks are taken in this order: flow runs,
        task runs, queue entries, concurrency limits; rows of one kind in the order of their keys.
        """
        ...

    def fetch_locked(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        """Lock rows as `lock` does and return them, in one statement.

        The locked rows are returned as of the lock. Rows of other tables that the statement reads may be older.
        """
        ...

    def update_returning(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        """Execute the UPDATE and return its rows.

        As the first statement of a transaction that takes locks or writes, it is a transaction by itself: a statement
        that writes must not follow it then.
        """
        ...

    def notify(self, notifications: Iterable[Notification]) -> None:
        """Publish the notifications after the commit. They are discarded when the transaction is rolled back."""
        ...

    def savepoint(self) -> AbstractContextManager[None]:
        """Return a context whose changes and notifications are rolled back when it raises."""
        ...


@dataclass(slots=True)
class SQLiteConnection:
    """A connection over sqlite3, used by one thread."""

    raw: sqlite3.Connection
    now: str
    read_budget: ReadBudget = field(default_factory=ReadBudget)
    """What the transaction may still read."""
    chance: Chance = field(default_factory=lambda: random.random)
    notifications: list[Notification] = field(default_factory=list[Notification])
    statements: int = 0
    """Number of statements executed, with which tests measure the cost of an operation."""

    def fetch(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        self.statements += 1
        compiled = statement.for_sqlite
        rows = self.raw.execute(compiled.text, compiled.bind_by_name(parameters))
        return rows.fetchall() if compiled.measure is None else self._fetch_within_budget(rows, compiled.measure)

    def _fetch_within_budget(self, rows: sqlite3.Cursor, measure: Callable[[Row], int]) -> list[Row]:
        fetched: list[Row] = []
        remaining = before = self.read_budget.remaining
        for row in rows:
            remaining -= measure(row)
            if remaining < 0:
                rows.close()
                break
            fetched.append(row)
        if not self.read_budget.consume(before - remaining):
            self.read_budget.check()
        return fetched

    def run(self, statement: Statement, parameters: Parameters = NOTHING) -> int:
        self.statements += 1
        compiled = statement.for_sqlite
        return self.raw.execute(compiled.text, compiled.bind_by_name(parameters)).rowcount

    def run_many(self, statement: Statement, rows: Sequence[Parameters]) -> None:
        if rows:
            self.statements += 1
            compiled = statement.for_sqlite
            self.raw.executemany(compiled.text, compiled.bind_rows_by_name(rows))

    def lock(self, statement: Statement, parameters: Parameters = NOTHING) -> None:
        """Do nothing: SQLite has a single writer."""

    def fetch_locked(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        return self.fetch(statement, parameters)

    def update_returning(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        return self.fetch(statement, parameters)

    def notify(self, notifications: Iterable[Notification]) -> None:
        self.notifications.extend(notifications)

    @contextmanager
    def savepoint(self) -> Generator[None]:
        notification_count = len(self.notifications)
        self.raw.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            # SQLite has rolled back the whole transaction when the disk is full.
            if self.raw.in_transaction:
                self.raw.execute("ROLLBACK TO part")
                self.raw.execute("RELEASE part")
            del self.notifications[notification_count:]
            raise
        self.raw.execute("RELEASE part")

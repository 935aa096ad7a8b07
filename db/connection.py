"""What a unit of work may do: fetch, run, run for many rows, and announce what others should hear of after the commit.

A unit of work is a plain function; it is called with one of these inside a transaction and never waits for anything but
the database. The same function serves every kind of database.
"""

import sqlite3
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from db.runtime.memory_budget import Allowance
from db.sql.statement import Parameters, Statement

Row = tuple[Any, ...]
NOTHING: Parameters = {}


@dataclass(frozen=True, slots=True)
class WorkWaits:
    """A run was queued under this task key, or one that was queued may be due earlier than thought."""

    task_key: str


@dataclass(frozen=True, slots=True)
class LeaseSettled:
    """This lease was acknowledged or is over, so that whoever got it may be given another run."""

    lease_id: str


@dataclass(frozen=True, slots=True)
class Missed:
    """What other servers announced until now may have gone unheard."""


@dataclass(frozen=True, slots=True)
class StatesWritten:
    """Task runs have taken new states."""


Notice = WorkWaits | LeaseSettled | Missed | StatesWritten


class Connection(Protocol):
    """A connection inside a transaction."""

    now: str
    """When the transaction began, by the database's clock. All that it judges and stamps uses this instant."""
    allowance: Allowance
    """What may still be read."""
    notices: list[Notice]
    """What has been announced."""

    def fetch(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        """All rows that the statement gives. A list among the parameters goes in as one value."""
        ...

    def run(self, statement: Statement, parameters: Parameters = NOTHING) -> int:
        """The number of rows that the statement changed."""
        ...

    def run_many(self, statement: Statement, rows: Sequence[Parameters]) -> None:
        """The statement once for each row, as one call of the driver; nothing for no rows. No value is a list."""
        ...

    def lock(self, statement: Statement, parameters: Parameters = NOTHING) -> None:
        """Let no other transaction change the rows that `statement` finds before this one ends; wait for any that does.

        What was read of them before may be old by then: lock first, read then. `now` is never before the lock. A database
        with a single writer has nothing to do. Locks are taken in this order, so that nobody waits in a circle: flow
        runs, task runs, queue entries, concurrency limits; rows of one kind in the order of their keys.
        """
        ...

    def fetch_locked(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        """As `lock` and then `fetch`, in one: the rows that are locked are as they are once the lock is had. What is read
        beside them may be older than that."""
        ...

    def announce(self, notices: Iterable[Notice]) -> None:
        """Tell others, once this transaction has been committed; never, if it is not."""
        ...

    def savepoint(self) -> AbstractContextManager[None]:
        """A part of the transaction that is undone, with what it announced, where it raises."""
        ...


@dataclass(slots=True)
class SQLiteConnection:
    """A connection of sqlite3, used by one thread."""

    raw: sqlite3.Connection
    now: str
    allowance: Allowance = field(default_factory=Allowance)
    """What it may still read."""
    notices: list[Notice] = field(default_factory=list[Notice])
    statements: int = 0
    """How many statements it has been asked to run: what an operation costs, for tests that count."""

    def fetch(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        self.statements += 1
        compiled = statement.for_sqlite
        rows = self.raw.execute(compiled.text, compiled.by_name(parameters))
        return rows.fetchall() if compiled.weigh is None else self._weighed(rows, compiled.weigh)

    def _weighed(self, rows: sqlite3.Cursor, weigh: Callable[[Row], int]) -> list[Row]:
        taken: list[Row] = []
        left = before = self.allowance.left
        for row in rows:
            left -= weigh(row)
            if left < 0:
                rows.close()
                break
            taken.append(row)
        if not self.allowance.take(before - left):
            self.allowance.check()
        return taken

    def run(self, statement: Statement, parameters: Parameters = NOTHING) -> int:
        self.statements += 1
        compiled = statement.for_sqlite
        return self.raw.execute(compiled.text, compiled.by_name(parameters)).rowcount

    def run_many(self, statement: Statement, rows: Sequence[Parameters]) -> None:
        if rows:
            self.statements += 1
            compiled = statement.for_sqlite
            self.raw.executemany(compiled.text, compiled.rows_by_name(rows))

    def lock(self, statement: Statement, parameters: Parameters = NOTHING) -> None:
        """Nothing: there is one writer."""

    def fetch_locked(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        return self.fetch(statement, parameters)

    def announce(self, notices: Iterable[Notice]) -> None:
        self.notices.extend(notices)

    @contextmanager
    def savepoint(self) -> Generator[None]:
        announced = len(self.notices)
        self.raw.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            # A full disk has ended the whole transaction by now.
            if self.raw.in_transaction:
                self.raw.execute("ROLLBACK TO part")
                self.raw.execute("RELEASE part")
            del self.notices[announced:]
            raise
        self.raw.execute("RELEASE part")

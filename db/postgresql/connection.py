"""`db.connection.Connection` for PostgreSQL, over asyncpg."""

import random
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy.util import await_only

from db.connection import NOTHING, Notification, Row
from db.postgresql.driver import TRANSIENT_ERRORS, terminate_if_broken
from db.runtime.chance import Chance
from db.runtime.clock import Clock
from db.runtime.memory_budget import ReadBudget
from db.runtime.timestamps import format_timestamp
from db.sql.statement import Parameters, Statement

Raw = Any
"""A connection of asyncpg, which has no type annotations."""

T = TypeVar("T")


@dataclass(slots=True)
class PostgreSQLConnection:
    """A connection over asyncpg, used by one greenlet."""

    raw: Raw
    clock: Clock
    now: str
    read_budget: ReadBudget = field(default_factory=ReadBudget)
    """What may still be read. The byte counter of the connection counts against it."""
    chance: Chance = field(default_factory=lambda: random.random)
    notifications: list[Notification] = field(default_factory=list[Notification])
    statements: int = 0
    """Number of statements executed."""

    def fetch(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        self.statements += 1
        compiled = statement.for_postgresql
        try:
            return await_only(self.raw.fetch(compiled.text, *compiled.bind_by_position(parameters)))
        except TRANSIENT_ERRORS:
            # The byte counter may have closed the connection.
            self.read_budget.check()
            raise

    def run(self, statement: Statement, parameters: Parameters = NOTHING) -> int:
        self.statements += 1
        compiled = statement.for_postgresql
        status: str = await_only(self.raw.execute(compiled.text, *compiled.bind_by_position(parameters)))
        return int(status.rpartition(" ")[2])

    def run_many(self, statement: Statement, rows: Sequence[Parameters]) -> None:
        if rows:
            self.statements += 1
            compiled = statement.for_postgresql
            await_only(self.raw.executemany(compiled.text, [compiled.bind_row_by_position(row) for row in rows]))

    def lock(self, statement: Statement, parameters: Parameters = NOTHING) -> None:
        self.fetch_locked(statement, parameters)

    def fetch_locked(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        rows = self.fetch(statement, parameters)
        self.read_time()
        return rows

    def read_time(self) -> None:
        """Set `now` to the current time."""
        self.now = max(self.now, format_timestamp(self.clock.now()))

    def update_returning(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        return self.fetch(statement, parameters)

    def notify(self, notifications: Iterable[Notification]) -> None:
        self.notifications.extend(notifications)

    @contextmanager
    def savepoint(self) -> Generator[None]:
        notification_count = len(self.notifications)
        await_only(self.raw.execute("SAVEPOINT part"))
        try:
            yield
        except BaseException as error:
            if not terminate_if_broken(self.raw, error):
                await_only(self.raw.execute("ROLLBACK TO part; RELEASE part"))
            del self.notifications[notification_count:]
            raise
        await_only(self.raw.execute("RELEASE part"))


def read_in_transaction(
    work: Callable[[PostgreSQLConnection], T], connection: PostgreSQLConnection, pooled_begin: str
) -> T:
    """Read in a transaction, for which a connection pooler keeps one session.

    Outside of a transaction, asyncpg's queries for unknown types, which switch `jit` off and on, could reach different
    sessions. The transaction is rolled back when the connection is released after an error.
    """
    await_only(connection.raw.execute(pooled_begin))
    result = work(connection)
    await_only(connection.raw.execute("COMMIT"))
    return result

"""What a unit of work asks, asked of PostgreSQL over asyncpg."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.util import await_only

from db.connection import NOTHING, Notice, Row
from db.postgresql.driver import PASSING, drop_if_broken
from db.runtime.clock import Clock
from db.runtime.memory_budget import Allowance
from db.runtime.timestamps import instant
from db.sql.statement import Parameters, Statement

Raw = Any
"""A connection of asyncpg, which has no types of its own."""


@dataclass(slots=True)
class PostgreSQLConnection:
    """A connection of asyncpg, used by one greenlet."""

    raw: Raw
    clock: Clock
    now: str
    allowance: Allowance = field(default_factory=Allowance)
    """What it may still read, which its meter takes from."""
    notices: list[Notice] = field(default_factory=list[Notice])
    statements: int = 0
    """How many statements it has been asked to run."""

    def fetch(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        self.statements += 1
        compiled = statement.for_postgresql
        try:
            return await_only(self.raw.fetch(compiled.text, *compiled.in_order(parameters)))
        except PASSING:
            # The meter may have hung up.
            self.allowance.check()
            raise

    def run(self, statement: Statement, parameters: Parameters = NOTHING) -> int:
        self.statements += 1
        compiled = statement.for_postgresql
        status: str = await_only(self.raw.execute(compiled.text, *compiled.in_order(parameters)))
        return int(status.rpartition(" ")[2])

    def run_many(self, statement: Statement, rows: Sequence[Parameters]) -> None:
        if rows:
            self.statements += 1
            compiled = statement.for_postgresql
            await_only(self.raw.executemany(compiled.text, [compiled.row_in_order(row) for row in rows]))

    def lock(self, statement: Statement, parameters: Parameters = NOTHING) -> None:
        self.fetch_locked(statement, parameters)

    def fetch_locked(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        rows = self.fetch(statement, parameters)
        self.now = max(self.now, instant(self.clock.now()))
        return rows

    def announce(self, notices: Iterable[Notice]) -> None:
        self.notices.extend(notices)

    @contextmanager
    def savepoint(self) -> Generator[None]:
        announced = len(self.notices)
        await_only(self.raw.execute("SAVEPOINT part"))
        try:
            yield
        except BaseException as error:
            if not drop_if_broken(self.raw, error):
                await_only(self.raw.execute("ROLLBACK TO part; RELEASE part"))
            del self.notices[announced:]
            raise
        await_only(self.raw.execute("RELEASE part"))

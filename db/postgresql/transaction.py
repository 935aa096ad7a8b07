"""A transaction on PostgreSQL that asks as seldom as it can: each question costs more than most of the answers.

Writes that nobody waits for are held back until something else is asked, and then go out together as one statement. What
takes a lock begins the transaction, and so do writes that do not fit into one statement; a statement by itself is a
transaction anyway. Readings in between see what was committed before each of them, whether it has begun or not.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.util import await_only

from db.connection import NOTHING, Row
from db.postgresql import read_limit
from db.postgresql.connection import PostgreSQLConnection, Raw
from db.postgresql.driver import drop_if_broken, our_words
from db.runtime.clock import Clock
from db.runtime.memory_budget import Allowance
from db.runtime.timestamps import instant
from db.sql.statement import Parameters, Statement, together

Write = tuple[Statement, Sequence[Parameters]]
"""A statement, and the rows that it is to be carried out for."""


@dataclass(slots=True)
class PostgreSQLTransaction(PostgreSQLConnection):
    """A connection in a transaction that begins where it has to. Use `transaction`."""

    has_begun: bool = False
    _held_back: list[Write] = field(default_factory=list[Write])

    def fetch(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        self.write_out()
        if statement.for_postgresql.locks:
            self.begin()
        return PostgreSQLConnection.fetch(self, statement, parameters)

    def fetch_locked(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        self.write_out()
        self.begin()
        return PostgreSQLConnection.fetch_locked(self, statement, parameters)

    def run(self, statement: Statement, parameters: Parameters = NOTHING) -> int:
        self.write_out()
        self.begin()
        return PostgreSQLConnection.run(self, statement, parameters)

    def run_many(self, statement: Statement, rows: Sequence[Parameters]) -> None:
        if rows:
            self._held_back.append((statement, rows))

    @contextmanager
    def savepoint(self) -> Generator[None]:
        self.write_out()
        self.begin()
        with PostgreSQLConnection.savepoint(self):
            try:
                yield
                self.write_out()
            finally:
                self._held_back.clear()

    def begin(self) -> None:
        if not self.has_begun:
            await_only(self.raw.execute("BEGIN"))
            self.has_begun = True

    def write_out(self) -> None:
        """Write what was held back."""
        if self._held_back:
            self.begin()
            self._write(list(_fitting_together(self._held_back)))

    def commit(self) -> None:
        """Write what was held back, and have it all on disk."""
        groups = list(_fitting_together(self._held_back))
        if len(groups) > 1:
            self.begin()
        self._write(groups)
        if self.has_begun:
            await_only(self.raw.execute("COMMIT"))

    def roll_back(self) -> None:
        if self.has_begun:
            await_only(self.raw.execute("ROLLBACK"))

    def _write(self, groups: Sequence[Sequence[Write]]) -> None:
        self._held_back.clear()
        for group in groups:
            self.statements += 1
            text = together(tuple(statement for statement, _ in group))
            rows = list(_rows_of(group))
            # Either is a transaction of its own where none has begun.
            if len(rows) == 1:
                await_only(self.raw.execute(text, *rows[0]))
            else:
                await_only(self.raw.executemany(text, rows))


def _fitting_together(writes: Sequence[Write]) -> Iterator[Sequence[Write]]:
    """The writes in their order, in groups that can each be one statement: as many rows each, of different tables.

    The parts of one statement see nothing of each other, so none of them may write what another one writes. It is carried
    out once for each row: the first rows of all writes go together, then the second ones.
    """
    group: list[Write] = []
    for statement, rows in writes:
        if group and not _fits(statement, rows, group):
            yield group
            group = []
        group.append((statement, rows))
    if group:
        yield group


def _fits(statement: Statement, rows: Sequence[Parameters], group: Sequence[Write]) -> bool:
    if len(rows) != len(group[0][1]) or any(statement.table is each.table for each, _ in group):
        return False
    return len(rows) == 1 or not any(_names_a_later_row(statement, rows, *each) for each in group)


def _names_a_later_row(
    statement: Statement, rows: Sequence[Parameters], earlier: Statement, inserted: Sequence[Parameters]
) -> bool:
    """Whether one of the rows names what `earlier` inserts with a later one: it would not be there yet."""
    if not earlier.inserts:
        return False
    for key in statement.table.foreign_keys:
        if key.column.table is earlier.table:
            places = {row[key.column.name]: place for place, row in enumerate(inserted)}
            named = (row.get(key.parent.name) for row in rows)
            if any(places.get(each, -1) > place for place, each in enumerate(named)):
                return True
    return False


def _rows_of(group: Sequence[Write]) -> Iterator[list[Any]]:
    """The values of one row of each write, one after the other."""
    compiled = [statement.for_postgresql for statement, _ in group]
    for parts in zip(*(rows for _, rows in group), strict=True):
        yield [value for each, part in zip(compiled, parts, strict=True) for value in each.row_in_order(part)]


@contextmanager
def transaction(raw: Raw, clock: Clock, most_bytes: int) -> Generator[PostgreSQLTransaction]:
    with our_words():
        readable = Allowance(most_bytes)
        read_limit.charge(raw, readable)
        connection = PostgreSQLTransaction(raw, clock, instant(clock.now()), readable)
        try:
            yield connection
            connection.commit()
        except BaseException as error:
            if not drop_if_broken(raw, error):
                connection.roll_back()
            raise

"""A PostgreSQL transaction with as few round trips as possible: each one costs more than most statements.

Writes without a result (`run_many`) are buffered until the next statement with a result, and then sent together as one
statement. BEGIN is sent before a statement that takes locks, in the same round trip if that has no parameters, and before
writes that do not fit into one statement; a single statement is a transaction anyway. Reads see what was committed before
each of them, with or without BEGIN. Through a connection pooler, every transaction starts with BEGIN, which then sets the
parameters of the transaction.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.util import await_only

from db.connection import NOTHING, Row
from db.postgresql import read_limit
from db.postgresql.connection import PostgreSQLConnection, Raw
from db.postgresql.driver import terminate_if_broken, translate_errors
from db.runtime.chance import Chance
from db.runtime.clock import Clock
from db.runtime.memory_budget import ReadBudget
from db.runtime.timestamps import format_timestamp
from db.sql.statement import Parameters, Statement, combine

BufferedWrite = tuple[Statement, Sequence[Parameters]]
"""A statement, and the rows that it is executed for."""


def _check_nothing() -> None:
    """Accept any duration."""


@dataclass(slots=True)
class PostgreSQLTransaction(PostgreSQLConnection):
    """A connection that begins its transaction when required. Use `transaction`."""

    check_not_suspended: Callable[[], None] = _check_nothing
    """Called whenever the transaction has read the time."""
    begin_statement: str = "BEGIN"
    has_begun: bool = False
    _buffered: list[BufferedWrite] = field(default_factory=list[BufferedWrite])

    def fetch(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        self.flush()
        if statement.for_postgresql.locks_rows:
            self.begin()
        return PostgreSQLConnection.fetch(self, statement, parameters)

    def fetch_locked(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        self.flush()
        self.begin()
        return PostgreSQLConnection.fetch_locked(self, statement, parameters)

    def lock(self, statement: Statement, parameters: Parameters = NOTHING) -> None:
        self.flush()
        if self.has_begun or parameters:
            self.fetch_locked(statement, parameters)
        else:
            self.statements += 1
            self.begin(f"; {statement.for_postgresql.text}")
            self.read_time()

    def read_time(self) -> None:
        PostgreSQLConnection.read_time(self)
        self.check_not_suspended()

    def update_returning(self, statement: Statement, parameters: Parameters = NOTHING) -> list[Row]:
        self.flush()
        return PostgreSQLConnection.fetch(self, statement, parameters)

    def run(self, statement: Statement, parameters: Parameters = NOTHING) -> int:
        self.flush()
        self.begin()
        return PostgreSQLConnection.run(self, statement, parameters)

    def run_many(self, statement: Statement, rows: Sequence[Parameters]) -> None:
        if rows:
            self._buffered.append((statement, rows))

    @contextmanager
    def savepoint(self) -> Generator[None]:
        self.flush()
        self.begin()
        with PostgreSQLConnection.savepoint(self):
            try:
                yield
                self.flush()
            finally:
                self._buffered.clear()

    def begin(self, first_statement: str = "") -> None:
        """Begin the transaction if it has not begun, and execute a statement without parameters in the same round trip."""
        if not self.has_begun:
            # Set first, because the transaction has begun when only the other statement fails.
            self.has_begun = True
            await_only(self.raw.execute(self.begin_statement + first_statement))

    def flush(self) -> None:
        """Execute the buffered writes."""
        if self._buffered:
            self.begin()
            self._execute_groups(list(_group_writes(self._buffered)))

    def commit(self) -> None:
        """Execute the buffered writes and commit."""
        groups = list(_group_writes(self._buffered))
        if len(groups) > 1:
            self.begin()
        self._execute_groups(groups)
        if self.has_begun:
            await_only(self.raw.execute("COMMIT"))

    def rollback(self) -> None:
        if self.has_begun:
            await_only(self.raw.execute("ROLLBACK"))

    def _execute_groups(self, groups: Sequence[Sequence[BufferedWrite]]) -> None:
        self._buffered.clear()
        for group in groups:
            self.statements += 1
            text = combine(tuple(statement for statement, _ in group))
            rows = list(_merge_rows(group))
            # Atomic without BEGIN, because either call is a transaction.
            if len(rows) == 1:
                await_only(self.raw.execute(text, *rows[0]))
            else:
                await_only(self.raw.executemany(text, rows))


def _group_writes(writes: Sequence[BufferedWrite]) -> Iterator[Sequence[BufferedWrite]]:
    """Split the writes, in order, into groups that can be one statement: equal numbers of rows, for different tables.

    The parts of a statement do not see each other's changes, hence no two may write the same rows. The statement is
    executed once for each row: with the first row of every write, then with the second ones.
    """
    group: list[BufferedWrite] = []
    for statement, rows in writes:
        if group and not _can_join(statement, rows, group):
            yield group
            group = []
        group.append((statement, rows))
    if group:
        yield group


def _can_join(statement: Statement, rows: Sequence[Parameters], group: Sequence[BufferedWrite]) -> bool:
    if len(rows) != len(group[0][1]) or any(statement.table is each.table for each, _ in group):
        return False
    return len(rows) == 1 or not any(_references_later_row(statement, rows, *each) for each in group)


def _references_later_row(
    statement: Statement, rows: Sequence[Parameters], earlier: Statement, inserted: Sequence[Parameters]
) -> bool:
    """Return whether a row references a row that `earlier` inserts later, and that would not exist yet."""
    if not earlier.inserts:
        return False
    for key in statement.table.foreign_keys:
        if key.column.table is earlier.table:
            positions = {row[key.column.name]: index for index, row in enumerate(inserted)}
            referenced = (row.get(key.parent.name) for row in rows)
            if any(positions.get(each, -1) > index for index, each in enumerate(referenced)):
                return True
    return False


def _merge_rows(group: Sequence[BufferedWrite]) -> Iterator[list[Any]]:
    """Yield the concatenated values of one row of each write."""
    compiled = [statement.for_postgresql for statement, _ in group]
    for parts in zip(*(rows for _, rows in group), strict=True):
        yield [value for each, part in zip(compiled, parts, strict=True) for value in each.bind_row_by_position(part)]


@contextmanager
def transaction(
    raw: Raw,
    clock: Clock,
    chance: Chance,
    max_read_bytes: int,
    check_not_suspended: Callable[[], None] = _check_nothing,
    begin_statement: str | None = None,
) -> Generator[PostgreSQLTransaction]:
    """Return a context that commits at its end, or rolls back when it raises.

    With `begin_statement`, the transaction begins with it at once; otherwise with BEGIN when it is required.
    """
    with translate_errors():
        read_budget = ReadBudget(max_read_bytes)
        read_limit.start_counting(raw, read_budget)
        connection = PostgreSQLTransaction(
            raw, clock, format_timestamp(clock.now()), read_budget, chance, check_not_suspended=check_not_suspended
        )
        check_not_suspended()
        try:
            if begin_statement is not None:
                connection.begin_statement = begin_statement
                connection.begin()
            yield connection
            connection.commit()
        except BaseException as error:
            if not terminate_if_broken(raw, error):
                connection.rollback()
            raise

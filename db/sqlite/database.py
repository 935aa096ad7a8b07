"""A SQLite file as the database: one writer with group commit, and readers that never wait for it.

A whole unit of work runs in one call on the thread of an aiosqlite connection, because a switch of threads costs more
than a small statement. The writer commits with `synchronous=FULL`: a write whose result was returned survives a power
failure. WAL allows reads during a write.
"""

import asyncio
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiosqlite

from db import migrations
from db.connection import Connection, SQLiteConnection
from db.database import Item, NotificationListener, Result, WriteOperation
from db.errors import BrokenReference, DatabaseUnavailable
from db.group_commit import BatchOutcome, GroupCommit, LockWait, PendingWrite, execute_batch
from db.outages import MAX_SILENCE_SECONDS, Outage, OutageTracker
from db.runtime.chance import Chance
from db.runtime.clock import Clock
from db.runtime.histograms import SECONDS_BUCKETS, CommitStats, ConnectionPoolStats, Histogram
from db.runtime.ids import new_id
from db.runtime.memory_budget import MAX_READ_BYTES, ReadBudget, ReadTooLarge, current_read_budget
from db.runtime.timestamps import format_timestamp
from db.sqlite.clock_steps import ClockSteps
from db.statements.heartbeats import shift_heartbeat
from db.statements.queue import shift_leases
from db.statements.schema_version import is_current

READERS = 2
"""Number of connections for reading. Python runs one thread at a time: more help only while SQLite itself works."""

T = TypeVar("T")

PROGRESS_HANDLER_STEPS = 100_000
"""Steps of SQLite's virtual machine between two checks whether a read was cancelled: about 1 ms."""


@dataclass(slots=True)
class _PendingRead:
    """A read that waits for a connection or runs on it."""

    read_budget: ReadBudget
    is_cancelled: bool = False
    queued_at: float = field(default_factory=time.monotonic)
    started_at: float | None = None


class _ReadInterrupter:
    """Interrupts the current read of a connection when it is cancelled. SQLite calls it on the connection's thread."""

    def __init__(self) -> None:
        self.current_read: _PendingRead | None = None

    def __call__(self) -> bool:
        return self.current_read is not None and self.current_read.is_cancelled


class SQLiteDatabase:
    """One SQLite file. Use `open`. Only one process at a time may open the file for writing."""

    def __init__(
        self,
        writer: aiosqlite.Connection,
        readers: list[aiosqlite.Connection],
        interrupters: list[_ReadInterrupter],
        clock: Clock,
        max_read_bytes: int,
        max_silence_seconds: float,
        chance: Chance,
    ) -> None:
        self.clock = clock
        self.is_shared = False
        self.is_typed = False
        self.name = f"SQLite {sqlite3.sqlite_version}"
        self._writer = writer
        self._readers = readers
        self._interrupters = interrupters
        self._max_read_bytes = max_read_bytes
        self._chance = chance
        self._reads_per_connection = [0] * len(readers)
        """Number of reads assigned to each connection: one runs, the others wait."""
        self._wait_seconds = Histogram(SECONDS_BUCKETS)
        self._is_closing = False
        self._clock_steps = ClockSteps(clock)
        # The time without a server counts as an outage, because no worker could renew a lease.
        outage = Outage(since=None, concerns_all_servers=True)
        self._outage_tracker = OutageTracker(clock, max_silence_seconds, outage)
        self._group_commit = GroupCommit(self._execute_batch, self._outage_tracker, writers=1)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        clock: Clock,
        busy_seconds: float = 5.0,
        max_read_bytes: int = MAX_READ_BYTES,
        max_silence_seconds: float = MAX_SILENCE_SECONDS,
        chance: Chance = random.random,
    ) -> "SQLiteDatabase":
        """Open the database in the file `path`, creating and migrating it as needed.

        A SQLite file has no clock: timestamps use `clock`. A write waits up to `busy_seconds` for another process that
        has locked the file. `max_read_bytes` limits writes, and reads outside of operations. `max_silence_seconds` as
        for `OutageTracker`. Raises DatabaseTooNew or DatabaseUnavailable.
        """
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(migrations.upgrade_sqlite, path)
        async with AsyncExitStack() as stack:
            stack.enter_context(_TranslateErrors())
            writer = await stack.enter_async_context(_connect(path, busy_seconds))
            await _set_pragmas(writer, "synchronous=FULL", "foreign_keys=ON")
            if (latest := await _latest_state_id(writer)) is not None:
                # The feed is sorted by id, and the machine's clock may have been set back since the last id.
                new_id(format_timestamp(clock.now()), after=latest)
            readers = [await stack.enter_async_context(_connect(path, busy_seconds)) for _ in range(READERS)]
            interrupters = [_ReadInterrupter() for _ in readers]
            for reader, interrupter in zip(readers, interrupters, strict=True):
                await _set_pragmas(reader, "query_only=ON")
                # The limit also applies to values that SQL builds, such as the text of a whole history.
                await _run_on_thread(reader, _limit_value_length, max_read_bytes)
                await reader.set_progress_handler(interrupter, PROGRESS_HANDLER_STEPS)  # pyright: ignore[reportArgumentType]
            stack.pop_all()
        return cls(writer, readers, interrupters, clock, max_read_bytes, max_silence_seconds, chance)

    @property
    def commit_stats(self) -> CommitStats:
        return self._group_commit.stats

    @property
    def pending_writes(self) -> int:
        return self._group_commit.pending_count

    @property
    def connection_stats(self) -> ConnectionPoolStats:
        used = sum(count > 0 for count in self._reads_per_connection)
        max_size = len(self._readers)
        return ConnectionPoolStats(
            used, max_size - used, max_size, sum(self._reads_per_connection) - used, self._wait_seconds
        )

    async def read(self, work: Callable[[Connection], T]) -> T:
        if self._is_closing:
            raise DatabaseUnavailable("The database is being closed.")
        # The first of the least busy connections, because its cache is the warmest.
        number = self._reads_per_connection.index(min(self._reads_per_connection))
        pending_read = _PendingRead(current_read_budget(self._max_read_bytes))
        self._reads_per_connection[number] += 1
        try:
            return await _run_on_thread(
                self._readers[number], _read, self.clock, self._interrupters[number], pending_read, work
            )
        except asyncio.CancelledError:
            pending_read.is_cancelled = True
            raise
        finally:
            self._reads_per_connection[number] -= 1
            self._wait_seconds.add((pending_read.started_at or time.monotonic()) - pending_read.queued_at)

    async def write(self, operation: WriteOperation[Item, Result], item: Item) -> Result:
        (result,) = await self.write_all(operation, [item])
        if isinstance(result, Exception):
            raise result
        return result

    async def write_all(
        self, operation: WriteOperation[Item, Result], items: Sequence[Item]
    ) -> list[Result | Exception]:
        return await self._group_commit.write_all(operation, items)

    def listen(self, listener: NotificationListener) -> None:
        self._group_commit.listen(listener)

    def on_outage_end(self, operation: WriteOperation[Outage, None]) -> None:
        self._group_commit.on_outage_end(operation)

    async def is_current(self) -> bool:
        return await self.read(is_current)

    async def close(self) -> None:
        self._is_closing = True
        await self._group_commit.close()
        for connection in [self._writer, *self._readers]:
            await connection.close()

    async def _execute_batch(self, batch: list[PendingWrite], _lock_wait: LockWait) -> BatchOutcome:
        check_not_suspended = self._outage_tracker.start_check()
        return await _run_on_thread(
            self._writer, _write, self._clock_steps, check_not_suspended, self._chance, self._max_read_bytes, batch
        )


def _read(
    raw: sqlite3.Connection,
    clock: Clock,
    interrupter: _ReadInterrupter,
    pending_read: _PendingRead,
    work: Callable[[Connection], T],
) -> T:
    if pending_read.is_cancelled:
        raise DatabaseUnavailable("The read was cancelled before it began.")
    pending_read.started_at = time.monotonic()
    with _TranslateErrors(pending_read.read_budget):
        raw.execute("BEGIN")
        interrupter.current_read = pending_read
        try:
            return work(SQLiteConnection(raw, format_timestamp(clock.now()), pending_read.read_budget))
        finally:
            interrupter.current_read = None
            raw.execute("ROLLBACK")


def _write(
    raw: sqlite3.Connection,
    clock_steps: ClockSteps,
    check_not_suspended: Callable[[], None],
    chance: Chance,
    max_read_bytes: int,
    batch: list[PendingWrite],
) -> BatchOutcome:
    return execute_batch(partial(_transaction, raw, clock_steps, check_not_suspended, chance, max_read_bytes), batch)


@contextmanager
def _transaction(
    raw: sqlite3.Connection,
    clock_steps: ClockSteps,
    check_not_suspended: Callable[[], None],
    chance: Chance,
    max_read_bytes: int,
) -> Generator[Connection]:
    with _TranslateErrors():
        raw.execute("BEGIN IMMEDIATE")
        try:
            # Both come from one reading: leases are never compared with a time that they do not follow yet.
            step, now = clock_steps.unhandled()
            check_not_suspended()
            connection = SQLiteConnection(raw, format_timestamp(now), ReadBudget(max_read_bytes), chance)
            if step:
                shift_leases(connection, step)
                shift_heartbeat(connection, step)
            yield connection
            raw.execute("COMMIT")
            clock_steps.mark_handled(step)
        except BaseException:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise


def _limit_value_length(raw: sqlite3.Connection, max_read_bytes: int) -> None:
    raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(max_read_bytes, 2**31 - 1))


class _TranslateErrors:
    """Raises errors of sqlite3 as exceptions of `db.errors`.

    A context manager made from a generator would take as long as a small statement.
    """

    __slots__ = ("_read_budget",)

    def __init__(self, read_budget: ReadBudget | None = None) -> None:
        self._read_budget = read_budget

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, sqlite3.DataError):
            if self._read_budget is not None and error.sqlite_errorcode == sqlite3.SQLITE_TOOBIG:
                raise ReadTooLarge(self._read_budget.limit) from error
        elif isinstance(error, sqlite3.IntegrityError):
            if error.sqlite_errorname == "SQLITE_CONSTRAINT_FOREIGNKEY":
                raise BrokenReference("A written row references a row that does not exist.") from error
        elif isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in _TRANSIENT_ERROR_CODES:
            raise DatabaseUnavailable(f"The database file could not be used: {error}.") from error


_TRANSIENT_ERROR_CODES = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
}


def _connect(path: Path, busy_seconds: float) -> aiosqlite.Connection:
    return aiosqlite.connect(path, isolation_level=None, timeout=busy_seconds, cached_statements=512)


async def _latest_state_id(connection: aiosqlite.Connection) -> str | None:
    ((latest,),) = await connection.execute_fetchall("SELECT max(id) FROM task_run_state")
    return latest


async def _set_pragmas(connection: aiosqlite.Connection, *pragmas: str) -> None:
    for pragma in ("journal_mode=WAL", "temp_store=MEMORY", "cache_size=-4096", *pragmas):
        await connection.execute(f"PRAGMA {pragma}")


def _run_on_thread(connection: aiosqlite.Connection, call: Callable[..., T], *arguments: object) -> Awaitable[T]:
    """Run `call(raw connection, *arguments)` on the connection's thread.

    aiosqlite has no public way to make several calls of sqlite3 with one switch of threads.
    """
    return connection._execute(call, connection._conn, *arguments)  # pyright: ignore

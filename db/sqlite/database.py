"""A SQLite file as the database: one writer with group commit, and readers that never wait for it.

All of a unit of work runs in one hop on the thread of an aiosqlite connection; a hop costs more than a small statement.
The writer commits with `synchronous=FULL`, so what was answered survives a power cut. WAL lets readers go on meanwhile.
"""

import asyncio
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
from db.database import Item, Listener, Operation, Result
from db.errors import BrokenReference, DatabaseUnavailable, TooMuchToRead
from db.group_commit import Outcomes, Request, WriteBatches, carry_out
from db.outages import Contact, Outage
from db.runtime.clock import Clock
from db.runtime.histograms import SECONDS, Commits, Connections, Distribution
from db.runtime.ids import new_id
from db.runtime.memory_budget import MOST_BYTES, Allowance, allowance
from db.runtime.timestamps import instant

READERS = 2
"""Reading connections. Python runs one thread at a time, so more of them only help while SQLite itself is at work."""

Answer = TypeVar("Answer")

STEPS_BETWEEN_LOOKS = 100_000
"""Steps of SQLite's machine after which a read that takes long looks whether anybody still waits for it: about 1 ms."""


@dataclass(slots=True)
class _Reading:
    """A read that was asked for."""

    allowance: Allowance
    is_given_up: bool = False
    asked_at: float = field(default_factory=time.monotonic)
    began_at: float | None = None


class _Brake:
    """Stops what a reading connection does, once nobody waits for it any more. Asked by SQLite, on its thread."""

    def __init__(self) -> None:
        self.reading: _Reading | None = None

    def __call__(self) -> bool:
        return self.reading is not None and self.reading.is_given_up


class SQLiteDatabase:
    """One SQLite file. Use `open`; one process at a time may have it open for writing."""

    def __init__(
        self,
        writer: aiosqlite.Connection,
        readers: list[aiosqlite.Connection],
        brakes: list[_Brake],
        clock: Clock,
        most_bytes: int,
    ) -> None:
        self.clock = clock
        self.is_shared = False
        self.is_typed = False
        self.name = f"SQLite {sqlite3.sqlite_version}"
        self._writer = writer
        self._readers = readers
        self._brakes = brakes
        self._most_bytes = most_bytes
        self._reads = [0] * len(readers)
        """How many reads each reader has been asked for: it is at one of them, and the others wait."""
        self._waits = Distribution(SECONDS)
        self._is_closing = False
        # While no server had the file, nobody could reach it.
        self._batches = WriteBatches(self._carry_out, Contact(clock, Outage(since=None, until=None)), lanes=1)

    @classmethod
    async def open(
        cls, path: Path, *, clock: Clock, busy_seconds: float = 5.0, most_bytes: int = MOST_BYTES
    ) -> "SQLiteDatabase":
        """The database in the file `path`, made and migrated as needed.

        A SQLite file has no clock of its own, so it goes by `clock`.
        `busy_seconds` is how long a write waits for another process that holds the file; `most_bytes`, how much may be
        read at once, where no operation has an allowance of its own.
        """
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(migrations.upgrade_sqlite, path)
        async with AsyncExitStack() as opened:
            opened.enter_context(_OurWords())
            writer = await opened.enter_async_context(_connect(path, busy_seconds))
            await _set(writer, "synchronous=FULL", "foreign_keys=ON")
            if (latest := await _latest_state(writer)) is not None:
                # The feed goes by the order of ids; the machine's clock may have been set back since.
                new_id(after=latest)
            readers = [await opened.enter_async_context(_connect(path, busy_seconds)) for _ in range(READERS)]
            brakes = [_Brake() for _ in readers]
            for reader, brake in zip(readers, brakes, strict=True):
                await _set(reader, "query_only=ON")
                # Of what it would make of rows, too: of all those of a history it makes one text.
                await _on_thread_of(reader, _limit_texts, most_bytes)
                await reader.set_progress_handler(brake, STEPS_BETWEEN_LOOKS)  # pyright: ignore[reportArgumentType]
            opened.pop_all()
        return cls(writer, readers, brakes, clock, most_bytes)

    @property
    def commits(self) -> Commits:
        return self._batches.commits

    @property
    def writes_waiting(self) -> int:
        return self._batches.waiting

    @property
    def connections(self) -> Connections:
        used = sum(count > 0 for count in self._reads)
        most = len(self._readers)
        return Connections(used, most - used, most, sum(self._reads) - used, self._waits)

    async def read(self, work: Callable[[Connection], Answer]) -> Answer:
        if self._is_closing:
            raise DatabaseUnavailable("The database is being closed.")
        # The first of those with the least to do: what it has read before is still at hand.
        number = self._reads.index(min(self._reads))
        reading = _Reading(allowance(self._most_bytes))
        self._reads[number] += 1
        try:
            return await _on_thread_of(self._readers[number], _read, self.clock, self._brakes[number], reading, work)
        except asyncio.CancelledError:
            reading.is_given_up = True
            raise
        finally:
            self._reads[number] -= 1
            self._waits.add((reading.began_at or time.monotonic()) - reading.asked_at)

    async def write(self, operation: Operation[Item, Result], item: Item) -> Result:
        (result,) = await self.write_all(operation, [item])
        if isinstance(result, Exception):
            raise result
        return result

    async def write_all(self, operation: Operation[Item, Result], items: Sequence[Item]) -> list[Result | Exception]:
        return await self._batches.write_all(operation, items)

    def listen(self, listener: Listener) -> None:
        self._batches.listen(listener)

    def after_outages(self, operation: Operation[Outage, None]) -> None:
        self._batches.after_outages(operation)

    async def is_current(self) -> bool:
        return await self.read(migrations.is_current)

    async def close(self) -> None:
        self._is_closing = True
        await self._batches.close()
        for connection in [self._writer, *self._readers]:
            await connection.close()

    async def _carry_out(self, batch: list[Request]) -> Outcomes:
        return await _on_thread_of(self._writer, _write, self.clock, self._most_bytes, batch)


def _read(
    raw: sqlite3.Connection, clock: Clock, brake: _Brake, reading: _Reading, work: Callable[[Connection], Answer]
) -> Answer:
    if reading.is_given_up:
        raise DatabaseUnavailable("The read was given up before it began.")
    reading.began_at = time.monotonic()
    with _OurWords(reading.allowance):
        raw.execute("BEGIN")
        brake.reading = reading
        try:
            return work(SQLiteConnection(raw, instant(clock.now()), reading.allowance))
        finally:
            brake.reading = None
            raw.execute("ROLLBACK")


def _write(raw: sqlite3.Connection, clock: Clock, most_bytes: int, batch: list[Request]) -> Outcomes:
    return carry_out(partial(_transaction, raw, clock, most_bytes), batch)


@contextmanager
def _transaction(raw: sqlite3.Connection, clock: Clock, most_bytes: int) -> Generator[Connection]:
    with _OurWords():
        raw.execute("BEGIN IMMEDIATE")
        try:
            yield SQLiteConnection(raw, instant(clock.now()), Allowance(most_bytes))
            raw.execute("COMMIT")
        except BaseException:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise


def _limit_texts(raw: sqlite3.Connection, most_bytes: int) -> None:
    raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(most_bytes, 2**31 - 1))


class _OurWords:
    """Says in our words what the driver raises. A context made of a generator would take as long as a small statement."""

    __slots__ = ("_readable",)

    def __init__(self, readable: Allowance | None = None) -> None:
        self._readable = readable

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, sqlite3.DataError):
            if self._readable is not None and error.sqlite_errorcode == sqlite3.SQLITE_TOOBIG:
                raise TooMuchToRead(self._readable.most) from error
        elif isinstance(error, sqlite3.IntegrityError):
            if error.sqlite_errorname == "SQLITE_CONSTRAINT_FOREIGNKEY":
                raise BrokenReference("A row that was to be written names one that is not there.") from error
        elif isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in _PASSING:
            raise DatabaseUnavailable(f"The database file could not be used: {error}.") from error


_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
}


def _connect(path: Path, busy_seconds: float) -> aiosqlite.Connection:
    return aiosqlite.connect(path, isolation_level=None, timeout=busy_seconds, cached_statements=512)


async def _latest_state(connection: aiosqlite.Connection) -> str | None:
    ((latest,),) = await connection.execute_fetchall("SELECT max(id) FROM task_run_state")
    return latest


async def _set(connection: aiosqlite.Connection, *pragmas: str) -> None:
    for pragma in ("journal_mode=WAL", "temp_store=MEMORY", "cache_size=-4096", *pragmas):
        await connection.execute(f"PRAGMA {pragma}")


def _on_thread_of(
    connection: aiosqlite.Connection, call: Callable[..., Answer], *arguments: object
) -> Awaitable[Answer]:
    """`call(raw connection, *arguments)` in one hop. aiosqlite has no public way to run more than one call a hop."""
    return connection._execute(call, connection._conn, *arguments)  # pyright: ignore

"""A SQLite file as the database: one writer with group commit, and readers that never wait for it.

All of a unit of work runs in one hop on the thread of an aiosqlite connection; a hop costs more than a small statement.
The writer commits with `synchronous=FULL`, so what was answered survives a power cut. WAL lets readers go on meanwhile.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from db import migrations
from db.clock import Clock
from db.connection import Connection, Notice, SQLiteConnection
from db.engine import Item, Listener, Operation, Result
from db.errors import BrokenReference, DatabaseUnavailable
from db.instants import instant

log = logging.getLogger("runyard.database")

READERS = 2
"""Reading connections. Python runs one thread at a time, so more of them only help while SQLite itself is at work."""

LARGEST_BATCH = 1000
"""Items of gathered requests in one transaction: beyond it, waiting writers would rather be answered than joined."""

Answer = TypeVar("Answer")

_Outcome = list[Any] | Exception
"""What came of one request: a result for each of its items, or why its transaction failed."""


@dataclass(slots=True)
class _Request:
    """One caller's items on their way into a transaction."""

    operation: Operation[Any, Any]
    items: Sequence[Any]
    answer: "asyncio.Future[list[Any]]"


class SQLiteDatabase:
    """One SQLite file. Use `open`; one process at a time may have it open for writing."""

    def __init__(self, writer: aiosqlite.Connection, readers: list[aiosqlite.Connection], clock: Clock) -> None:
        self.clock = clock
        self.name = f"SQLite {sqlite3.sqlite_version}"
        self._writer = writer
        self._readers = readers
        self._next_reader = 0
        self._listeners: list[Listener] = []
        self._waiting: list[_Request] = []
        self._arrived = asyncio.Event()
        self._closing = False
        self._writing = asyncio.create_task(self._write_batches(), name="database writer")

    @classmethod
    async def open(cls, path: Path, *, clock: Clock, busy_seconds: float = 5.0) -> "SQLiteDatabase":
        """The database in the file `path`, made and migrated as needed.

        A SQLite file has no clock of its own, so it goes by `clock`.
        `busy_seconds` is how long a write waits for another process that holds the file.
        """
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(migrations.upgrade_sqlite, path)
        async with AsyncExitStack() as opened:
            opened.enter_context(_our_words())
            writer = await opened.enter_async_context(_connect(path, busy_seconds))
            await _set(writer, "synchronous=FULL", "foreign_keys=ON")
            readers = [await opened.enter_async_context(_connect(path, busy_seconds)) for _ in range(READERS)]
            for reader in readers:
                await _set(reader, "query_only=ON")
            opened.pop_all()
        return cls(writer, readers, clock)

    async def read(self, work: Callable[[Connection], Answer]) -> Answer:
        if self._closing:
            raise DatabaseUnavailable("The database is being closed.")
        reader = self._readers[self._next_reader]
        self._next_reader = (self._next_reader + 1) % len(self._readers)
        return await _on_thread_of(reader, _read, self.clock, work)

    async def write(self, operation: Operation[Item, Result], item: Item) -> Result:
        (result,) = await self.write_all(operation, [item])
        if isinstance(result, Exception):
            raise result
        return result

    async def write_all(self, operation: Operation[Item, Result], items: Sequence[Item]) -> list[Result | Exception]:
        if self._closing:
            raise DatabaseUnavailable("The database is being closed.")
        answer: asyncio.Future[list[Result | Exception]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Request(operation, items, answer))
        self._arrived.set()
        return await answer

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    async def is_current(self) -> bool:
        return await self.read(migrations.is_current)

    async def close(self) -> None:
        self._closing = True
        self._arrived.set()
        await self._writing
        for connection in [self._writer, *self._readers]:
            await connection.close()

    async def _write_batches(self) -> None:
        """Whatever arrives while one transaction is under way becomes the next one."""
        while self._waiting or not self._closing:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            batch = self._take_batch()
            try:
                outcomes, notices = await _on_thread_of(self._writer, _write, self.clock, batch)
            except Exception as error:  # noqa: BLE001 - everyone who waits is told, and the next batch is tried
                outcomes, notices = [error] * len(batch), []
            for request, outcome in zip(batch, outcomes, strict=True):
                if request.answer.done():
                    continue
                if isinstance(outcome, Exception):
                    request.answer.set_exception(outcome)
                else:
                    request.answer.set_result(outcome)
            if notices:
                self._tell(notices)

    def _tell(self, notices: list[Notice]) -> None:
        for listener in self._listeners:
            try:
                listener(notices)
            except Exception:
                # Writing must not end with a listener's fault; it is told whole.
                log.exception("A listener to the database failed.")

    def _take_batch(self) -> list[_Request]:
        size = taken = 0
        for request in self._waiting:
            size += len(request.items)
            if taken and size > LARGEST_BATCH:
                break
            taken += 1
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return batch


def _read(raw: sqlite3.Connection, clock: Clock, work: Callable[[Connection], Answer]) -> Answer:
    with _our_words():
        raw.execute("BEGIN")
        try:
            return work(SQLiteConnection(raw, instant(clock.now())))
        finally:
            raw.execute("ROLLBACK")


def _write(raw: sqlite3.Connection, clock: Clock, batch: list[_Request]) -> tuple[list[_Outcome], list[Notice]]:
    """Carry out the batch in one transaction; where that fails, each request in one of its own, so that the request
    at fault takes nobody with it."""
    try:
        return _write_together(raw, clock, batch)
    except DatabaseUnavailable as error:
        return [error for _ in batch], []
    except Exception as error:  # noqa: BLE001 - it becomes the outcome of the request that caused it
        if len(batch) == 1:
            return [error], []
    parts = [_write(raw, clock, [request]) for request in batch]
    return [outcome for outcomes, _ in parts for outcome in outcomes], [n for _, notices in parts for n in notices]


def _write_together(
    raw: sqlite3.Connection, clock: Clock, batch: list[_Request]
) -> tuple[list[_Outcome], list[Notice]]:
    """One transaction for all. Requests for one operation become one call of it."""
    outcomes: dict[int, list[Any]] = {}
    with _our_words():
        raw.execute("BEGIN IMMEDIATE")
        connection = SQLiteConnection(raw, instant(clock.now()))
        try:
            for operation, requests in _by_operation(batch).items():
                results = operation(connection, [item for _, request in requests for item in request.items])
                start = 0
                for place, request in requests:
                    outcomes[place] = results[start : start + len(request.items)]
                    start += len(request.items)
            raw.execute("COMMIT")
        except BaseException:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise
    return [outcomes[place] for place in range(len(batch))], connection.notices


def _by_operation(batch: list[_Request]) -> dict[Operation[Any, Any], list[tuple[int, _Request]]]:
    grouped: dict[Operation[Any, Any], list[tuple[int, _Request]]] = {}
    for place, request in enumerate(batch):
        grouped.setdefault(request.operation, []).append((place, request))
    return grouped


@contextmanager
def _our_words() -> Generator[None]:
    """Say in our words what the driver raises."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorname == "SQLITE_CONSTRAINT_FOREIGNKEY":
            raise BrokenReference("A row that was to be written names one that is not there.") from error
        raise
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in _PASSING:
            raise DatabaseUnavailable(f"The database file could not be used: {error}.") from error
        raise


_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
}


def _connect(path: Path, busy_seconds: float) -> aiosqlite.Connection:
    return aiosqlite.connect(path, isolation_level=None, timeout=busy_seconds, cached_statements=512)


async def _set(connection: aiosqlite.Connection, *pragmas: str) -> None:
    for pragma in ("journal_mode=WAL", "temp_store=MEMORY", "cache_size=-8192", *pragmas):
        await connection.execute(f"PRAGMA {pragma}")


async def _on_thread_of(connection: aiosqlite.Connection, call: Callable[..., Answer], *arguments: object) -> Answer:
    """`call(raw connection, *arguments)` in one hop. aiosqlite has no public way to run more than one call a hop."""
    return await connection._execute(call, connection._conn, *arguments)  # pyright: ignore

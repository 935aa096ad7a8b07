"""A PostgreSQL database: any number of servers on it behave as one.

A unit of work is a plain function; here it runs in a greenlet, which waits for asyncpg where a statement does. Ids and
instants come and go as the texts that answers show, so that nothing above knows which database it is on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from db import migrations
from db.connection import Connection
from db.database import Item, Listener, Operation, Result
from db.errors import DatabaseUnavailable
from db.group_commit import Outcomes, Request, WriteBatches, carry_out
from db.outages import Contact, Outage
from db.postgresql import read_limit
from db.postgresql.connection import PostgreSQLConnection, Raw
from db.postgresql.driver import DRIVERS, drop_if_broken, in_our_words, open_pool, our_words
from db.postgresql.greenlets import Greenlets
from db.postgresql.notifier import Signals
from db.postgresql.pool import Pool
from db.postgresql.transaction import transaction
from db.runtime.clock import Clock
from db.runtime.deadlines import Alarms, Deadline
from db.runtime.histograms import Commits, Connections
from db.runtime.memory_budget import MOST_BYTES, allowance
from db.runtime.timestamps import instant

WRITERS = 2
"""Transactions that may be under way at a time. Requests that come meanwhile are gathered, which costs less than more."""

Answer = TypeVar("Answer")


class PostgreSQLDatabase:
    """One PostgreSQL database. Use `open`."""

    def __init__(
        self, pool: Any, name: str, signals: Signals, contact: Contact, timeout_seconds: float, most_bytes: int
    ) -> None:
        self.name = name
        self.clock = contact.clock
        self.is_shared = True
        self.is_typed = True
        self._pool = pool
        self._connections = Pool(pool)
        self._greenlets = Greenlets()
        self._timeouts = Alarms(timeout_seconds)
        self._most_bytes = most_bytes
        self._is_closing = False
        self._signals = signals
        self._contact = contact
        self._batches = WriteBatches(self._carry_out, contact, lanes=WRITERS)
        self._batches.listen(signals.pass_on)
        signals.start()

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Clock | None = None,
        connections: int = 10,
        timeout_seconds: float = 10.0,
        most_bytes: int = MOST_BYTES,
    ) -> "PostgreSQLDatabase":
        """The database at `url` (`postgresql://…`), whose migrations have to be current.

        It goes by the database's clock unless a test owns one. At most `connections` are open, and one more that listens;
        a reading or a transaction that takes `timeout_seconds` is given up, and so is one that reads more than
        `most_bytes`, where no operation has an allowance of its own. DatabaseUnavailable where it does not answer or is
        not migrated.
        """
        pool = await open_pool(
            url, at_least=min(WRITERS, connections), at_most=connections, timeout_seconds=timeout_seconds
        )
        try:
            with our_words():
                name = f"PostgreSQL {await pool.fetchval('SHOW server_version')}"
                started_at = await pool.fetchval("SELECT pg_postmaster_start_time()")
            signals = Signals(url, timeout_seconds)
            if clock is None:
                clock = signals.clock
                await signals.set_clock(pool)
        except BaseException:
            await pool.close()
            raise
        # Servers that came up together with the database know nothing of the time before.
        contact = Contact(clock, Outage(since=None, until=started_at))
        signals.when_lost(contact.lost)
        return cls(pool, name, signals, contact, timeout_seconds, most_bytes)

    @property
    def commits(self) -> Commits:
        return self._batches.commits

    @property
    def writes_waiting(self) -> int:
        return self._batches.waiting

    @property
    def connections(self) -> Connections:
        return self._connections.figures

    async def read(self, work: Callable[[Connection], Answer]) -> Answer:
        if self._is_closing:
            raise DatabaseUnavailable("The database is being closed.")
        readable = allowance(self._most_bytes)

        def read(raw: Raw) -> Awaitable[Answer]:
            read_limit.charge(raw, readable)
            connection = PostgreSQLConnection(raw, self.clock, instant(self.clock.now()), readable)
            return self._greenlets.run(work, connection)

        try:
            answer = await self._use(read)
        except DatabaseUnavailable:
            self._contact.lost()
            raise
        self._contact.reached()
        return answer

    async def write(self, operation: Operation[Item, Result], item: Item) -> Result:
        (result,) = await self.write_all(operation, [item])
        if isinstance(result, Exception):
            raise result
        return result

    async def write_all(self, operation: Operation[Item, Result], items: Sequence[Item]) -> list[Result | Exception]:
        return await self._batches.write_all(operation, items)

    def listen(self, listener: Listener) -> None:
        self._batches.listen(listener)
        self._signals.listen(listener)

    def after_outages(self, operation: Operation[Outage, None]) -> None:
        self._batches.after_outages(operation)

    async def is_current(self) -> bool:
        return await self.read(migrations.is_current)

    async def close(self) -> None:
        self._is_closing = True
        await self._batches.close()
        await self._signals.close()
        try:
            async with asyncio.timeout(5):
                await self._connections.close()
        except TimeoutError:
            self._connections.terminate()

    async def _carry_out(self, batch: list[Request]) -> Outcomes:
        def write(raw: Raw) -> Awaitable[Outcomes]:
            begin = partial(transaction, raw, self.clock, self._most_bytes)
            return self._greenlets.run(carry_out, begin, batch)

        return await self._use(write)

    async def _use(self, work: Callable[[Raw], Awaitable[Answer]]) -> Answer:
        """What comes of work on a connection, for no longer than an answer may take; DatabaseUnavailable after that."""
        deadline = Deadline(self._timeouts)
        try:
            raw, in_order = await self._connections.take(), False
            try:
                answer = await work(raw)
                in_order = True
            except BaseException as error:
                # What somebody has cancelled is cancelled in the database, too, while the connection is put back.
                if deadline.has_acted or not isinstance(error, asyncio.CancelledError):
                    drop_if_broken(raw, error)
                raise
            finally:
                read_limit.leave(raw)
                await self._connections.give_back(raw, in_order=in_order)
        except asyncio.CancelledError as error:
            if deadline.has_cancelled():
                raise in_our_words(TimeoutError()) from error
            raise
        except DRIVERS as error:
            raise in_our_words(error) from error
        finally:
            deadline.end()
        return answer

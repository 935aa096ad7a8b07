"""A PostgreSQL database, on which any number of servers behave as one.

A unit of work is a plain function. It runs in a greenlet that waits for asyncpg at each statement. Ids and timestamps
are sent and received as the text that responses contain: no caller depends on the kind of database.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from db.connection import Connection
from db.database import Item, NotificationListener, Result, WriteOperation
from db.errors import DatabaseUnavailable
from db.group_commit import BatchOutcome, GroupCommit, LockWait, PendingWrite, execute_batch
from db.outages import MAX_SILENCE_SECONDS, Outage, OutageTracker
from db.postgresql import read_limit
from db.postgresql.connection import PostgreSQLConnection, Raw, read_in_transaction
from db.postgresql.driver import (
    DRIVER_ERRORS,
    is_url_pooled,
    open_pool,
    pooled_begin,
    terminate_if_broken,
    translate_error,
    translate_errors,
)
from db.postgresql.greenlets import GreenletPool
from db.postgresql.notifier import Notifier
from db.postgresql.pool import Pool
from db.postgresql.transaction import transaction
from db.runtime.chance import Chance
from db.runtime.clock import Clock
from db.runtime.deadlines import Deadline, SharedTimer
from db.runtime.histograms import CommitStats, ConnectionPoolStats
from db.runtime.memory_budget import MAX_READ_BYTES, current_read_budget
from db.runtime.timestamps import format_timestamp
from db.statements.schema_version import is_current

log = logging.getLogger("runyard.database")

WRITERS = 2
"""Number of concurrent write transactions. Further requests share the next one, which costs less than another one."""

T = TypeVar("T")


def _begin_statements(pooled_begin: str | None) -> dict[LockWait, str | None]:
    """Return the statement with which transactions begin at once; None when the session's parameters suffice."""
    begin = pooled_begin or "BEGIN"
    longer = {each: f"{begin}; SET LOCAL lock_timeout = {round(each.value * 1000)}" for each in LockWait}
    return {**longer, LockWait.NORMAL: pooled_begin}


class PostgreSQLDatabase:
    """One PostgreSQL database. Use `open`."""

    def __init__(
        self,
        pool: Any,
        name: str,
        notifier: Notifier,
        outage_tracker: OutageTracker,
        timeout_seconds: float,
        max_read_bytes: int,
        chance: Chance,
        *,
        is_pooled: bool = False,
    ) -> None:
        self.name = name
        self.clock = outage_tracker.clock
        self.is_shared = True
        self.is_typed = True
        self._pool = pool
        self._connections = Pool(pool)
        self._greenlets = GreenletPool()
        self._timer = SharedTimer(timeout_seconds)
        self._max_read_bytes = max_read_bytes
        self._chance = chance
        self._is_closing = False
        self._pooled_begin = pooled_begin(timeout_seconds) if is_pooled else None
        self._begin_statements = _begin_statements(self._pooled_begin)
        self._notifier = notifier
        self._outage_tracker = outage_tracker
        self._group_commit = GroupCommit(
            self._execute_batch,
            outage_tracker,
            writers=WRITERS,
            # Other requests need the remaining connections.
            max_waiting_apart=max(0, pool.get_max_size() // 2 - 1),
        )
        self._group_commit.listen(notifier.publish)
        notifier.start()

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        listen_url: str | None = None,
        clock: Clock | None = None,
        connections: int = 10,
        timeout_seconds: float = 10.0,
        max_read_bytes: int = MAX_READ_BYTES,
        max_silence_seconds: float = MAX_SILENCE_SECONDS,
        chance: Chance = random.random,
    ) -> "PostgreSQLDatabase":
        """Connect to the database at `url` (`postgresql://…`), whose migrations must be current.

        `url` may lead through a connection pooler in transaction mode, which is detected. Notifications then need a
        direct connection, to `listen_url`; without it, none are received. Timestamps use the database's clock unless a
        test passes `clock`. At most `connections` are open, and one more for notifications. A read or a transaction
        fails after `timeout_seconds`. `max_read_bytes` limits writes, and reads outside of operations.
        `max_silence_seconds` as for `OutageTracker`. Raises DatabaseUnavailable when the database cannot be reached.
        """
        is_pooled = await is_url_pooled(url, timeout_seconds)
        log.info("Connected to PostgreSQL %s", "through a connection pooler" if is_pooled else "directly")
        pool = await open_pool(
            url,
            min_size=min(WRITERS, connections),
            max_size=connections,
            timeout_seconds=timeout_seconds,
            through_pooler=is_pooled,
        )
        try:
            with translate_errors():
                name = f"PostgreSQL {await pool.fetchval('SHOW server_version')}"
            notifier = Notifier(listen_url or url, timeout_seconds)
            if clock is None:
                clock = notifier.clock
                await notifier.synchronize_clock(pool)
        except BaseException:
            await pool.close()
            raise
        # No worker can have renewed a lease with a server that has just started.
        outage_tracker = OutageTracker(clock, max_silence_seconds, Outage(since=None))
        notifier.clock.on_step(outage_tracker.record_clock_step)
        notifier.on_connection_lost(outage_tracker.record_failure)
        return cls(pool, name, notifier, outage_tracker, timeout_seconds, max_read_bytes, chance, is_pooled=is_pooled)

    @property
    def commit_stats(self) -> CommitStats:
        return self._group_commit.stats

    @property
    def pending_writes(self) -> int:
        return self._group_commit.pending_count

    @property
    def connection_stats(self) -> ConnectionPoolStats:
        return self._connections.stats

    async def read(self, work: Callable[[Connection], T]) -> T:
        if self._is_closing:
            raise DatabaseUnavailable("The database is being closed.")
        read_budget = current_read_budget(self._max_read_bytes)

        def read(raw: Raw) -> Awaitable[T]:
            read_limit.start_counting(raw, read_budget)
            connection = PostgreSQLConnection(raw, self.clock, format_timestamp(self.clock.now()), read_budget)
            if self._pooled_begin is None:
                return self._greenlets.run(work, connection)
            return self._greenlets.run(read_in_transaction, work, connection, self._pooled_begin)

        try:
            result = await self._use_connection(read)
        except DatabaseUnavailable:
            self._outage_tracker.record_failure()
            raise
        self._outage_tracker.record_success()
        return result

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
        self._notifier.listen(listener)

    def on_outage_end(self, operation: WriteOperation[Outage, None]) -> None:
        self._group_commit.on_outage_end(operation)

    async def is_current(self) -> bool:
        return await self.read(is_current)

    async def close(self) -> None:
        self._is_closing = True
        await self._group_commit.close()
        await self._notifier.close()
        try:
            async with asyncio.timeout(5):
                await self._connections.close()
        except TimeoutError:
            self._connections.terminate()

    async def _execute_batch(self, batch: list[PendingWrite], lock_wait: LockWait) -> BatchOutcome:
        check_not_suspended = self._outage_tracker.start_check()

        def write(raw: Raw) -> Awaitable[BatchOutcome]:
            begin_statement = self._begin_statements[lock_wait]
            begin = partial(
                transaction, raw, self.clock, self._chance, self._max_read_bytes, check_not_suspended, begin_statement
            )
            return self._greenlets.run(execute_batch, begin, batch)

        return await self._use_connection(write)

    async def _use_connection(self, work: Callable[[Raw], Awaitable[T]]) -> T:
        """Run work on a connection of the pool. Raises DatabaseUnavailable when it exceeds the time limit."""
        deadline = Deadline(self._timer)
        try:
            raw, is_reusable = await self._connections.acquire(), False
            try:
                result = await work(raw)
                is_reusable = True
            except BaseException as error:
                # When the caller was cancelled, releasing the connection also cancels the statement in the database.
                if deadline.has_requested_cancel or not isinstance(error, asyncio.CancelledError):
                    terminate_if_broken(raw, error)
                raise
            finally:
                read_limit.stop_counting(raw)
                await self._connections.release(raw, is_reusable=is_reusable)
        except asyncio.CancelledError as error:
            if deadline.uncancel():
                raise translate_error(TimeoutError()) from error
            raise
        except DRIVER_ERRORS as error:
            raise translate_error(error) from error
        finally:
            deadline.end()
        return result

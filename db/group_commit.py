"""Group commit: write requests that arrive during a transaction share the next one.

Each request receives the results of its own items. A failing request does not affect the others. Works with any
database that can execute a batch.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from db.connection import Connection, Notification
from db.database import Item, NotificationListener, Result, WriteOperation
from db.errors import DatabaseUnavailable, RowsLocked, ServerWasSuspended, TransactionConflict
from db.outages import Outage, OutageTracker
from db.runtime.histograms import CommitStats
from db.runtime.memory_budget import ReadTooLarge

log = logging.getLogger("runyard.database")

MAX_BATCH_ITEMS = 1000
"""Limit on the items of requests that share a transaction. Beyond it, waiting costs more than sharing saves."""

FAIL_PENDING_AFTER_SECONDS = 1.0
"""When a transaction waits longer than this for an unavailable database, requests that arrived meanwhile fail with it.

They would wait in vain, too.
"""

MAX_BATCH_DELAY_SECONDS = 0.005
"""How long a request waits to share a transaction before a concurrent transaction begins for it."""

MAX_ATTEMPTS = 5
"""Number of attempts for a transaction that conflicts with others, or before which the server was suspended."""


class LockWait(Enum):
    """How long a transaction waits for a row that another transaction has locked, in seconds."""

    NORMAL = 0.1
    """Enough for the transactions of other servers, and short for the other requests of the batch."""
    BRIEF = 0.01
    """For finding the requests of a batch whose rows are locked, after the batch has waited."""
    LONG = 2.0
    """For a single request, for which no other request waits."""


BatchOutcome = tuple[list[list[Any]], list[Notification]]
"""For each write of a batch, one result for each item; and the notifications of the transaction."""


@dataclass(slots=True)
class PendingWrite:
    """Items of one request that wait for a transaction."""

    operation: WriteOperation[Any, Any]
    items: Sequence[Any]
    future: "asyncio.Future[list[Any]]"
    queued_at: float = field(default_factory=time.monotonic)


class GroupCommit:
    """Queue of write requests, and the writers that execute them: one for each concurrent transaction."""

    def __init__(
        self,
        execute_batch: Callable[[list[PendingWrite], LockWait], Awaitable[BatchOutcome]],
        outage_tracker: OutageTracker,
        *,
        writers: int,
        max_waiting_apart: int = 0,
    ) -> None:
        """`max_waiting_apart`: how many requests may wait for locked rows, each in a transaction of its own."""
        self.stats = CommitStats()
        self._execute_batch = execute_batch
        self._outage_tracker = outage_tracker
        self._on_outage_end: WriteOperation[Outage, None] | None = None
        self._listeners: list[NotificationListener] = []
        self._pending: list[PendingWrite] = []
        self._in_flight: Counter[WriteOperation[Any, Any]] = Counter()
        self._max_waiting_apart = max_waiting_apart
        self._waiting_apart: set[asyncio.Task[Any]] = set()
        self._wake = asyncio.Event()
        self._is_closing = False
        self._writers = [
            asyncio.create_task(self._run_writer(), name=f"database writer {number}") for number in range(writers)
        ]

    @property
    def pending_count(self) -> int:
        """Number of requests that wait."""
        return len(self._pending)

    def listen(self, listener: NotificationListener) -> None:
        """Call `listener` with the notifications of each transaction, after its commit."""
        self._listeners.append(listener)

    def on_outage_end(self, operation: WriteOperation[Outage, None]) -> None:
        """As `Database.on_outage_end`."""
        self._on_outage_end = operation

    async def write_all(
        self, operation: WriteOperation[Item, Result], items: Sequence[Item]
    ) -> list[Result | Exception]:
        """As `Database.write_all`."""
        if self._is_closing:
            raise DatabaseUnavailable("The database is being closed.")
        future: asyncio.Future[list[Result | Exception]] = asyncio.get_running_loop().create_future()
        self._pending.append(PendingWrite(operation, items, future))
        self._wake.set()
        return await future

    async def close(self) -> None:
        """Accept no more writes, and return when the pending ones are complete."""
        self._is_closing = True
        self._wake.set()
        await asyncio.gather(*self._writers)
        await asyncio.gather(*self._waiting_apart)

    def notify_listeners(self, notifications: Sequence[Notification]) -> None:
        """Pass the notifications to all listeners. Their errors are logged."""
        for listener in self._listeners:
            try:
                listener(notifications)
            except Exception:
                # An error of a listener must not end the writer.
                log.exception("A listener for database notifications failed")

    async def _run_writer(self) -> None:
        while self._pending or not self._is_closing:
            batch = self._take_batch()
            if not batch:
                await self._wait()
                continue
            started_at = time.monotonic()
            for write in batch:
                self.stats.wait_seconds.add(started_at - write.queued_at)
            item_count = sum(len(write.items) for write in batch)
            await self._commit_batch(batch)
            self.stats.duration_seconds.add(time.monotonic() - started_at)
            self.stats.items.add(item_count)

    async def _commit_batch(
        self, batch: list[PendingWrite], lock_wait: LockWait = LockWait.NORMAL, *, attempts_left: int = MAX_ATTEMPTS
    ) -> DatabaseUnavailable | None:
        """Execute the batch and complete its requests.

        When the batch fails, each request is executed separately: only those that cause an error fail. A request whose
        rows are locked then waits for them apart from the others. Returns the error when the requests failed because the
        database is unavailable.
        """
        started_at = time.monotonic()
        operations = {write.operation for write in batch}
        self._in_flight.update(operations)
        try:
            await self._handle_outage()
            results, notifications = await self._execute_batch(batch, lock_wait)
        except ServerWasSuspended as error:
            self._outage_tracker.record_failure()
            if attempts_left:
                return await self._commit_batch(batch, lock_wait, attempts_left=attempts_left - 1)
            self._fail(batch, error)
        except RowsLocked as error:
            self._outage_tracker.record_success()
            if len(batch) > 1:
                return await self._commit_one_by_one(batch, LockWait.BRIEF)
            self._wait_apart(batch[0], error)
        except DatabaseUnavailable as error:
            self._outage_tracker.record_failure()
            if time.monotonic() - started_at > FAIL_PENDING_AFTER_SECONDS:
                batch += self._pending
                self._pending = []
            self._fail(batch, error)
            return error
        except Exception as error:  # noqa: BLE001 - the requests fail with it, and the writer continues
            self._outage_tracker.record_success()
            if len(batch) > 1:
                return await self._commit_one_by_one(batch)
            if isinstance(error, ReadTooLarge):
                error.has_rolled_back_writes = True
            self._fail(batch, error)
        else:
            self._outage_tracker.record_success()
            self._complete(batch, results, notifications)
        finally:
            self._in_flight.subtract(operations)
        return None

    async def _commit_one_by_one(
        self, batch: list[PendingWrite], lock_wait: LockWait = LockWait.NORMAL
    ) -> DatabaseUnavailable | None:
        for index, write in enumerate(batch):
            unavailable = await self._commit_batch([write], lock_wait)
            if unavailable is not None:
                # Each of the others would wait just as long.
                self._fail(batch[index + 1 :], unavailable)
                return unavailable
        return None

    def _wait_apart(self, write: PendingWrite, error: RowsLocked) -> None:
        """Let the request wait for its locked rows in a transaction of its own, unless too many requests wait already."""
        if len(self._waiting_apart) >= self._max_waiting_apart:
            self._fail([write], error)
            return
        task = asyncio.create_task(self._commit_apart(write), name="database writer of a request with locked rows")
        self._waiting_apart.add(task)
        task.add_done_callback(self._waiting_apart.discard)

    async def _commit_apart(self, write: PendingWrite) -> None:
        try:
            (results,), notifications = await self._execute_batch([write], LockWait.LONG)
        except Exception as error:  # noqa: BLE001 - the request fails with it
            if isinstance(error, DatabaseUnavailable) and not isinstance(error, RowsLocked):
                self._outage_tracker.record_failure()
            if isinstance(error, ReadTooLarge):
                error.has_rolled_back_writes = True
            self._fail([write], error)
            return
        self._outage_tracker.record_success()
        self._complete([write], [results], notifications)

    def _complete(
        self, writes: Sequence[PendingWrite], results: Sequence[list[Any]], notifications: Sequence[Notification]
    ) -> None:
        for write, result in zip(writes, results, strict=True):
            if not write.future.done():
                write.future.set_result(result)
        if notifications:
            self.notify_listeners(notifications)

    def _fail(self, writes: Sequence[PendingWrite], error: Exception) -> None:
        for write in writes:
            if not write.future.done():
                write.future.set_exception(error)

    async def _handle_outage(self) -> None:
        """Handle an outage in a separate transaction, because it does not follow the lock order of other operations."""
        outage, on_outage_end = self._outage_tracker.outage, self._on_outage_end
        if outage is None or on_outage_end is None:
            return
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        try:
            _, notifications = await self._execute_batch(
                [PendingWrite(on_outage_end, [outage], future)], LockWait.NORMAL
            )
        except RowsLocked as error:
            # Other requests must not wait for the rows that are locked.
            log.warning("Leases are not yet extended after an outage, retrying with the next transaction: %s", error)
        except DatabaseUnavailable:
            raise
        except Exception:
            # The error must not end the writer.
            log.exception("Recovery from a database outage failed; retrying with the next transaction")
        else:
            self._outage_tracker.resolve(outage)
            self.notify_listeners(notifications)

    async def _wait(self) -> None:
        """Return when a batch may be ready: a request has arrived, or the oldest one has waited long enough."""
        self._wake.clear()
        timeout = self._pending[0].queued_at + MAX_BATCH_DELAY_SECONDS - time.monotonic() if self._pending else None
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wake.wait()

    def _take_batch(self) -> list[PendingWrite]:
        """Take the requests for the next transaction; an empty list when it is better to wait.

        With several writers, a batch contains a single operation. Each operation locks rows in the order of their ids,
        but two transactions with several operations could deadlock. Requests for an operation that is in flight wait
        for a moment, because a transaction shared with later requests costs less.
        """
        if len(self._writers) == 1:
            return self._take_for(None)
        overdue_before = time.monotonic() - MAX_BATCH_DELAY_SECONDS
        for write in self._pending:
            if not self._in_flight[write.operation] or write.queued_at <= overdue_before:
                return self._take_for(write.operation)
        return []

    def _take_for(self, operation: WriteOperation[Any, Any] | None) -> list[PendingWrite]:
        """Take the first requests for this operation; for any operation when it is None."""
        batch: list[PendingWrite] = []
        remaining: list[PendingWrite] = []
        size = 0
        for write in self._pending:
            size += len(write.items)
            fits = not batch or size <= MAX_BATCH_ITEMS
            matches = operation is None or write.operation == operation
            (batch if fits and matches else remaining).append(write)
        self._pending = remaining
        return batch


Transaction = Callable[[], AbstractContextManager[Connection]]
"""Begins a transaction. Leaving the context commits it, or rolls it back when an exception was raised."""


def execute_batch(transaction: Transaction, batch: list[PendingWrite]) -> BatchOutcome:
    """Execute the batch in one transaction, in up to MAX_ATTEMPTS attempts when it conflicts with others.

    Requests for the same operation become one call.
    """
    for attempts_left in reversed(range(MAX_ATTEMPTS)):
        outcomes: dict[int, list[Any]] = {}
        try:
            with transaction() as connection:
                for operation, writes in _group_by_operation(batch).items():
                    results = operation(connection, [item for _, write in writes for item in write.items])
                    start = 0
                    for index, write in writes:
                        outcomes[index] = results[start : start + len(write.items)]
                        start += len(write.items)
        except TransactionConflict:
            if not attempts_left:
                raise
        else:
            return [outcomes[index] for index in range(len(batch))], list(connection.notifications)
    raise AssertionError("unreachable")


def _group_by_operation(batch: list[PendingWrite]) -> dict[WriteOperation[Any, Any], list[tuple[int, PendingWrite]]]:
    grouped: dict[WriteOperation[Any, Any], list[tuple[int, PendingWrite]]] = {}
    for index, write in enumerate(batch):
        grouped.setdefault(write.operation, []).append((index, write))
    return grouped

"""Interface of the database: reads that never wait for a write, and writes that share transactions.

`Database` is the protocol; `db.sqlite.database` and `db.postgresql.database` implement it. A write operation takes a
list of items and returns one result for each, a value or an exception, in the same order. It takes a list because
concurrent single writes share one transaction and reach the disk together (group commit): eight writers cost little
more than one.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from db.connection import Connection, Notification
from db.outages import Outage
from db.runtime.clock import Clock
from db.runtime.histograms import CommitStats, ConnectionPoolStats

Item = TypeVar("Item")
Result = TypeVar("Result")

WriteOperation = Callable[[Connection, Sequence[Item]], list[Result | Exception]]
"""A unit of work that writes and returns one result for each item. A returned exception refuses that item only."""


def in_own_transaction(operation: WriteOperation[Item, Result]) -> WriteOperation[Item, Result]:
    """Return the operation for a request that shares its transaction with no other request.

    For operations that lock rows for one item after another: several items would not follow the lock order.
    """
    # Requests share a transaction if their operations are equal, and objects of `partial` are not.
    return partial(operation)


NotificationListener = Callable[[Sequence[Notification]], None]


class Database(Protocol):
    """An open database. Its methods may be called concurrently by the tasks of one event loop."""

    name: str
    """Kind and version of the database, for people."""
    clock: Clock
    """Clock for all timestamps in the database."""
    is_shared: bool
    """Whether other servers may use the database at the same time."""
    is_typed: bool
    """Whether a column can contain only values of its type."""

    @property
    def commit_stats(self) -> CommitStats:
        """Statistics of the transactions that wrote."""
        ...

    @property
    def pending_writes(self) -> int:
        """Number of write requests that wait for a transaction to begin."""
        ...

    @property
    def connection_stats(self) -> ConnectionPoolStats:
        """Statistics of the connection pool; on SQLite, of the connections for reading."""
        ...

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` and return its result. Each of its statements sees what was committed before that statement.

        Cancelling the caller cancels the running statement.
        """
        ...

    async def write(self, operation: WriteOperation[Item, Result], item: Item) -> Result:
        """Run `operation` for one item and return its result once it is durable.

        Raises the exception that the operation returned for the item. Raises DatabaseUnavailable when nothing was
        written; only when the connection was lost during the commit, the write may have succeeded. Cancelling the
        caller does not undo the write.
        """
        ...

    async def write_all(
        self, operation: WriteOperation[Item, Result], items: Sequence[Item]
    ) -> list[Result | Exception]:
        """Run `operation` for the items in one transaction, and return their results in order, refusals included."""
        ...

    def listen(self, listener: NotificationListener) -> None:
        """Call `listener` on the event loop with the notifications of each transaction, after its commit."""
        ...

    def on_outage_end(self, operation: WriteOperation[Outage, None]) -> None:
        """Run `operation` with the outage in a separate transaction before the first write after an outage.

        The time before the first write of the server counts as an outage.
        """
        ...

    async def is_current(self) -> bool:
        """Return whether the database responds and has exactly the migrations that this version knows."""
        ...

    async def close(self) -> None:
        """Complete the pending writes, then close the database."""
        ...

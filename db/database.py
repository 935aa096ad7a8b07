"""The database as the floors above see it: reads that never wait for a write, and writes that are gathered.

`Database` is the promise, `db.sqlite.database` keeps it on a SQLite file. A write operation takes a list of items and gives back
one result for each, a value or an exception, in the same order. It is written for a batch on purpose: single writes that
are asked for at the same time become one transaction and reach the disk together (group commit), so that eight writers
cost little more than one.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from db.connection import Connection, Notice
from db.outages import Outage
from db.runtime.clock import Clock
from db.runtime.histograms import Commits, Connections

Item = TypeVar("Item")
Result = TypeVar("Result")

Operation = Callable[[Connection, Sequence[Item]], list[Result | Exception]]
"""A unit of work that writes: one result for each item. An exception as a result refuses that item alone."""

Listener = Callable[[Sequence[Notice]], None]


class Database(Protocol):
    """Where everything is kept. Its methods may be called by any number of tasks of one event loop at once."""

    name: str
    """What it is, for people: the kind and its version."""
    clock: Clock
    """What time it is for all that it keeps."""
    is_shared: bool
    """Whether other servers may use it at the same time."""
    is_typed: bool
    """Whether a column can have nothing but values of its type."""

    @property
    def commits(self) -> Commits:
        """What its transactions that wrote were like."""
        ...

    @property
    def writes_waiting(self) -> int:
        """How many requests wait until a transaction is begun for them."""
        ...

    @property
    def connections(self) -> Connections:
        """Its pool of connections; of a SQLite file, those that read."""
        ...

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """What `work` returns. Each of its statements sees what was committed before it.

        Cancelling the caller ends the statement that is under way.
        """
        ...

    async def write(self, operation: Operation[Item, Result], item: Item) -> Result:
        """The result of `operation` for one item, when it is on disk; or raises the exception that refused it.

        Cancelling the caller does not take the write back. After DatabaseUnavailable nothing was written, unless the
        database went away in the commit.
        """
        ...

    async def write_all(self, operation: Operation[Item, Result], items: Sequence[Item]) -> list[Result | Exception]:
        """The results for several items, in their order, from one transaction. Refusals are among them, not raised."""
        ...

    def listen(self, listener: Listener) -> None:
        """Call `listener` on the event loop with what each transaction announced, after its commit."""
        ...

    def after_outages(self, operation: Operation[Outage, None]) -> None:
        """Carry this out before anything else is written when the database was out of reach, and at the first write of
        all: with the outage, in a transaction of its own."""
        ...

    async def is_current(self) -> bool:
        """Whether the database answers and has exactly the migrations that this version knows."""
        ...

    async def close(self) -> None:
        """Finish the writes that were asked for, then let go of the database."""
        ...

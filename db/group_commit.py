"""Group commit: write requests that come while a transaction is under way become the next one, together.

Each request gets the results of its own items; one that fails takes nobody with it. Works for any kind of database that
can carry a batch out.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any

from db.connection import Connection, Notice
from db.database import Item, Listener, Operation, Result
from db.errors import Collision, DatabaseUnavailable, TooMuchToRead
from db.outages import Contact, Outage
from db.runtime.histograms import Commits

log = logging.getLogger("runyard.database")

LARGEST_BATCH = 1000
"""Items of gathered requests in one transaction: beyond it, waiting writers would rather be answered than joined."""

LONG_WAIT_SECONDS = 1.0
"""Who came while a transaction waited longer than this for a database that is away would only wait in vain, too."""

PATIENCE_SECONDS = 0.005
"""How long requests may be left to join others before a transaction of their own is begun for them beside those."""

MOST_TRIES = 5
"""How often a transaction is tried that others keep getting in the way of."""

Outcomes = tuple[list[list[Any]], list[Notice]]
"""What came of each request of a batch, a result for each of its items; and what the transaction announced."""


@dataclass(slots=True)
class Request:
    """One caller's items on their way into a transaction."""

    operation: Operation[Any, Any]
    items: Sequence[Any]
    answer: "asyncio.Future[list[Any]]"
    asked_at: float = field(default_factory=time.monotonic)


class WriteBatches:
    """The requests that wait, and the lanes that carry them out: one for each transaction that may be under way."""

    def __init__(
        self, carry_out: Callable[[list[Request]], Awaitable[Outcomes]], contact: Contact, *, lanes: int
    ) -> None:
        self.commits = Commits()
        self._carry_out = carry_out
        self._contact = contact
        self._make_good: Operation[Outage, None] | None = None
        self._listeners: list[Listener] = []
        self._waiting: list[Request] = []
        self._under_way: Counter[Operation[Any, Any]] = Counter()
        self._arrived = asyncio.Event()
        self._is_closing = False
        self._lanes = [asyncio.create_task(self._write(), name=f"database writer {number}") for number in range(lanes)]

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def listen(self, listener: Listener) -> None:
        """Call `listener` with what each transaction announced, after its commit."""
        self._listeners.append(listener)

    def after_outages(self, operation: Operation[Outage, None]) -> None:
        """As `Database.after_outages`."""
        self._make_good = operation

    async def write_all(self, operation: Operation[Item, Result], items: Sequence[Item]) -> list[Result | Exception]:
        """As `Database.write_all`."""
        if self._is_closing:
            raise DatabaseUnavailable("The database is being closed.")
        answer: asyncio.Future[list[Result | Exception]] = asyncio.get_running_loop().create_future()
        self._waiting.append(Request(operation, items, answer))
        self._arrived.set()
        return await answer

    async def close(self) -> None:
        """Take no more requests, and return when those that came are answered."""
        self._is_closing = True
        self._arrived.set()
        await asyncio.gather(*self._lanes)

    def tell(self, notices: Sequence[Notice]) -> None:
        """Tell the listeners."""
        for listener in self._listeners:
            try:
                listener(notices)
            except Exception:
                # Writing must not end with a listener's fault; it is told whole.
                log.exception("A listener to the database failed.")

    async def _write(self) -> None:
        while self._waiting or not self._is_closing:
            batch = self._take_batch()
            if not batch:
                await self._wait()
                continue
            began_at = time.monotonic()
            for request in batch:
                self.commits.waits.add(began_at - request.asked_at)
            items = sum(len(request.items) for request in batch)
            await self._settle(batch)
            self.commits.seconds.add(time.monotonic() - began_at)
            self.commits.items.add(items)

    async def _settle(self, batch: list[Request]) -> DatabaseUnavailable | None:
        """Carry the batch out and answer its requests; where that fails, each by itself, so that the one at fault takes
        nobody with it. Why the database can not be used, where that is what they are told."""
        began_at = time.monotonic()
        operations = {request.operation for request in batch}
        self._under_way.update(operations)
        try:
            await self._make_outage_good()
            answers, notices = await self._carry_out(batch)
        except DatabaseUnavailable as error:
            self._contact.lost()
            if time.monotonic() - began_at > LONG_WAIT_SECONDS:
                batch += self._waiting
                self._waiting = []
            self._refuse(batch, error)
            return error
        except Exception as error:  # noqa: BLE001 - everyone who waits is told, and the next batch is tried
            self._contact.reached()
            if len(batch) > 1:
                return await self._settle_one_by_one(batch)
            if isinstance(error, TooMuchToRead):
                error.kept_from_writing = True
            self._refuse(batch, error)
        else:
            self._contact.reached()
            for request, answer in zip(batch, answers, strict=True):
                if not request.answer.done():
                    request.answer.set_result(answer)
            if notices:
                self.tell(notices)
        finally:
            self._under_way.subtract(operations)
        return None

    async def _settle_one_by_one(self, batch: list[Request]) -> DatabaseUnavailable | None:
        for place, request in enumerate(batch):
            unavailable = await self._settle([request])
            if unavailable is not None:
                # Each would wait as long as this one has.
                self._refuse(batch[place + 1 :], unavailable)
                return unavailable
        return None

    def _refuse(self, requests: Sequence[Request], error: Exception) -> None:
        for request in requests:
            if not request.answer.done():
                request.answer.set_exception(error)

    async def _make_outage_good(self) -> None:
        """See to an outage, in a transaction of its own: it locks rows in no order that others keep to."""
        outage, make_good = self._contact.outage, self._make_good
        if outage is None or make_good is None:
            return
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        try:
            _, notices = await self._carry_out([Request(make_good, [outage], answer)])
        except DatabaseUnavailable:
            raise
        except Exception:
            # Writing must not end with it; it is told whole.
            log.exception("What the database's outage makes necessary failed; it is tried again.")
        else:
            self._contact.made_good(outage)
            self.tell(notices)

    async def _wait(self) -> None:
        """Return when there may be something to take: when more has come, or what waits has been left long enough."""
        self._arrived.clear()
        patience = self._waiting[0].asked_at + PATIENCE_SECONDS - time.monotonic() if self._waiting else None
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._arrived.wait()

    def _take_batch(self) -> list[Request]:
        """The next requests for one transaction; none where it is better to leave them.

        Where several may be under way, it is those for one operation: each operation locks rows in the order of their
        ids, but two transactions that did several would each hold what the other one waits for. What is for an operation
        that is under way is left for a moment: with what else comes meanwhile it costs less.
        """
        if len(self._lanes) == 1:
            return self._take(None)
        impatient_since = time.monotonic() - PATIENCE_SECONDS
        for request in self._waiting:
            if not self._under_way[request.operation] or request.asked_at <= impatient_since:
                return self._take(request.operation)
        return []

    def _take(self, operation: Operation[Any, Any] | None) -> list[Request]:
        """The first requests for this operation, or for any."""
        batch: list[Request] = []
        left: list[Request] = []
        size = 0
        for request in self._waiting:
            size += len(request.items)
            fits = not batch or size <= LARGEST_BATCH
            is_wanted = operation is None or request.operation == operation
            (batch if fits and is_wanted else left).append(request)
        self._waiting = left
        return batch


Transaction = Callable[[], AbstractContextManager[Connection]]
"""Begins a transaction; leaving it commits, or undoes it where something was raised."""


def carry_out(transaction: Transaction, batch: list[Request]) -> Outcomes:
    """Carry out the batch in one transaction, tried again where another is in its way. Requests for one operation become
    one call."""
    for left in reversed(range(MOST_TRIES)):
        outcomes: dict[int, list[Any]] = {}
        try:
            with transaction() as connection:
                for operation, requests in _by_operation(batch).items():
                    results = operation(connection, [item for _, request in requests for item in request.items])
                    start = 0
                    for place, request in requests:
                        outcomes[place] = results[start : start + len(request.items)]
                        start += len(request.items)
        except Collision:
            if not left:
                raise
        else:
            return [outcomes[place] for place in range(len(batch))], list(connection.notices)
    raise AssertionError("unreachable")


def _by_operation(batch: list[Request]) -> dict[Operation[Any, Any], list[tuple[int, Request]]]:
    grouped: dict[Operation[Any, Any], list[tuple[int, Request]]] = {}
    for place, request in enumerate(batch):
        grouped.setdefault(request.operation, []).append((place, request))
    return grouped

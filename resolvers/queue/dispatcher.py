"""Claims due runs for all local subscribers at once, and hands them out.

One dispatcher a process. It claims when there is free credit and a hint that work may wait: a commit that queued a run or
settled a lease, a new subscriber, or the moment when the next run comes due. A lost hint would cost time, never a run.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from db.clock import Clock
from db.connection import LeaseSettled, Notice, WorkWaits
from db.engine import Database
from db.errors import DatabaseUnavailable
from db.instants import moment
from resolvers.errors import ServerStopping
from resolvers.queue.claim import LARGEST_CLAIM, Claim, ClaimRequest, Delivery, Demand, claim_due_runs
from resolvers.queue.figures import QueueFigures
from resolvers.queue.leases import finish_deliveries, give_back, give_back_all
from resolvers.queue.sweep import Sweep

log = logging.getLogger("runyard.queue")


LARGEST_EVENT = 256 * 1024
"""Characters in one event, roughly: many clients take a megabyte and no more."""

CONTENDED = timedelta(milliseconds=20)
"""How long to wait before asking again for a due run that another server may just be claiming."""


@dataclass(frozen=True, slots=True)
class QueueTimers:
    """The queue's times, in seconds."""

    acknowledge: float = 30.0
    """How long a delivery may stay unacknowledged before somebody else gets it."""
    keep_alive: float = 15.0
    """How long a subscription stays silent before it sends an empty event."""
    sweep: float = 5.0
    """How long an expired lease may go unnoticed."""
    retry_database: float = 1.0
    """How long to wait before a database that is away is asked again."""
    poll: float = 5.0
    """How long work may go unnoticed on a database that other servers use too, where their word of it is lost."""
    drain: float = 10.0
    """How long subscriptions may take to end when the server stops, before what they have is given back without them."""


class Subscriber:
    """One subscription's place at the dispatcher: what it listens to, its credit, and what is on its way to it."""

    def __init__(
        self, number: int, task_keys: Iterable[str], prefetch: int, lease_seconds: float, worker_name: str | None
    ) -> None:
        self.number = number
        self.task_keys = frozenset(task_keys)
        self.unacknowledged: set[str] = set()
        self._prefetch = prefetch
        self._lease_seconds = lease_seconds
        self._worker_name = worker_name
        self._arrived: list[Delivery] = []
        self._event = asyncio.Event()
        self._is_closed = False

    @property
    def demand(self) -> Demand:
        """What it may still be given."""
        credit = self._prefetch - len(self.unacknowledged)
        return Demand(self.number, self.task_keys, credit, self._lease_seconds, self._worker_name)

    def hand(self, deliveries: Sequence[Delivery]) -> None:
        """Put deliveries on the way to it."""
        self.unacknowledged.update(delivery.lease_id for delivery in deliveries)
        self._arrived.extend(deliveries)
        self._event.set()

    def close(self) -> None:
        """Let `next` end the stream."""
        self._is_closed = True
        self._event.set()

    async def next(self, clock: Clock, keep_alive_seconds: float) -> list[Delivery] | None:
        """The deliveries that have arrived, one or more; none after `keep_alive_seconds`; None when the stream is over."""
        await clock.wait(self._event, clock.now() + timedelta(seconds=keep_alive_seconds))
        if self._is_closed:
            return None
        arrived, self._arrived = _cut_event(self._arrived)
        if not self._arrived:
            self._event.clear()
        return arrived


def _cut_event(arrived: list[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
    """As many deliveries, one at least, as make an event that every client can take; and the rest."""
    size = 0
    for count, delivery in enumerate(arrived):
        size += len(delivery.task_run.parameters or "") + len(delivery.task_run.tags_json) + 500
        if count and size > LARGEST_EVENT:
            return arrived[:count], arrived[count:]
    return arrived, []


class Dispatcher:
    """The local subscribers and the claims made for them."""

    def __init__(self, database: Database, clock: Clock, timers: QueueTimers) -> None:
        self._database = database
        self._clock = clock
        self._timers = timers
        self._subscribers: dict[int, Subscriber] = {}
        self._holders: dict[str, Subscriber] = {}
        """Who was handed the unacknowledged leases."""
        self._numbers = itertools.count(1)
        self._keys_in_turn: list[str] = []
        self._wake = asyncio.Event()
        self._sweep = Sweep(database, clock, longest_wait_seconds=timers.sweep)
        self.figures = QueueFigures(self._sweep.taken_back)
        self._left = asyncio.Event()
        self._giving_back: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        database.listen(self._hear)

    async def start(self, *, alone: bool) -> None:
        """Begin to deliver. `alone`: no other server uses this database, so what is unacknowledged is nobody's."""
        if alone and (count := await self._database.write(give_back_all, "start")):
            log.info("Put back %d deliveries that nobody had acknowledged when the last server ended.", count)
        self._dispatching = asyncio.create_task(self._dispatch(), name="dispatcher")
        self._sweeping = asyncio.create_task(self._sweep.run(), name="sweep")

    async def stop(self) -> None:
        """Claim nothing more, end the subscriptions, and return when each has given back what it had not acknowledged."""
        self._is_stopping = True
        self._wake.set()
        await self._dispatching
        self._sweeping.cancel()
        for subscriber in self._subscribers.values():
            subscriber.close()
        try:
            async with asyncio.timeout(self._timers.drain):
                while self._subscribers:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            # They are stuck in sending to clients that do not read.
            log.warning("%d subscriptions do not end; what they have is given back.", len(self._subscribers))
            for subscriber in list(self._subscribers.values()):
                await self._give_back(list(subscriber.unacknowledged))
        await asyncio.gather(*self._giving_back)

    async def deliver(
        self,
        task_keys: Sequence[str],
        *,
        prefetch: int,
        lease_seconds: float,
        worker_name: str | None,
        auto_acknowledge: bool,
    ) -> AsyncGenerator[list[Delivery]]:
        """Deliveries of these keys for one worker, as they come due, and an empty list now and then as a sign of life.

        With `auto_acknowledge` a run is out of the queue before it is handed over, so it is delivered at most once.
        However the iteration ends, what was delivered and not acknowledged is given back before it has ended.
        """
        async with self._subscribe(task_keys, prefetch, lease_seconds, worker_name) as subscriber:
            while (deliveries := await subscriber.next(self._clock, self._timers.keep_alive)) is not None:
                if auto_acknowledge and deliveries:
                    lease_ids = [delivery.lease_id for delivery in deliveries]
                    held = await self._database.write_all(finish_deliveries, lease_ids)
                    deliveries = [delivery for delivery, was_held in zip(deliveries, held, strict=True) if was_held]
                yield deliveries

    @asynccontextmanager
    async def _subscribe(
        self, task_keys: Sequence[str], prefetch: int, lease_seconds: float, worker_name: str | None
    ) -> AsyncGenerator[Subscriber]:
        if self._is_stopping:
            raise ServerStopping
        subscriber = Subscriber(next(self._numbers), task_keys, prefetch, lease_seconds, worker_name)
        self._subscribers[subscriber.number] = subscriber
        self._keys_in_turn += sorted(subscriber.task_keys.difference(self._keys_in_turn))
        self._wake.set()
        try:
            yield subscriber
        finally:
            del self._subscribers[subscriber.number]
            self._left.set()
            listened = self._listened()
            self._keys_in_turn = [key for key in self._keys_in_turn if key in listened]
            for lease_id in subscriber.unacknowledged:
                self._holders.pop(lease_id, None)
            # In a task of its own: the subscription may be ending because it was cancelled.
            giving_back = asyncio.create_task(self._give_back(list(subscriber.unacknowledged)))
            self._giving_back.add(giving_back)
            giving_back.add_done_callback(self._giving_back.discard)
            await asyncio.shield(giving_back)

    async def _give_back(self, lease_ids: list[str]) -> None:
        try:
            for start in range(0, len(lease_ids), LARGEST_CLAIM):
                await self._database.write_all(give_back, lease_ids[start : start + LARGEST_CLAIM])
        except DatabaseUnavailable as error:
            log.warning("Up to %d deliveries stay leased until their time is up: %s", len(lease_ids), error)

    def _listened(self) -> frozenset[str]:
        return frozenset[str]().union(*(each.task_keys for each in self._subscribers.values()))

    def _hear(self, notices: Sequence[Notice]) -> None:
        """Take a commit's notices as hints."""
        for notice in notices:
            if isinstance(notice, WorkWaits):
                if notice.task_key in self._keys_in_turn:
                    self._wake.set()
            else:
                self._return_credit(notice)

    def _return_credit(self, notice: LeaseSettled) -> None:
        subscriber = self._holders.pop(notice.lease_id, None)
        if subscriber is not None:
            subscriber.unacknowledged.discard(notice.lease_id)
            self._wake.set()

    async def _dispatch(self) -> None:
        while not self._is_stopping:
            self._wake.clear()
            demands = [demand for each in self._subscribers.values() if (demand := each.demand).credit > 0]
            if not demands:
                await self._wake.wait()
                continue
            try:
                claim = await self._claim(demands)
            except DatabaseUnavailable as error:
                log.warning("Claims wait for the database: %s", error)
                await self._pause()
                continue
            except Exception:
                # Deliveries must not end with one fault; it is told whole, each time.
                log.exception("A claim failed; it is tried again.")
                await self._pause()
                continue
            await self._clock.wait(self._wake, self._look_again_at(claim))

    def _look_again_at(self, claim: Claim) -> datetime | None:
        """When there may be more to claim, if nobody says so before."""
        next_due = moment(claim.next_due_at) if claim.next_due_at else None
        if not self._database.is_shared:
            return next_due
        now = self._clock.now()
        if claim.is_contended:
            return now + CONTENDED
        poll = now + timedelta(seconds=self._timers.poll)
        return min(poll, next_due) if next_due else poll

    async def _pause(self) -> None:
        self._wake.clear()
        await self._clock.wait(self._wake, self._clock.now() + timedelta(seconds=self._timers.retry_database))

    async def _claim(self, demands: list[Demand]) -> Claim:
        """Claim for these demands and hand out."""
        demanded = frozenset[str]().union(*(demand.task_keys for demand in demands))
        keys_in_turn = [key for key in self._keys_in_turn if key in demanded]
        request = ClaimRequest(demands, keys_in_turn, self._timers.acknowledge)
        began = time.perf_counter()
        claim = await self._database.write(claim_due_runs, request)
        self.figures.count(claim, time.perf_counter() - began)
        turns = {key: turn for turn, key in enumerate(claim.keys_in_turn)}
        self._keys_in_turn.sort(key=lambda key: turns.get(key, -1))
        if claim.deliveries:
            self._sweep.hint()
        orphans: list[str] = []
        for number, deliveries in itertools.groupby(
            sorted(claim.deliveries, key=lambda each: each.subscriber), key=lambda each: each.subscriber
        ):
            handed = list(deliveries)
            # Whoever was served goes to the end of the line.
            if subscriber := self._subscribers.pop(number, None):
                self._subscribers[number] = subscriber
                self._holders |= {delivery.lease_id: subscriber for delivery in handed}
                subscriber.hand(handed)
            else:
                # It ended while the claim was under way.
                orphans += [delivery.lease_id for delivery in handed]
        await self._give_back(orphans)
        if claim.is_cut_short:
            self._wake.set()
        return claim

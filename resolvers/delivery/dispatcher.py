"""Claims due runs for all local subscribers at once, and hands them out.

One dispatcher a process. It claims when there is free credit and a hint that work may wait: a commit that queued a run or
settled a lease, a new subscriber, or the moment when the next run comes due. A lost hint would cost time, never a run.
"""

import asyncio
import itertools
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from db.connection import LeaseSettled, Missed, Notice, WorkWaits
from db.database import Database
from db.errors import DatabaseUnavailable, TooMuchToRead
from db.runtime.clock import Clock
from db.runtime.timestamps import moment
from db.statements import queue
from resolvers.batch_size import Portion
from resolvers.delivery.claim import LARGEST_CLAIM, Claim, ClaimRequest, Delivery, Demand, claim_due_runs
from resolvers.delivery.lease_recovery import take_back_from_lost_connections
from resolvers.delivery.lease_sweeper import Sweep
from resolvers.delivery.leases import finish_deliveries, give_back, give_back_all, let_leases_run_on
from resolvers.delivery.metrics import QueueCounts
from resolvers.delivery.round_robin import Turns
from resolvers.delivery.subscribers import Claimant, Peer, Subscriber
from resolvers.errors import ServerStopping

log = logging.getLogger("runyard.queue")


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


class Dispatcher:
    """The local subscribers and the claims made for them."""

    def __init__(
        self, database: Database, clock: Clock, timers: QueueTimers, chance: Callable[[], float] = random.random
    ) -> None:
        """`chance`, from 0 to 1, keeps servers that share the database from doing the same at the same moment."""
        self._database = database
        self._clock = clock
        self._timers = timers
        self._subscribers: dict[int, Subscriber] = {}
        self._holders: dict[str, Subscriber] = {}
        """Who was handed the unacknowledged leases."""
        self._numbers = itertools.count(1)
        self._listening: Counter[str] = Counter()
        self._turns = Turns()
        self._portion = Portion(LARGEST_CLAIM)
        self._wake = asyncio.Event()
        self._sweep = Sweep(database, clock, longest_wait_seconds=timers.sweep, chance=chance)
        self.counts = QueueCounts(self._sweep.taken_back)
        self._left = asyncio.Event()
        self._giving_back: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._has_missed = False
        database.listen(self._hear)
        database.after_outages(let_leases_run_on)

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
        self._sweeping.cancel()
        await self._dispatching
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
        peer: Peer,
    ) -> AsyncGenerator[list[Delivery]]:
        """Deliveries of these keys for one worker, as they come due, and an empty list now and then as a sign of life.

        With `auto_acknowledge` a run is out of the queue before it is handed over, so it is delivered at most once.
        However the iteration ends, what was delivered and not acknowledged is given back before it has ended. If `peer`
        is lost by then, the run that it had in hand may be why, and waits longer each time.
        """
        subscriber = Subscriber(next(self._numbers), task_keys, prefetch, lease_seconds, worker_name, peer)
        async with self._subscribe(subscriber):
            while (deliveries := await subscriber.next(self._clock, self._timers.keep_alive)) is not None:
                if auto_acknowledge and deliveries:
                    lease_ids = [delivery.lease_id for delivery in deliveries]
                    held = await self._database.write_all(finish_deliveries, lease_ids)
                    deliveries = [delivery for delivery, was_held in zip(deliveries, held, strict=True) if was_held]
                if subscriber.was_full:
                    self._wake.set()
                yield deliveries

    async def claim(
        self,
        task_keys: Sequence[str],
        *,
        limit: int,
        lease_seconds: float,
        wait_seconds: float,
        worker_name: str | None,
    ) -> list[Delivery]:
        """What a single claim brings, as soon as it brings anything; nothing, once `wait_seconds` are over.

        The leases outlive the call. Cancelling it gives back what was claimed for it. A stop ends it with nothing.
        """
        claimant = Claimant(next(self._numbers), task_keys, limit, lease_seconds, worker_name)
        async with self._subscribe(claimant):
            await self._clock.wait(claimant.answered, self._clock.now() + timedelta(seconds=wait_seconds))
            if not claimant.answered.is_set():
                # The last look: also the first one, where nobody is to wait.
                claimant.waits_no_longer = True
                self._wake.set()
                await claimant.answered.wait()
            if deliveries := claimant.answer():
                self._forget_holder(claimant)
                claimant.unacknowledged.clear()
            return deliveries

    def listening(self) -> Counter[str]:
        """How many subscriptions and waiting claims of this server want each key."""
        return self._listening.copy()

    @asynccontextmanager
    async def _subscribe(self, subscriber: Subscriber) -> AsyncGenerator[None]:
        if self._is_stopping:
            raise ServerStopping
        self._subscribers[subscriber.number] = subscriber
        self._listening.update(subscriber.task_keys)
        self._wake.set()
        try:
            yield
        finally:
            del self._subscribers[subscriber.number]
            self._left.set()
            # Counter's own difference: it drops what has come to nothing.
            self._listening -= Counter(subscriber.task_keys)
            self._forget_holder(subscriber)
            # In a task of its own: the subscription may be ending because it was cancelled.
            giving_back = asyncio.create_task(self._give_back(list(subscriber.unacknowledged), subscriber.suspect))
            self._giving_back.add(giving_back)
            giving_back.add_done_callback(self._giving_back.discard)
            await asyncio.shield(giving_back)

    def _forget_holder(self, subscriber: Subscriber) -> None:
        for lease_id in subscriber.unacknowledged:
            self._holders.pop(lease_id, None)

    async def _give_back(self, lease_ids: list[str], suspect: str | None = None) -> None:
        try:
            if suspect is not None:
                await self._database.write(take_back_from_lost_connections, suspect)
            for start in range(0, len(lease_ids), LARGEST_CLAIM):
                await self._database.write_all(give_back, lease_ids[start : start + LARGEST_CLAIM])
        except DatabaseUnavailable as error:
            log.warning("Up to %d deliveries stay leased until their time is up: %s", len(lease_ids), error)

    def _hear(self, notices: Sequence[Notice]) -> None:
        """Take a commit's notices as hints."""
        for notice in notices:
            if isinstance(notice, WorkWaits):
                if notice.task_key in self._listening:
                    self._wake.set()
            elif isinstance(notice, LeaseSettled):
                self._return_credit(notice)
            elif isinstance(notice, Missed):
                self._has_missed = True
                self._wake.set()

    def _return_credit(self, notice: LeaseSettled) -> None:
        subscriber = self._holders.pop(notice.lease_id, None)
        if subscriber is not None:
            subscriber.unacknowledged.pop(notice.lease_id, None)
            self._wake.set()

    async def _catch_up(self) -> None:
        """Return the credit of leases that other servers may have told of in vain: nobody would tell again."""
        self._has_missed = False
        lease_ids = list(self._holders)
        if not lease_ids:
            return
        try:
            still_open = await self._database.read(lambda connection: queue.unacknowledged_among(connection, lease_ids))
        except BaseException:
            self._has_missed = True
            raise
        for lease_id in lease_ids:
            if lease_id not in still_open:
                self._return_credit(LeaseSettled(lease_id))

    async def _dispatch(self) -> None:
        while not self._is_stopping:
            self._wake.clear()
            demands: list[Demand] = []
            try:
                if self._has_missed:
                    await self._catch_up()
                demands = [demand for each in self._subscribers.values() if (demand := each.demand).credit > 0]
                if not demands:
                    await self._wake.wait()
                    continue
                claim = await self._claim(demands)
            except DatabaseUnavailable as error:
                log.warning("Claims wait for the database: %s", error)
                self._fail(demands, error)
                await self._pause()
                continue
            except Exception as error:
                # Deliveries must not end with one fault; it is told whole, each time.
                log.exception("A claim failed; it is tried again.")
                self._fail(demands, error)
                await self._pause()
                continue
            await self._clock.wait(self._wake, self._look_again_at(claim))

    def _fail(self, demands: Sequence[Demand], error: Exception) -> None:
        for demand in demands:
            if subscriber := self._subscribers.get(demand.subscriber):
                subscriber.fail(error)

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
        keys = self._turns.in_turn(frozenset[str]().union(*(demand.task_keys for demand in demands)))
        retries = self._turns.retries_in_a_row(keys)
        began = time.perf_counter()
        claim = None
        while claim is None:
            most = self._portion.size
            request = ClaimRequest(demands, keys, self._timers.acknowledge, most, retries)
            try:
                claim = await self._database.write(claim_due_runs, request)
            except TooMuchToRead as error:
                self._portion.was_too_much(most, error)
        if claim.is_cut_short:
            self._portion.has_fitted()
        self.counts.count(claim, time.perf_counter() - began)
        self._turns.note(claim)
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
        for demand in demands:
            if subscriber := self._subscribers.get(demand.subscriber):
                subscriber.end_turn(is_cut_short=claim.is_cut_short)
        await self._give_back(orphans)
        if claim.is_cut_short:
            self._wake.set()
        return claim

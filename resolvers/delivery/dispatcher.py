"""The dispatcher: claims due runs for all subscribers of this server and distributes them.

Each process has one dispatcher. It claims when a subscriber has credit and a hint says that a run may be due. Hints are
commits that queued a run or settled a lease, a new subscriber, and the due time of the next run. Losing a hint delays a
run and never loses it.
"""

import asyncio
import itertools
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from db.connection import LeaseSettled, Notification, NotificationsMissed, WorkAvailable
from db.database import Database
from db.errors import DatabaseUnavailable
from db.runtime.chance import Chance
from db.runtime.clock import Clock
from db.runtime.memory_budget import ReadTooLarge
from db.runtime.timestamps import parse_timestamp
from db.statements import queue
from resolvers.batch_size import AdaptiveBatchSize
from resolvers.delivery.claim import MAX_CLAIM_SIZE, Claim, ClaimRequest, Delivery, Demand, claim_due_runs
from resolvers.delivery.heartbeats import OutageRecovery
from resolvers.delivery.lease_recovery import recover_lost_connections
from resolvers.delivery.lease_sweeper import LeaseSweeper
from resolvers.delivery.leases import (
    finish_deliveries,
    release_all_unacknowledged,
    release_unacknowledged,
)
from resolvers.delivery.metrics import DeliveryMetrics
from resolvers.delivery.round_robin import RoundRobin
from resolvers.delivery.subscribers import ClientConnection, LongPollClaim, Subscriber
from resolvers.errors import ServerStopping

log = logging.getLogger("runyard.queue")


CONTENTION_DELAY = timedelta(milliseconds=20)
"""Delay before the next claim when another server may be claiming a due run at the same time."""


@dataclass(frozen=True, slots=True)
class QueueTimers:
    """Timeouts and intervals of delivery, in seconds."""

    acknowledge: float = 30.0
    """Time limit for acknowledging a delivery. After it, the run is redelivered."""
    keep_alive: float = 15.0
    """Maximum time between two events of a subscription. An empty event is sent after it."""
    sweep: float = 5.0
    """Maximum time between two checks for expired leases."""
    heartbeat: float = 5.0
    """Interval at which a server records that it is running."""
    retry_database: float = 1.0
    """Delay before the next claim after a failure, such as an unavailable database."""
    poll: float = 5.0
    """Interval between claims when several servers use the database. It limits the delay of a lost notification."""
    drain: float = 10.0
    """Time limit for subscriptions to end when the server stops. After it, the dispatcher releases their deliveries."""


class Dispatcher:
    """Claims and distributes due runs for the subscribers of this server."""

    def __init__(self, database: Database, clock: Clock, timers: QueueTimers, chance: Chance = random.random) -> None:
        """`chance` spreads the lease sweeps of servers that share the database."""
        self._database = database
        self._clock = clock
        self._timers = timers
        self._subscribers: dict[int, Subscriber] = {}
        self._holders: dict[str, Subscriber] = {}
        """The subscriber of each unacknowledged lease, by lease id."""
        self._subscriber_numbers = itertools.count(1)
        self._subscriber_counts: Counter[str] = Counter()
        self._round_robin = RoundRobin()
        self._batch_size = AdaptiveBatchSize(MAX_CLAIM_SIZE)
        self._wake = asyncio.Event()
        self._sweeper = LeaseSweeper(
            database, clock, max_wait_seconds=timers.sweep, heartbeat_seconds=timers.heartbeat, chance=chance
        )
        self.metrics = DeliveryMetrics(self._sweeper.recovered)
        self._subscriber_left = asyncio.Event()
        self._releasing: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._has_missed_notifications = False
        self._credit_checked_at = clock.elapsed()
        """Elapsed time at which credit was last compared with the database."""
        database.listen(self._on_notifications)
        database.on_outage_end(OutageRecovery(max_silence_seconds=2 * timers.heartbeat))

    async def start(self, *, is_only_server: bool) -> None:
        """Start to deliver and to sweep.

        With `is_only_server`, no other server uses the database: all unacknowledged deliveries are requeued first.
        """
        if is_only_server and (count := await self._database.write(release_all_unacknowledged, "start")):
            log.info("Requeued %d deliveries that were unacknowledged when the previous server stopped", count)
        self._dispatching = asyncio.create_task(self._dispatch(), name="dispatcher")
        self._sweeping = asyncio.create_task(self._sweeper.run(), name="sweep")

    async def stop(self) -> None:
        """Stop claiming, end all subscriptions, and return when their unacknowledged deliveries are released.

        After `timers.drain` seconds, the deliveries of subscriptions that have not ended are released as well.
        """
        self._is_stopping = True
        self._wake.set()
        self._sweeping.cancel()
        await self._dispatching
        for subscriber in self._subscribers.values():
            subscriber.close()
        try:
            async with asyncio.timeout(self._timers.drain):
                while self._subscribers:
                    self._subscriber_left.clear()
                    await self._subscriber_left.wait()
        except TimeoutError:
            # Sending blocks when a client does not read.
            log.warning(
                "%d subscriptions did not end before the timeout; releasing their deliveries", len(self._subscribers)
            )
            for subscriber in list(self._subscribers.values()):
                await self._release(list(subscriber.unacknowledged))
        await asyncio.gather(*self._releasing)

    async def deliver(
        self,
        task_keys: Sequence[str],
        *,
        prefetch: int,
        lease_seconds: float,
        worker_name: str | None,
        auto_acknowledge: bool,
        peer: ClientConnection,
    ) -> AsyncGenerator[list[Delivery]]:
        """Yield deliveries of these task keys for one worker as they become due. An empty list is a keep-alive.

        With `auto_acknowledge`, a run is removed from the queue before it is yielded: it is delivered at most once.

        Unacknowledged deliveries are released before the iterator finishes, however it ends. If the connection of `peer`
        was lost, the run that the worker was probably executing is redelivered after a delay, which increases
        with each lost worker.

        Raises ServerStopping when the server is stopping.
        """
        subscriber = Subscriber(next(self._subscriber_numbers), task_keys, prefetch, lease_seconds, worker_name, peer)
        async with self._subscribe(subscriber):
            while (deliveries := await subscriber.next_deliveries(self._clock, self._timers.keep_alive)) is not None:
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
        """Claim up to `limit` due runs. Return as soon as one is claimed, or an empty list after `wait_seconds`.

        The leases outlive the call. Cancelling the call releases what was claimed for it. Returns an empty list when the
        server stops during the call, and raises ServerStopping when it is already stopping.
        """
        long_poll = LongPollClaim(next(self._subscriber_numbers), task_keys, limit, lease_seconds, worker_name)
        async with self._subscribe(long_poll):
            await self._clock.wait(long_poll.completed, self._clock.now() + timedelta(seconds=wait_seconds))
            if not long_poll.completed.is_set():
                # The last attempt is also the first one when `wait_seconds` is 0.
                long_poll.is_last_attempt = True
                self._wake.set()
                await long_poll.completed.wait()
            if deliveries := long_poll.result():
                self._forget_holder(long_poll)
                long_poll.unacknowledged.clear()
            return deliveries

    def subscriber_counts(self) -> Counter[str]:
        """Return the number of subscriptions and waiting claims of this server, by task key."""
        return self._subscriber_counts.copy()

    @asynccontextmanager
    async def _subscribe(self, subscriber: Subscriber) -> AsyncGenerator[None]:
        if self._is_stopping:
            raise ServerStopping
        self._subscribers[subscriber.number] = subscriber
        self._subscriber_counts.update(subscriber.task_keys)
        self._wake.set()
        try:
            yield
        finally:
            del self._subscribers[subscriber.number]
            self._subscriber_left.set()
            # `-=` drops counts of zero, unlike `Counter.subtract`.
            self._subscriber_counts -= Counter(subscriber.task_keys)
            self._forget_holder(subscriber)
            # A separate task, because the current one may be cancelled.
            releasing = asyncio.create_task(self._release(list(subscriber.unacknowledged), subscriber.suspect_lease_id))
            self._releasing.add(releasing)
            releasing.add_done_callback(self._releasing.discard)
            await asyncio.shield(releasing)

    def _forget_holder(self, subscriber: Subscriber) -> None:
        for lease_id in subscriber.unacknowledged:
            self._holders.pop(lease_id, None)

    async def _release(self, lease_ids: list[str], suspect_lease_id: str | None = None) -> None:
        try:
            if suspect_lease_id is not None:
                await self._database.write(recover_lost_connections, suspect_lease_id)
            for start in range(0, len(lease_ids), MAX_CLAIM_SIZE):
                await self._database.write_all(release_unacknowledged, lease_ids[start : start + MAX_CLAIM_SIZE])
        except DatabaseUnavailable as error:
            log.warning(
                "Could not release up to %d deliveries; they are redelivered after their leases expire: %s",
                len(lease_ids),
                error,
            )

    def _on_notifications(self, notifications: Sequence[Notification]) -> None:
        """Wake the dispatcher and return credit, according to the notifications of a commit."""
        for notification in notifications:
            if isinstance(notification, WorkAvailable):
                if notification.task_key in self._subscriber_counts:
                    self._wake.set()
            elif isinstance(notification, LeaseSettled):
                self._return_credit(notification)
            elif isinstance(notification, NotificationsMissed):
                self._has_missed_notifications = True
                self._wake.set()

    def _return_credit(self, notification: LeaseSettled) -> None:
        subscriber = self._holders.pop(notification.lease_id, None)
        if subscriber is not None:
            subscriber.unacknowledged.pop(notification.lease_id, None)
            self._wake.set()

    async def _return_missed_credit(self) -> None:
        """Return the credit of leases whose LeaseSettled may have been missed, since notifications are not repeated."""
        self._has_missed_notifications = False
        self._credit_checked_at = self._clock.elapsed()
        lease_ids = list(self._holders)
        if not lease_ids:
            return
        try:
            still_open = await self._database.read(
                lambda connection: queue.unacknowledged_lease_ids(connection, lease_ids)
            )
        except BaseException:
            self._has_missed_notifications = True
            raise
        for lease_id in lease_ids:
            if lease_id not in still_open:
                self._return_credit(LeaseSettled(lease_id))

    async def _dispatch(self) -> None:
        while not self._is_stopping:
            self._wake.clear()
            demands: list[Demand] = []
            try:
                if self._has_missed_notifications or self._is_credit_check_due():
                    await self._return_missed_credit()
                demands = [demand for each in self._subscribers.values() if (demand := each.demand).credit > 0]
                if not demands:
                    await self._wait_for_credit()
                    continue
                claim = await self._claim(demands)
            except DatabaseUnavailable as error:
                log.warning("The database is unavailable for claims, retrying: %s", error)
                self._notify_failed(demands, error)
                await self._wait_for_database()
                continue
            except Exception as error:
                # A fault must not end all deliveries. Each one is logged with its traceback.
                log.exception("A claim failed, retrying")
                self._notify_failed(demands, error)
                await self._wait_for_database()
                continue
            await self._clock.wait(self._wake, self._next_claim_at(claim))

    def _notify_failed(self, demands: Sequence[Demand], error: Exception) -> None:
        for demand in demands:
            if subscriber := self._subscribers.get(demand.subscriber):
                subscriber.on_claim_failed(error)

    def _next_claim_at(self, claim: Claim) -> datetime | None:
        """Return when to claim next if no hint arrives before; None to wait for a hint."""
        next_due = parse_timestamp(claim.next_due_at) if claim.next_due_at else None
        poll = self._next_poll_at()
        if poll is None:
            return next_due
        if claim.is_contended:
            return self._clock.now() + CONTENTION_DELAY
        return min(poll, next_due) if next_due else poll

    async def _wait_for_credit(self) -> None:
        poll = self._next_poll_at()
        if poll is None or not self._holders:
            await self._wake.wait()
        else:
            await self._clock.wait(self._wake, poll)

    def _next_poll_at(self) -> datetime | None:
        """Return when to look for what a lost notification reported; None on a database of one server."""
        return self._clock.now() + timedelta(seconds=self._timers.poll) if self._database.is_shared else None

    def _is_credit_check_due(self) -> bool:
        """Return whether the notification of a settled lease may have been lost since the last check."""
        since_check = self._clock.elapsed() - self._credit_checked_at
        return self._database.is_shared and bool(self._holders) and since_check >= self._timers.poll

    async def _wait_for_database(self) -> None:
        self._wake.clear()
        await self._clock.wait(self._wake, self._clock.now() + timedelta(seconds=self._timers.retry_database))

    async def _claim(self, demands: list[Demand]) -> Claim:
        """Claim runs for these demands and distribute them to the subscribers."""
        keys = self._round_robin.order_keys(frozenset[str]().union(*(demand.task_keys for demand in demands)))
        retries = self._round_robin.consecutive_retries(keys)
        started_at = time.perf_counter()
        claim = None
        while claim is None:
            max_runs = self._batch_size.size
            request = ClaimRequest(demands, keys, self._timers.acknowledge, max_runs, retries)
            try:
                claim = await self._database.write(claim_due_runs, request)
            except ReadTooLarge as error:
                self._batch_size.shrink(max_runs, error)
        if claim.is_truncated:
            self._batch_size.record_success()
        self.metrics.record(claim, time.perf_counter() - started_at)
        self._round_robin.record(claim)
        if claim.deliveries or claim.held_back:
            self._sweeper.notify_leased()
        orphans: list[str] = []
        for number, deliveries in itertools.groupby(
            sorted(claim.deliveries, key=lambda each: each.subscriber), key=lambda each: each.subscriber
        ):
            delivered = list(deliveries)
            # Reinserting a served subscriber moves it to the end of the round robin.
            if subscriber := self._subscribers.pop(number, None):
                self._subscribers[number] = subscriber
                self._holders |= {delivery.lease_id: subscriber for delivery in delivered}
                subscriber.enqueue(delivered)
            else:
                # The subscriber ended during the claim.
                orphans += [delivery.lease_id for delivery in delivered]
        for demand in demands:
            if subscriber := self._subscribers.get(demand.subscriber):
                subscriber.on_claim_completed(is_truncated=claim.is_truncated)
        await self._release(orphans)
        if claim.is_truncated:
            self._wake.set()
        return claim

"""The dispatcher: claims due runs for all subscribers of this server and distributes them.

Each process has one dispatcher. It claims when a subscriber has credit and a run of one of its task keys may be due
(`DueKeys`), and only from those keys. Hints are commits that queued a run or settled a lease, a new subscriber, and the
due time of the next run. Losing a hint delays a run and never loses it.
"""

import asyncio
import itertools
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from db.connection import LeaseEnded, LeaseSettled, Notification, NotificationsMissed, WorkAvailable
from db.database import Database
from db.errors import DatabaseUnavailable
from db.runtime.chance import Chance
from db.runtime.clock import Clock
from db.runtime.memory_budget import ReadTooLarge
from db.statements import queue
from db.statements.workers import WorkerConnection
from resolvers.batch_size import AdaptiveBatchSize
from resolvers.delivery.claim import (
    MAX_CLAIM_SIZE,
    Claim,
    ClaimRequest,
    ClaimTooLarge,
    Delivery,
    Demand,
    claim_due_runs,
    keys_of,
)
from resolvers.delivery.connected_workers import ConnectedWorkers
from resolvers.delivery.due_keys import DueKeys
from resolvers.delivery.heartbeats import OutageRecovery, forget_servers
from resolvers.delivery.lease_recovery import recover_lost_connections, release_unconfirmed
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

Result = TypeVar("Result")

ClaimingWrite = Callable[[ClaimRequest | None], Awaitable[tuple[Claim | None, Result]]]
"""Writes in a transaction that also claims runs, unless the request is None."""

CONTENTION_DELAY_SECONDS = 0.02
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
        self._due_keys = DueKeys(self._subscriber_counts)
        self._round_robin = RoundRobin()
        self._batch_size = AdaptiveBatchSize(MAX_CLAIM_SIZE)
        self._wake = asyncio.Event()
        self.workers = ConnectedWorkers(clock, heartbeat_seconds=timers.heartbeat)
        self._sweeper = LeaseSweeper(
            database,
            clock,
            self.workers,
            max_wait_seconds=timers.sweep,
            heartbeat_seconds=timers.heartbeat,
            chance=chance,
        )
        self.metrics = DeliveryMetrics(self._sweeper.recovered)
        self._subscriber_left = asyncio.Event()
        self._releasing: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._has_missed_notifications = False
        self._polled_at = clock.elapsed()
        """Elapsed time of the last check for what lost notifications reported."""
        database.listen(self._on_notifications)
        database.on_outage_end(OutageRecovery(max_silence_seconds=2 * timers.heartbeat))

    async def start(self, *, is_only_server: bool) -> None:
        """Start to deliver and to sweep.

        With `is_only_server`, no other server uses the database: unacknowledged deliveries are requeued first, except
        those of started runs, which workers may confirm as if they were delivered now.
        """
        if is_only_server:
            count = await self._database.write(release_all_unacknowledged, self._timers.acknowledge)
            if count:
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

    async def forget_workers(self) -> None:
        """Delete the record of the workers that are connected to this server. Call it after `stop`."""
        if not self._database.is_shared:
            return
        try:
            await self._database.write(forget_servers, self.workers.server_id)
        except DatabaseUnavailable as error:
            log.warning("The workers of this server remain listed for a few seconds: %s", error)

    async def deliver(
        self,
        task_keys: Sequence[str],
        *,
        prefetch: int,
        lease_seconds: float,
        worker_name: str | None,
        auto_acknowledge: bool,
        starts: bool,
        peer: ClientConnection,
    ) -> AsyncGenerator[list[Delivery]]:
        """Yield deliveries of these task keys for one worker as they become due. An empty list is a keep-alive.

        With `auto_acknowledge`, a run is removed from the queue before it is yielded: it is delivered at most once. With
        `starts`, the runs are RUNNING, and `prefetch` limits those that have not ended.

        Unacknowledged deliveries are released before the iterator finishes, however it ends. If the connection of `peer`
        was lost, the run that the worker was probably executing (with `starts`, each unacknowledged run) is redelivered
        after a delay, which increases with each lost worker.

        Raises ServerStopping when the server is stopping.
        """
        subscriber = Subscriber(
            next(self._subscriber_numbers), task_keys, prefetch, lease_seconds, worker_name, peer, starts=starts
        )
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
        starts: bool,
    ) -> list[Delivery]:
        """Claim up to `limit` due runs. Return as soon as one is claimed, or an empty list after `wait_seconds`.

        The leases outlive the call. Cancelling the call releases what was claimed for it. Returns an empty list when the
        server stops during the call, and raises ServerStopping when it is already stopping.
        """
        long_poll = LongPollClaim(
            next(self._subscriber_numbers), task_keys, limit, lease_seconds, worker_name, starts=starts
        )
        async with self._subscribe(long_poll):
            await self._clock.wait(long_poll.completed, seconds=wait_seconds)
            if not long_poll.completed.is_set():
                # The last attempt is also the first one when `wait_seconds` is 0.
                long_poll.is_last_attempt = True
                self._wake.set()
                await long_poll.completed.wait()
            self.workers.record_claim(long_poll.worker)
            if deliveries := long_poll.result():
                self._forget_holder(long_poll)
                long_poll.unacknowledged.clear()
            return deliveries

    async def claim_within(self, write: ClaimingWrite[Result], demand: Demand) -> tuple[list[Delivery], Result]:
        """Claim runs that are due now in the transaction of `write`. Return them and the result of `write`.

        Cancelling the call does not cancel `write`: the runs that it claims are then released. The same happens to runs
        that are claimed while the server stops; a server that is stopping already claims none.
        """
        writing = asyncio.create_task(self._claim_within(write, demand), name="exchange")
        try:
            deliveries, result = await asyncio.shield(writing)
        except asyncio.CancelledError:
            self._start_releasing(self._release_claimed(writing))
            raise
        if deliveries and self._is_stopping:
            await self._release([delivery.lease_id for delivery in deliveries])
            return [], result
        return deliveries, result

    async def _claim_within(self, write: ClaimingWrite[Result], demand: Demand) -> tuple[list[Delivery], Result]:
        demand = replace(demand, subscriber=next(self._subscriber_numbers))
        self.workers.record_claim(WorkerConnection(demand.worker_name, demand.task_keys))
        while not self._is_stopping:
            keys = self._round_robin.order_keys(demand.task_keys)
            retries = self._round_robin.consecutive_retries(keys)
            max_runs, started_at = self._batch_size.size, time.perf_counter()
            try:
                claim, result = await write(
                    ClaimRequest([demand], keys, self._timers.acknowledge, max_runs, retries, reads_next_due=False)
                )
            except ClaimTooLarge as error:
                self._batch_size.shrink(max_runs, error)
                continue
            assert claim is not None
            self._record(claim, time.perf_counter() - started_at)
            return claim.deliveries, result
        _, result = await write(None)
        return [], result

    async def _release_claimed(self, writing: "asyncio.Task[tuple[list[Delivery], Any]]") -> None:
        """Release what was claimed for a client that is gone. An error of `writing` concerns only this client."""
        await asyncio.wait([writing])
        if not writing.cancelled() and writing.exception() is None:
            deliveries, _ = writing.result()
            await self._release([delivery.lease_id for delivery in deliveries])

    def subscriber_counts(self) -> Counter[str]:
        """Return the number of subscriptions and waiting claims of this server, by task key."""
        return self._subscriber_counts.copy()

    @asynccontextmanager
    async def _subscribe(self, subscriber: Subscriber) -> AsyncGenerator[None]:
        if self._is_stopping:
            raise ServerStopping
        self._subscribers[subscriber.number] = subscriber
        self._subscriber_counts.update(subscriber.task_keys)
        self.workers.connect(subscriber.worker)
        self._due_keys.expect(subscriber.task_keys)
        self._wake.set()
        try:
            yield
        finally:
            del self._subscribers[subscriber.number]
            self._subscriber_left.set()
            self.workers.disconnect(subscriber.worker)
            # `-=` drops counts of zero, unlike `Counter.subtract`.
            self._subscriber_counts -= Counter(subscriber.task_keys)
            self._due_keys.forget(subscriber.task_keys)
            self._forget_holder(subscriber)
            releasing = self._start_releasing(
                self._release(list(subscriber.unacknowledged), subscriber.suspect_lease_ids)
            )
            await asyncio.shield(releasing)

    def _start_releasing(self, release: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Release leases in a separate task, because the current one may be cancelled. `stop` waits for it."""
        releasing = asyncio.create_task(release)
        self._releasing.add(releasing)
        releasing.add_done_callback(self._releasing.discard)
        return releasing

    def _forget_holder(self, subscriber: Subscriber) -> None:
        for lease_id in subscriber.leases:
            self._holders.pop(lease_id, None)

    async def _release(self, lease_ids: list[str], suspect_lease_ids: Sequence[str] = ()) -> None:
        try:
            for suspects in _split(suspect_lease_ids):
                await self._database.write_all(recover_lost_connections, suspects)
            for released in _split(lease_ids):
                have_started = await self._database.write_all(release_unacknowledged, released)
                if unconfirmed := [id for id, has_started in zip(released, have_started, strict=True) if has_started]:
                    await self._database.write_all(release_unconfirmed, unconfirmed)
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
                    self._due_keys.expect([notification.task_key])
                    self._wake.set()
            elif isinstance(notification, LeaseSettled | LeaseEnded):
                self._return_credit(notification)
            elif isinstance(notification, NotificationsMissed):
                self._has_missed_notifications = True
                self._wake.set()

    def _return_credit(self, notification: LeaseSettled | LeaseEnded) -> None:
        lease_id = notification.lease_id
        subscriber = self._holders.get(lease_id)
        if subscriber is None:
            return
        is_settled = isinstance(notification, LeaseSettled)
        if subscriber.settle_lease(lease_id) if is_settled else subscriber.end_lease(lease_id):
            del self._holders[lease_id]
            self._wake.set()

    async def _return_missed_credit(self) -> None:
        """Return the credit of leases of which a notification may have been missed, since none is repeated."""
        self._has_missed_notifications = False
        self._polled_at = self._clock.elapsed()
        lease_ids = list(self._holders)
        if not lease_ids:
            return
        try:
            is_acknowledged = await self._database.read(
                lambda connection: queue.lease_acknowledgements(connection, lease_ids)
            )
        except BaseException:
            self._has_missed_notifications = True
            raise
        for lease_id in lease_ids:
            if lease_id not in is_acknowledged:
                self._return_credit(LeaseEnded(lease_id))
            if is_acknowledged.get(lease_id, True):
                self._return_credit(LeaseSettled(lease_id))

    async def _dispatch(self) -> None:
        while not self._is_stopping:
            self._wake.clear()
            demands: list[Demand] = []
            try:
                if self._has_missed_notifications or self._is_poll_due():
                    self._due_keys.expect_any()
                    await self._return_missed_credit()
                demands = self._collect_demands()
                if not demands:
                    await self._wait_for_hint()
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
            if claim.is_contended and self._database.is_shared:
                await self._clock.wait(self._wake, seconds=CONTENTION_DELAY_SECONDS)

    def _collect_demands(self) -> list[Demand]:
        """Return the demands of subscribers with credit for the task keys that may have a due run."""
        expected = self._due_keys.expected(self._clock.now())
        demands: list[Demand] = []
        for subscriber in self._subscribers.values():
            if subscriber.task_keys.isdisjoint(expected):
                subscriber.on_nothing_due()
            elif (demand := subscriber.demand).credit > 0:
                demands.append(replace(demand, task_keys=demand.task_keys & expected))
        return demands

    def _notify_failed(self, demands: Sequence[Demand], error: Exception) -> None:
        self._due_keys.expect_any()
        for demand in demands:
            if subscriber := self._subscribers.get(demand.subscriber):
                subscriber.on_claim_failed(error)

    async def _wait_for_hint(self) -> None:
        """Return when a run may be due, or when to check for lost notifications."""
        seconds = self._timers.poll - self._seconds_since_poll if self._polls else None
        await self._clock.wait(self._wake, self._due_keys.next_due_at, seconds=seconds)

    def _is_poll_due(self) -> bool:
        """Return whether to check for what lost notifications reported."""
        return self._polls and self._seconds_since_poll >= self._timers.poll

    @property
    def _polls(self) -> bool:
        """Whether notifications that concern a subscriber can be lost: those of other servers."""
        return self._database.is_shared and bool(self._subscribers)

    @property
    def _seconds_since_poll(self) -> float:
        return self._clock.elapsed() - self._polled_at

    async def _wait_for_database(self) -> None:
        self._wake.clear()
        await self._clock.wait(self._wake, seconds=self._timers.retry_database)

    def _record(self, claim: Claim, seconds: float) -> None:
        """Record a claim that was committed, in metrics and for later claims."""
        if claim.is_truncated:
            self._batch_size.record_success()
        self.metrics.record(claim, seconds)
        self._round_robin.record(claim)
        if claim.deliveries or claim.held_back:
            self._sweeper.notify_leased()

    async def _claim(self, demands: list[Demand]) -> Claim:
        """Claim runs for these demands and distribute them to the subscribers."""
        keys = self._round_robin.order_keys(keys_of(demands))
        retries = self._round_robin.consecutive_retries(keys)
        started_at = time.perf_counter()
        self._due_keys.begin_claim(keys)
        claim = None
        while claim is None:
            max_runs = self._batch_size.size
            request = ClaimRequest(demands, keys, self._timers.acknowledge, max_runs, retries)
            try:
                claim = await self._database.write(claim_due_runs, request)
            except ReadTooLarge as error:
                self._batch_size.shrink(max_runs, error)
        self._due_keys.complete_claim(keys, claim.next_due_at)
        self._record(claim, time.perf_counter() - started_at)
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
                subscriber.on_claim_completed(is_truncated=claim.is_truncated, has_more=claim.has_more)
        await self._release(orphans)
        return claim


def _split(lease_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Split leases into parts that one transaction can release."""
    for start in range(0, len(lease_ids), MAX_CLAIM_SIZE):
        yield lease_ids[start : start + MAX_CLAIM_SIZE]

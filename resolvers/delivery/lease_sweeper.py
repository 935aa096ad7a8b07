"""The lease sweeper: finds expired leases and recovers their runs. It also records the heartbeats of this server."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from db.connection import Connection
from db.database import Database
from db.errors import DatabaseUnavailable, RowsLocked
from db.runtime.chance import Chance
from db.runtime.clock import Clock
from db.runtime.memory_budget import ReadTooLarge
from db.runtime.timestamps import parse_timestamp
from db.statements import queue
from resolvers.batch_size import AdaptiveBatchSize, limit_read_size
from resolvers.delivery.connected_workers import ConnectedWorkers
from resolvers.delivery.heartbeats import ServerHeartbeat, record_heartbeats
from resolvers.delivery.lease_recovery import recover_expired_leases
from resolvers.queue.slot_waiters import MAX_WOKEN_PER_KEY, wake_overdue_waiters

log = logging.getLogger("runyard.queue")

MAX_SWEEP_SIZE = 500
"""Maximum number of leases in one transaction. The next transactions recover the rest."""

WAKE_SECONDS = 5.0
"""Interval at which runs are woken for slots that are free although runs wait for them."""


def sweep_leases(connection: Connection, sizes: Sequence[int]) -> list[Counter[str] | Exception]:
    """Recover runs whose leases have expired by the database's clock. Return the number of leases by outcome.

    One sweep serves all callers. It recovers at most the smallest of `sizes`, and each caller receives its result.
    """
    size = min(sizes)
    with limit_read_size(connection, size):
        lost = queue.runs_with_expired_leases(connection, size)
        recovered = recover_expired_leases(connection, lost)
    return [recovered] * len(sizes)


def _read_pending(connection: Connection) -> tuple[str | None, list[str]]:
    """Return when the next lease expires or has expired, and the tags whose slots runs wait for."""
    return queue.next_expiry_at(connection), queue.tags_with_waiting_runs(connection)


class LeaseSweeper:
    """Sweeps when the next lease expires. Wakes runs that wait for a slot that has stayed free.

    Waits for `notify_leased` while no lease exists and no run waits for a slot, unless other servers, which may lease runs
    too, use the database.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        workers: ConnectedWorkers,
        *,
        max_wait_seconds: float,
        heartbeat_seconds: float,
        chance: Chance,
    ) -> None:
        self._database = database
        self._clock = clock
        self._workers = workers
        self._chance = chance
        self._max_wait_seconds = min(max_wait_seconds, heartbeat_seconds)
        self._heartbeat_seconds = heartbeat_seconds
        self._last_heartbeat_at = float("-inf")
        """Elapsed time of the last heartbeat."""
        self._last_wake_at = clock.elapsed()
        """Elapsed time at which runs were last woken for slots that had stayed free."""
        self._leased = asyncio.Event()
        self._batch_size = AdaptiveBatchSize(MAX_SWEEP_SIZE)
        self.recovered = Counter[str]()
        """Number of recovered leases since the start, by outcome."""

    def notify_leased(self) -> None:
        """Report that this server has leased runs."""
        self._leased.set()

    async def run(self) -> None:
        """Sweep until cancelled. Failures are logged and retried, those of an unavailable database included."""
        while True:
            self._leased.clear()
            size = self._batch_size.size
            next_expiry: str | None = None
            max_wait_seconds = self._max_wait_seconds
            try:
                next_expiry, waiting_tags = await self._database.read(_read_pending)
                if next_expiry is None and not waiting_tags and not self._database.is_shared:
                    await self._leased.wait()
                    continue
                if await self._record_heartbeat():
                    # Leases may have changed meanwhile.
                    continue
                if waiting_tags and await self._wake_overdue_waiters():
                    continue
                if next_expiry is not None and parse_timestamp(next_expiry) <= self._clock.now():
                    recovered = await self._database.write(sweep_leases, size)
                    if recovered:
                        self._batch_size.record_success()
                        self.recovered.update(recovered)
                        log.info("Recovered %d runs with expired leases", recovered.total())
                        continue
                    # Another transaction has locked these leases, usually a server that recovers them.
                    next_expiry = None
                if waiting_tags:
                    max_wait_seconds = min(max_wait_seconds, WAKE_SECONDS - self._seconds_since_wake)
            except ReadTooLarge as error:
                self._batch_size.shrink(size, error)
                continue
            except DatabaseUnavailable as error:
                log.warning("The database is unavailable for the lease sweep, retrying: %s", error)
                next_expiry = None
            except Exception:
                # A fault must not end sweeping. Each one is logged with its traceback.
                log.exception("The lease sweep failed, retrying")
                next_expiry = None
            await self._wait_for_next_sweep(next_expiry, max_wait_seconds)

    async def _wake_overdue_waiters(self) -> bool:
        """Wake runs for slots that have stayed free, if WAKE_SECONDS have passed. Return whether more may be left."""
        if self._seconds_since_wake < WAKE_SECONDS:
            return False
        elapsed = self._clock.elapsed()
        try:
            woken = await self._database.write(wake_overdue_waiters, "this server")
        except RowsLocked as error:
            log.warning("Runs that wait for a slot could not be woken, retrying: %s", error)
            woken = 0
        if woken < MAX_WOKEN_PER_KEY:
            self._last_wake_at = elapsed
        return woken >= MAX_WOKEN_PER_KEY

    @property
    def _seconds_since_wake(self) -> float:
        return self._clock.elapsed() - self._last_wake_at

    async def _record_heartbeat(self) -> bool:
        """Record a heartbeat, unless less than half of the interval has passed. Return whether it was attempted."""
        elapsed = self._clock.elapsed()
        if elapsed - self._last_heartbeat_at < self._heartbeat_seconds / 2:
            return False
        try:
            workers = self._workers.serialize() if self._database.is_shared else None
            await self._database.write(record_heartbeats, ServerHeartbeat(self._workers.server_id, workers))
        except RowsLocked as error:
            log.warning("The heartbeat could not be recorded; leases are swept without it: %s", error)
        self._last_heartbeat_at = elapsed
        return True

    async def _wait_for_next_sweep(self, next_expiry: str | None, max_wait_seconds: float) -> None:
        """Wait until the next expiry, for `max_wait_seconds` at most.

        The upper limit is needed because acknowledging changes the expiry of a lease without a notification. On a shared
        database, each server adds a random delay. Usually one of them then recovers all expired leases.
        """
        chance = self._chance() if self._database.is_shared else 1.0
        delay = timedelta(seconds=self._max_wait_seconds * (1 - chance) / 10)
        sweep_at = None if next_expiry is None else parse_timestamp(next_expiry) + delay
        await self._clock.wait(
            asyncio.Event(), sweep_at, seconds=min(max_wait_seconds, self._max_wait_seconds * (1 + chance) / 2)
        )

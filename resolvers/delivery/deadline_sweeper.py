"""The deadline sweeper: ends runs that have expired, and runs that have been RUNNING for longer than their time limit."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta

from db.connection import DeadlineSet, Notification
from db.database import Database, WriteOperation
from db.errors import DatabaseUnavailable
from db.runtime.chance import Chance
from db.runtime.clock import Clock
from db.runtime.memory_budget import ReadTooLarge
from db.runtime.timestamps import parse_timestamp
from db.statements.run_deadlines import pending_deadlines
from resolvers.batch_size import AdaptiveBatchSize
from resolvers.delivery.deadlines import cancel_expired_runs, end_timed_out_runs
from resolvers.delivery.metrics import DeliveryMetrics

log = logging.getLogger("runyard.queue")

MAX_BATCH_SIZE = 500
"""Maximum number of runs in one transaction. The next transactions end the rest."""


class DeadlineSweeper:
    """Sweeps at the next deadline.

    Waits for `DeadlineSet` while no run has a deadline. On a database that other servers use too, it polls, because the
    deadlines that they set are not announced here, and the server that knows one may stop.
    """

    def __init__(
        self, database: Database, clock: Clock, metrics: DeliveryMetrics, *, max_wait_seconds: float, chance: Chance
    ) -> None:
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._max_wait_seconds = max_wait_seconds
        self._chance = chance
        self._next_deadline_at: str | None = None
        """Deadline that the sweeper waits for; None when it waits for none, or is sweeping."""
        self._earlier_deadline = asyncio.Event()
        self._batch_size = AdaptiveBatchSize(MAX_BATCH_SIZE)
        database.listen(self._on_notifications)

    async def run(self) -> None:
        """Sweep until cancelled. Failures are logged and retried, those of an unavailable database included."""
        while True:
            self._earlier_deadline.clear()
            self._next_deadline_at = None
            try:
                self._next_deadline_at = await self._sweep()
            except DatabaseUnavailable as error:
                log.warning("The database is unavailable for the deadline sweep, retrying: %s", error)
                await self._clock.wait(self._earlier_deadline, seconds=self._max_wait_seconds)
            except Exception:
                # A fault must not end sweeping. Each one is logged with its traceback.
                log.exception("The deadline sweep failed, retrying")
                await self._clock.wait(self._earlier_deadline, seconds=self._max_wait_seconds)
            else:
                await self._wait_for_next_sweep(self._next_deadline_at)

    async def _sweep(self) -> str | None:
        """End runs until none is left that another transaction has not locked. Return the next deadline."""
        while True:
            pending = await self._database.read(pending_deadlines)
            expired = await self._write(cancel_expired_runs) if pending.has_expired else 0
            timed_out = await self._write(end_timed_out_runs) if pending.has_timed_out else 0
            if expired:
                self._metrics.expired += expired
                log.info("Cancelled %d runs that have expired", expired)
            if timed_out:
                self._metrics.timed_out += timed_out
                log.info("Ended %d runs that have exceeded their time limits", timed_out)
            if not expired and not timed_out:
                return pending.next_at

    async def _write(self, operation: WriteOperation[int, int]) -> int:
        while True:
            size = self._batch_size.size
            try:
                count = await self._database.write(operation, size)
            except ReadTooLarge as error:
                self._batch_size.shrink(size, error)
                continue
            self._batch_size.record_success()
            return count

    async def _wait_for_next_sweep(self, next_deadline_at: str | None) -> None:
        """Wait until the next deadline, or until an earlier one is set.

        The upper limit is needed because a clock that is set back shifts time limits. On a shared database, each server
        adds a random delay. Usually one of them then ends all runs.
        """
        if next_deadline_at is None and not self._database.is_shared:
            await self._earlier_deadline.wait()
            return
        chance = self._chance() if self._database.is_shared else 1.0
        delay = timedelta(seconds=self._max_wait_seconds * (1 - chance) / 10)
        sweep_at = None if next_deadline_at is None else parse_timestamp(next_deadline_at) + delay
        await self._clock.wait(self._earlier_deadline, sweep_at, seconds=self._max_wait_seconds * (1 + chance) / 2)

    def _on_notifications(self, notifications: Sequence[Notification]) -> None:
        for each in notifications:
            if isinstance(each, DeadlineSet) and (self._next_deadline_at is None or each.at < self._next_deadline_at):
                self._earlier_deadline.set()

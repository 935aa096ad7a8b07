"""Exchanges: requests that report ends, renew leases and claim runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from runyard_client.errors import Refused, RequestTooLarge, RunyardError
from runyard_client.worker.coordinator.claims import ClaimPolicy
from runyard_client.worker.coordinator.connection_policy import Connection, Unanswered
from runyard_client.worker.coordinator.executor_pools import ExecutorPool
from runyard_client.worker.coordinator.renewals import Renewal, Renewals
from runyard_client.worker.coordinator.reports import Report, Reports, read_answer
from runyard_client.worker.settings import WorkerSettings

OPERATION = "ExchangeTaskRuns"


class Exchanges:
    """Sends the reports that are ready, one exchange at a time. The next one has those that become ready meanwhile.

    `accept` receives the deliveries. `is_busy` returns whether other runs are executing, whose reports may follow soon.
    `on_end` is called after each exchange, with or without a response.
    """

    def __init__(
        self,
        pools: list[ExecutorPool],
        reports: Reports,
        renewals: Renewals,
        policy: ClaimPolicy,
        settings: WorkerSettings,
        connection: Connection,
        accept: Callable[[ExecutorPool, list[dict[str, Any]]], None],
        is_busy: Callable[[], bool],
        on_end: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pools, self._reports, self._renewals, self._policy = pools, reports, renewals, policy
        self._settings, self._connection, self._accept, self._is_busy = settings, connection, accept, is_busy
        self._on_end = on_end
        self._clock = clock
        self._max_items = settings.batch_items
        self._next_pool = 0

    async def run(self) -> None:
        """Exchange until cancelled."""
        while True:
            await self._reports.wake.wait()
            self._reports.wake.clear()
            while self._reports.ready:
                if self._is_busy() and self._settings.batch_seconds:
                    await asyncio.sleep(self._settings.batch_seconds)
                await self._exchange()

    async def _exchange(self) -> None:
        batch = self._reports.take_batch(self._max_items, self._settings.batch_bytes)
        renewal = self._renewals.take_with_exchange(self._clock())
        pool, limit = self._choose_claim()
        if pool is not None:
            pool.claimed_slots = limit
        delay = None
        try:
            payload = await self._connection.execute(OPERATION, self._variables(batch, renewal, pool, limit))
        except Unanswered as error:
            self._repeat(batch, renewal, error.delay)
            delay = error.delay
        except (RequestTooLarge, Refused) as error:
            delay = self._shrink(batch, renewal, pool, limit, error)
        else:
            self._finish(batch, renewal, pool, limit, payload)
        finally:
            if pool is not None:
                pool.claimed_slots = 0
        self._on_end()
        if delay is not None:
            await self._connection.pause(delay)

    def _choose_claim(self) -> tuple[ExecutorPool | None, int]:
        """Return the pool to claim for and its limit. Pools take turns."""
        for offset in range(len(self._pools)):
            pool = self._pools[(self._next_pool + offset) % len(self._pools)]
            limit = 0 if pool.is_dry else self._policy.limit(pool)
            if limit:
                self._next_pool += offset + 1
                return pool, limit
        return None, 0

    def _variables(
        self, batch: list[Report], renewal: Renewal | None, pool: ExecutorPool | None, limit: int
    ) -> dict[str, Any]:
        variables: dict[str, Any] = {"reports": [report.input for report in batch], "renew": []}
        if renewal is not None:
            variables["renew"] = [held.lease for held in renewal.runs]
            variables["renewLeaseSeconds"] = renewal.lease_seconds
        if pool is not None:
            variables["claim"] = self._policy.input(pool, limit)
        return variables

    def _finish(
        self,
        batch: list[Report],
        renewal: Renewal | None,
        pool: ExecutorPool | None,
        limit: int,
        payload: dict[str, Any],
    ) -> None:
        answers = zip(batch, payload["results"], strict=True)
        repeat = [again for report, answer in answers if (again := read_answer(report, answer, self._reports))]
        self._reports.settle(batch, repeat)
        self._max_items = min(self._max_items * 2, self._settings.batch_items)
        if renewal is not None:
            self._renewals.finish(renewal, payload["leases"])
        if pool is not None:
            pool.claimed_slots = 0
            pool.is_dry = len(payload["deliveries"]) < limit
            pool.is_exhausted = self._settings.once and pool.is_dry
            self._accept(pool, payload["deliveries"])

    def _repeat(self, batch: list[Report], renewal: Renewal | None, delay: float) -> None:
        self._reports.settle(batch, batch)
        if renewal is not None:
            self._renewals.abandon(renewal, delay)

    def _shrink(
        self,
        batch: list[Report],
        renewal: Renewal | None,
        pool: ExecutorPool | None,
        limit: int,
        error: RunyardError,
    ) -> float | None:
        """Plan smaller requests after one that was too large or invalid. Return the delay before the next one."""
        is_response = isinstance(error, RequestTooLarge) and error.code == "RESPONSE_TOO_LARGE"
        if is_response and pool is not None:
            pool.shrink_claims(limit)
            pool.is_dry = True  # the next exchange only reports
            self._repeat(batch, renewal, 0.0)
            return None
        if len(batch) > 1:
            self._max_items = len(batch) // 2
            self._repeat(batch, renewal, 0.0)
            return None
        substitute = self._reports.substitute(batch[0], error)
        self._reports.settle(batch, [] if substitute is None else [substitute])
        if renewal is not None:
            self._renewals.abandon(renewal, 0.0)
        return None

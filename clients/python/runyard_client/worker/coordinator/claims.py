"""Claims that wait at the server for due runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from runyard_client.errors import Refused, RequestTooLarge
from runyard_client.worker.coordinator.connection_policy import Connection, Unanswered
from runyard_client.worker.coordinator.executor_pools import ExecutorPool
from runyard_client.worker.coordinator.reports import Reports
from runyard_client.worker.settings import WorkerSettings


class ClaimPolicy:
    """Decides how many runs a pool may claim.

    Claims pause while the ends of twice as many runs as the worker executes at a time have no response: a worker without a
    server stops instead of collecting reports.
    """

    def __init__(self, settings: WorkerSettings, reports: Reports, pools: list[ExecutorPool]) -> None:
        self._settings, self._reports, self._pools = settings, reports, pools
        self.is_stopped = False
        """Whether the worker claims nothing more."""

    def limit(self, pool: ExecutorPool) -> int:
        """Return how many runs to claim for a pool now, 0 for none."""
        if self.is_stopped or pool.claimed_slots or pool.is_exhausted or not pool.task_keys:
            return 0
        if self._reports.unanswered >= 2 * sum(each.capacity for each in self._pools):
            return 0
        return min(pool.free, pool.max_claim)

    def limit_of_waiting(self, pool: ExecutorPool) -> int:
        """Return the limit of a claim that waits at the server; 0 while the next exchange claims instead."""
        if self._reports.ready and not pool.is_dry and not self._settings.once:
            return 0
        return self.limit(pool)

    def input(self, pool: ExecutorPool, limit: int) -> dict[str, Any]:
        """Return the `ClaimInput` of a pool."""
        return {
            "taskKeys": pool.task_keys,
            "limit": limit,
            "leaseSeconds": self._settings.default_lease_seconds,
            "workerName": self._settings.name,
            "start": True,
        }


class WaitingClaims:
    """Claims runs for one pool, with at most one request in flight. `accept` receives the deliveries, [] for none."""

    OPERATION = "ClaimTaskRuns"

    def __init__(
        self,
        pool: ExecutorPool,
        policy: ClaimPolicy,
        settings: WorkerSettings,
        connection: Connection,
        accept: Callable[[ExecutorPool, list[dict[str, Any]]], None],
    ) -> None:
        self._pool, self._policy, self._settings = pool, policy, settings
        self._connection, self._accept = connection, accept
        self._request: asyncio.Task[Any] | None = None
        self._sent_at = 0.0

    async def run(self) -> None:
        """Claim runs until cancelled."""
        while True:
            await self._pool.wake.wait()
            self._pool.wake.clear()
            while limit := self._policy.limit_of_waiting(self._pool):
                await self._claim(limit)

    def interrupt(self) -> None:
        """End the claim in flight. The server requeues the runs that are on the way.

        A young claim continues for a moment: the server would not notice that its client is gone, and what it delivers
        then is requeued after 30 seconds only.
        """
        if self._request is not None:
            end = self._sent_at + self._settings.claim_settle_seconds
            asyncio.get_running_loop().call_at(end, self._request.cancel)

    async def _claim(self, limit: int) -> None:
        pool = self._pool
        pool.claimed_slots = limit
        try:
            payload = await self._send(limit)
        except Unanswered as error:
            await self._pause(error.delay)
        except (RequestTooLarge, Refused) as error:
            can_shrink = isinstance(error, RequestTooLarge) and pool.shrink_claims(limit)
            await self._pause(0.0 if can_shrink else self._connection.next_delay(self.OPERATION))
        else:
            pool.claimed_slots = 0
            self._finish(limit, payload)

    def _finish(self, limit: int, payload: Any) -> None:
        pool = self._pool
        deliveries: list[dict[str, Any]] = [] if payload is None else payload["deliveries"]
        pool.is_dry = not deliveries
        pool.is_exhausted = self._settings.once and len(deliveries) < limit
        pool.grow_claims()
        self._accept(pool, deliveries)

    async def _send(self, limit: int) -> Any:
        """Return the payload, or None after an interruption."""
        wait = 0.0 if self._settings.once else self._settings.claim_wait_seconds
        variables = {**self._policy.input(self._pool, limit), "waitSeconds": wait}
        self._sent_at = asyncio.get_running_loop().time()
        self._request = asyncio.ensure_future(self._connection.execute(self.OPERATION, variables, wait_seconds=wait))
        try:
            await asyncio.wait([self._request])
            return None if self._request.cancelled() else self._request.result()
        finally:
            self._request.cancel()
            self._request = None

    async def _pause(self, delay: float) -> None:
        self._pool.claimed_slots = 0  # an exchange may claim meanwhile
        self._accept(self._pool, [])
        await self._connection.pause(delay)

"""Releases of leases whose runs are requeued."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from runyard_client.errors import Refused, RequestTooLarge
from runyard_client.worker.coordinator.connection_policy import Connection, Unanswered

MAX_LEASES = 1_000


class Releases:
    """Releases leases, all with the same delay in one request, and repeats it until a response arrives."""

    OPERATION = "ReleaseTaskRuns"

    def __init__(
        self, connection: Connection, on_answer: Callable[[], None], may_release: Callable[[], bool] = lambda: True
    ) -> None:
        """`on_answer` is called after each response. While `may_release` returns false, leases wait; then call `wake`."""
        self._connection, self._on_answer, self._may_release = connection, on_answer, may_release
        self._wake = asyncio.Event()
        self._leases: defaultdict[float, list[str]] = defaultdict(list)
        self._in_flight = 0

    @property
    def unanswered(self) -> int:
        return self._in_flight + sum(map(len, self._leases.values()))

    def add(self, lease: str, delay_seconds: float) -> None:
        """Release a lease; its run is due after the delay."""
        self._leases[delay_seconds].append(lease)
        self._wake.set()

    def wake(self) -> None:
        """Send the releases that have waited, if they may be sent now."""
        self._wake.set()

    async def run(self) -> None:
        """Send releases until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._leases and self._may_release():
                delay_seconds = next(iter(self._leases))
                await self._release(delay_seconds, self._leases.pop(delay_seconds))

    async def _release(self, delay_seconds: float, leases: list[str]) -> None:
        batch, rest = leases[:MAX_LEASES], leases[MAX_LEASES:]
        if rest:
            self._leases[delay_seconds].extend(rest)
        self._in_flight = len(batch)
        delay = None
        try:
            # A repeated release returns LOST, because the first one has ended the lease.
            await self._connection.execute(self.OPERATION, {"leaseIds": batch, "delaySeconds": delay_seconds})
        except Unanswered as error:
            delay = error.delay
        except RequestTooLarge:
            delay = self._connection.next_delay(self.OPERATION)
        except Refused:
            pass  # it was logged, and would be refused again: the leases expire
        self._in_flight = 0
        if delay is None:
            self._on_answer()
            return
        self._leases[delay_seconds].extend(batch)
        await self._connection.pause(delay)

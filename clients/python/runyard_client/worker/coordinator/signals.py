"""Signals of leases: cancellations and lost leases, known at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from runyard_client.errors import Refused, RequestTooLarge
from runyard_client.worker.coordinator.connection_policy import Connection, Unanswered
from runyard_client.worker.coordinator.executor_pools import HeldRun
from runyard_client.worker.settings import WorkerSettings

MAX_LEASES = 1_000
WAIT_SECONDS = 30.0


class LeaseSignals:
    """Waits for the signals of all confirmed leases with one request, which is repeated when leases are added.

    Runs that end before they are confirmed cost no request. `on_signal` is called with each lease and its result.
    """

    OPERATION = "LeaseSignals"

    def __init__(
        self,
        held: dict[str, HeldRun],
        settings: WorkerSettings,
        connection: Connection,
        on_signal: Callable[[HeldRun, dict[str, Any]], None],
    ) -> None:
        self._held, self._settings, self._connection, self._on_signal = held, settings, connection, on_signal
        self._changed = asyncio.Event()
        self._watched: set[str] = set()

    def watch(self, held: HeldRun) -> None:
        """Include a lease that was confirmed."""
        if held.lease not in self._watched:
            self._changed.set()

    async def run(self) -> None:
        """Wait for signals until cancelled."""
        while True:
            await self._changed.wait()
            while leases := self._choose_leases():
                await self._poll(leases)
                await self._connection.pause(self._settings.signals_pause_seconds)

    def _choose_leases(self) -> list[str]:
        self._changed.clear()
        leases = [each.lease for each in self._held.values() if each.is_confirmed and each.reason is None]
        self._watched = set(leases[:MAX_LEASES])
        return leases[:MAX_LEASES]

    async def _poll(self, leases: list[str]) -> None:
        """Wait for a signal of these leases, or until others are added."""
        variables = {"leaseIds": leases, "waitSeconds": WAIT_SECONDS}
        request = asyncio.ensure_future(self._connection.execute(self.OPERATION, variables, wait_seconds=WAIT_SECONDS))
        change = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait([request, change], return_when=asyncio.FIRST_COMPLETED)
            if request.done():
                self._read(request.result())
        except Unanswered as error:
            await self._connection.pause(error.delay)
        except (Refused, RequestTooLarge):
            await self._connection.pause(self._connection.next_delay(self.OPERATION))
        finally:
            request.cancel()
            change.cancel()

    def _read(self, payload: dict[str, Any]) -> None:
        for result in payload["leases"]:
            held = self._held.get(result["leaseId"])
            if held is not None:  # else it has ended, and its lease with it
                self._on_signal(held, result)

"""The end of a worker: runs may finish, then they are stopped and released."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from runyard_client.worker.settings import WorkerSettings

logger = logging.getLogger("runyard_client.worker")


class Drained(Protocol):
    """What a drain does with the coordinator."""

    def stop_claims(self) -> None:
        """Claim nothing more, and notify the executors that the worker stops."""
        ...

    def has_runs(self) -> bool:
        """Return whether runs are executing."""
        ...

    def is_told(self) -> bool:
        """Return whether the server has responded to all reports and releases."""
        ...

    def stop_runs(self) -> None:
        """Cancel all runs. They are released when they have stopped."""
        ...

    async def kill_runs(self) -> None:
        """End the executors of runs that have not stopped, and release the runs."""
        ...


class Drain:
    """Ends a worker in stages. Each call of `request` goes one further: drain, release at once, exit at once."""

    def __init__(
        self, coordinator: Drained, settings: WorkerSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._coordinator, self._settings, self._clock = coordinator, settings, clock
        self._requests = 0
        self._changed = asyncio.Event()

    def request(self) -> None:
        """Begin the drain; the second time, release the runs; the third time, exit."""
        self._requests += 1
        self._changed.set()

    def notify(self) -> None:
        """Look again whether the drain is finished: a run has ended or a response has arrived."""
        if self._requests:
            self._changed.set()

    async def run(self) -> bool:
        """Wait for the request and drain. Return whether the server knows about all runs."""
        await self._wait(lambda: self._requests > 0, None)
        coordinator = self._coordinator
        end = self._clock() + self._settings.drain_seconds
        logger.info("The worker stops: its runs may continue for %g s.", self._settings.drain_seconds)
        coordinator.stop_claims()
        await self._wait(lambda: not coordinator.has_runs() or self._requests > 1, end)
        end = self._settings.tell_seconds + (min(end, self._clock()) if coordinator.has_runs() else end)
        if coordinator.has_runs():
            await self._stop_runs()
        await self._wait(lambda: self._is_finished() or self._requests > 2, end)
        return self._is_finished()

    async def _stop_runs(self) -> None:
        logger.warning("Runs that have not finished are stopped and released.")
        self._coordinator.stop_runs()
        end = self._clock() + self._settings.stop_seconds
        await self._wait(lambda: not self._coordinator.has_runs() or self._requests > 2, end)
        if self._coordinator.has_runs():
            await self._coordinator.kill_runs()

    def _is_finished(self) -> bool:
        return not self._coordinator.has_runs() and self._coordinator.is_told()

    async def _wait(self, is_reached: Callable[[], bool], end: float | None) -> None:
        while not is_reached():
            remaining = None if end is None else end - self._clock()
            if remaining is not None and remaining <= 0:
                return
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), remaining)
            except TimeoutError:
                return

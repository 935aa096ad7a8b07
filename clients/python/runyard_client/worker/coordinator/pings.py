"""Pings of executors: a task that blocks its event loop is named, and its executor gets no runs meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from runyard_client.worker.coordinator.executor_pools import ExecutorPool, ExecutorSlots
from runyard_client.worker.messages import PongMessage, TaskDescription
from runyard_client.worker.settings import WorkerSettings

logger = logging.getLogger("runyard_client.worker")

MAX_NAMES = 5


class Pings:
    """Pings executors that have runs. `on_change` is called when an executor is blocked or responds again."""

    def __init__(
        self,
        pools: list[ExecutorPool],
        tasks: Mapping[str, TaskDescription],
        settings: WorkerSettings,
        on_change: Callable[[], None],
    ) -> None:
        self._pools, self._tasks, self._settings, self._on_change = pools, tasks, settings, on_change

    async def run(self) -> None:
        """Ping executors until cancelled."""
        while True:
            await asyncio.sleep(self._settings.ping_seconds)
            self.check()

    def check(self) -> None:
        """Ping the executors with runs, and find those that have not responded to the last ping."""
        for pool in self._pools:
            for executor in pool.executors:
                if executor.is_pinged:
                    self._block(executor)
                elif executor.runs:
                    executor.ping_number += 1
                    executor.is_pinged = True
                    executor.link.send({"type": "ping", "number": executor.ping_number})

    def receive(self, executor: ExecutorSlots, message: PongMessage) -> None:
        """Handle the response to a ping."""
        if message["number"] != executor.ping_number:
            return
        executor.is_pinged = False
        if executor.is_blocked:
            executor.is_blocked = False
            logger.info("The event loop responds again.")
            self._on_change()

    def _block(self, executor: ExecutorSlots) -> None:
        if executor.is_blocked:
            return
        executor.is_blocked = True
        logger.warning(
            "An event loop has been blocked for %g s, probably by one of these runs: %s. It gets no runs meanwhile.",
            self._settings.ping_seconds,
            self._name_suspects(executor),
        )
        self._on_change()

    def _name_suspects(self, executor: ExecutorSlots) -> str:
        """Name the runs on the event loop, or all of them, because a thread that holds the GIL blocks it too."""
        runs = list(executor.runs.values())
        on_loop = [each for each in runs if each.key in self._tasks and self._tasks[each.key]["pool"] == "loop"]
        names = [f"{each.name} ({each.key})" for each in on_loop or runs]
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        return ", ".join(names[:MAX_NAMES]) + more

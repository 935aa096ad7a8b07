"""Progress of runs, sent for all runs of the worker in one request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from runyard_client.errors import Refused, RequestTooLarge
from runyard_client.worker.coordinator.connection_policy import Connection, Unanswered
from runyard_client.worker.coordinator.executor_pools import HeldRun
from runyard_client.worker.messages import ProgressMessage
from runyard_client.worker.settings import WorkerSettings

logger = logging.getLogger("runyard_client.worker")

MAX_REPORTS = 1_000


class ProgressReports:
    """Reports the latest progress of each run, at most once a second. Progress that cannot be sent is dropped."""

    def __init__(
        self,
        held: dict[str, HeldRun],
        settings: WorkerSettings,
        connection: Connection,
        on_answer: Callable[[HeldRun, dict[str, Any]], None],
    ) -> None:
        self._held, self._settings, self._connection, self._on_answer = held, settings, connection, on_answer
        self._wake = asyncio.Event()
        self._latest: dict[str, dict[str, Any]] = {}

    def add(self, message: ProgressMessage) -> None:
        """Report the progress of a run soon."""
        lease = message["lease"]
        self._latest[lease] = {
            "leaseId": lease,
            "done": message["done"],
            "total": message.get("total"),
            "message": message.get("message"),
        }
        self._wake.set()

    async def run(self) -> None:
        """Send reports until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._send()
            await self._connection.pause(self._settings.progress_seconds)

    async def _send(self) -> None:
        # Runs that have ended are omitted: the report of their end may be ahead.
        reports = [report for lease, report in self._latest.items() if lease in self._held][:MAX_REPORTS]
        self._latest.clear()
        if not reports:
            return
        try:
            payload = await self._connection.execute("ReportTaskRunProgress", {"reports": reports})
        except (Unanswered, Refused, RequestTooLarge) as error:
            logger.debug("Progress was not reported: %s", error)
            return
        for result in payload["leases"]:
            if held := self._held.get(result["leaseId"]):
                self._on_answer(held, result)

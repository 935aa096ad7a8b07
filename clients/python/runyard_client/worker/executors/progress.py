"""Sends the progress of runs: the latest value of each run, a few times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from runyard_client.context import Run
from runyard_client.worker.executors.mailbox import Mailbox

PROGRESS_SECONDS = 0.1
"""Shortest time between two messages of one run. The coordinator sends at most one report a second."""


class ProgressSender:
    """Joins the calls of `Run.progress`, from any thread. The latest value is always sent, and before `done`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, mailbox: Mailbox, send: Callable[[str, Run], None]) -> None:
        self._loop, self._mailbox, self._send = loop, mailbox, send
        self._scheduled: dict[Run, str] = {}

    def reporter(self, lease: str) -> Callable[[Run], None]:
        """Return the `report_progress` of a run."""

        def report(run: Run) -> None:
            if run not in self._scheduled:
                self._scheduled[run] = lease
                self._mailbox.post(self._schedule, run)

        return report

    def flush(self, run: Run) -> None:
        """Send what is not sent yet."""
        lease = self._scheduled.pop(run, None)
        if lease is not None and run.latest_progress is not None:
            self._send(lease, run)

    def _schedule(self, run: Run) -> None:
        self._loop.call_later(PROGRESS_SECONDS, self.flush, run)


def progress_message(lease: str, run: Run) -> dict[str, Any]:
    """Return the message with the latest progress of a run."""
    done, total, text = run.latest_progress or (0.0, None, None)
    return {"type": "progress", "lease": lease, "done": done, "total": total, "message": text}

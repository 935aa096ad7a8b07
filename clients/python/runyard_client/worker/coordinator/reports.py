"""Reports: the states of runs that have ended, until the server has responded to them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import orjson

from runyard_client.errors import RequestTooLarge, RunyardError

logger = logging.getLogger("runyard_client.worker")

RETRYABLE_CODES = frozenset({"UNAVAILABLE", "QUEUE_FULL", "INTERNAL"})
SECONDS_WITHOUT_DELAY = 1.0


def new_transition_id() -> str:
    return str(uuid4())


@dataclass(slots=True, eq=False)
class Report:
    """A state to set, with the transition id that makes repeating it harmless."""

    run_id: str
    name: str
    input: dict[str, Any]
    """A `TaskRunStateChangeInput`."""
    size: int
    """Bytes of the input as JSON."""
    is_substitute: bool = False
    """Whether it replaces a report that the server did not take."""

    @property
    def state_type(self) -> str:
        return str(self.input["state"]["type"])


class Reports:
    """Reports in the order in which the runs ended. A report stays until the server has responded to it."""

    def __init__(self, *, transition_id: Callable[[], str] = new_transition_id) -> None:
        self.wake = asyncio.Event()
        """Set when a report is ready."""
        self._transition_id = transition_id
        self._ready: deque[Report] = deque()
        self._in_flight = 0
        self._delayed = 0

    @property
    def ready(self) -> int:
        return len(self._ready)

    @property
    def unanswered(self) -> int:
        return len(self._ready) + self._in_flight + self._delayed

    def add(self, run_id: str, name: str, lease: str, state: dict[str, Any]) -> Report:
        """Add the state of a run that has ended."""
        given: dict[str, Any] = state.get("details") or {}
        details = {**given, "transitionId": self._transition_id()}
        item: dict[str, Any] = {"taskRunId": run_id, "leaseId": lease, "state": {**state, "details": details}}
        report = Report(run_id, name, item, len(orjson.dumps(item)))
        self._ready.append(report)
        self.wake.set()
        return report

    def take_batch(self, max_items: int, max_bytes: int) -> list[Report]:
        """Take reports within these limits, the oldest first and at least one. They are in flight until `settle`."""
        batch: list[Report] = []
        size = 0
        while self._ready and len(batch) < max_items:
            size += self._ready[0].size
            if batch and size > max_bytes:
                break
            batch.append(self._ready.popleft())
        self._in_flight += len(batch)
        return batch

    def settle(self, batch: list[Report], repeat: list[Report]) -> None:
        """End the flight of a batch; the reports to repeat become the first ones again."""
        self._in_flight -= len(batch)
        self._ready.extendleft(reversed(repeat))
        if self._ready:
            self.wake.set()

    def repeat_later(self, report: Report, delay: float) -> None:
        """Repeat a report of a batch in flight after a delay."""
        self._delayed += 1
        asyncio.get_running_loop().call_later(delay, self._repeat_delayed, report)

    def _repeat_delayed(self, report: Report) -> None:
        self._delayed -= 1
        self._ready.append(report)
        self.wake.set()

    def substitute(self, report: Report, error: RunyardError) -> Report | None:
        """Return a report that the run FAILED because the server does not take its result; None if it took neither."""
        if report.is_substitute:
            logger.error("%s: the server does not take the report of its end: %s", report.name, error)
            return None
        is_large = isinstance(error, RequestTooLarge)
        state = describe_refusal("ResultTooLarge" if is_large else "ReportRefused", str(error))
        state["details"]["transitionId"] = self._transition_id()
        item = {**report.input, "state": state}
        return Report(report.run_id, report.name, item, len(orjson.dumps(item)), is_substitute=True)


def describe_refusal(error_type: str, message: str) -> dict[str, Any]:
    """Return the state FAILED, without a retry, of a run whose result cannot be recorded."""
    error = {"type": error_type, "message": message[:1000], "traceback": "", "retriable": False}
    return {
        "type": "FAILED",
        "message": f"{error_type}: {message}"[:1000],
        "data": {"error": error},
        "details": {"retriable": False},
    }


def describe_death(reason: str, *, attempt: int, worker: str) -> dict[str, Any]:
    """Return the state FAILED of a run whose process has died, for example of `signal 9`."""
    text = f"ProcessDied: {reason}"
    error = {"type": "ProcessDied", "message": reason, "traceback": "", "attempt": attempt, "worker": worker}
    return {"type": "FAILED", "message": text, "data": {"error": {**error, "retriable": True}}}


def read_answer(report: Report, answer: dict[str, Any], reports: Reports) -> Report | None:
    """Handle the server's response to one report. Return the report to send next for this run, if any."""
    error = answer.get("error")
    if error is not None:
        return _read_error(report, error, reports)
    result: dict[str, Any] = answer.get("result") or {}
    status, reason = result.get("status"), result.get("reason")
    if status == "WAIT":
        reports.repeat_later(report, result.get("delaySeconds") or SECONDS_WITHOUT_DELAY)
    elif status == "ABORT":
        logger.warning("%s: %s was not recorded: %s", report.name, report.state_type, reason)
    elif status == "REJECT":
        _log_rejection(report, result.get("state") or {}, reason)
    return None


def _read_error(report: Report, error: dict[str, Any], reports: Reports) -> Report | None:
    code, message = error.get("code"), str(error.get("message"))
    if code in RETRYABLE_CODES:
        return report
    if code == "NOT_FOUND":
        logger.info("%s was deleted while it was executed.", report.name)
        return None
    return reports.substitute(report, RunyardError(message))


def _log_rejection(report: Report, state: dict[str, Any], reason: str | None) -> None:
    name = state.get("name") or state.get("type")
    if name == "AwaitingRetry":
        logger.info("%s will be retried.", report.name)
    else:
        logger.warning("%s is %s instead of %s: %s", report.name, name, report.state_type, reason)

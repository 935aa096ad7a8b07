"""A run of inline mode: its input, its state, and how the end of an attempt changes it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from runyard_client.context import Run
from runyard_client.errors import Retry, Snooze
from runyard_client.results.envelope import describe_error
from runyard_client.tasks.task import Task

ENDED = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
WORKER = "inline"


@dataclass(eq=False)
class InlineRun:
    """A run that was enqueued inline."""

    task: Task[..., Any]
    input: dict[str, Any]
    """The `TaskRunCreateInput`, as JSON that was read back."""
    number: int
    """Number of the run, from 1, in the order of creation."""
    created_at: datetime
    due_at: datetime
    run_count: int = 0
    """Number of attempts. A released run does not count."""
    delivery: int = 0
    state: dict[str, Any] = field(default_factory=lambda: {"type": "SCHEDULED", "name": "Scheduled"})
    error: BaseException | None = None
    """What the last attempt raised."""
    current: Run | None = None
    """The context of the last attempt; it has the latest progress."""
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def id(self) -> str:
        """The id of the run: a UUID made of its number, the same in each execution of a test."""
        return str(UUID(int=self.number))

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters by name, as JSON."""
        parameters: dict[str, Any] = self.input.get("parameters") or {}
        return parameters

    @property
    def priority(self) -> int:
        """The priority; 0 by default."""
        priority: int = self.input.get("priority") or 0
        return priority

    @property
    def has_ended(self) -> bool:
        """Whether the run is COMPLETED, FAILED or CANCELLED."""
        return bool(self.state["type"] in ENDED)

    @property
    def is_waiting(self) -> bool:
        """Whether the run waits for its due time or for `run_all()`."""
        return bool(self.state["type"] == "SCHEDULED")

    def begin(self, now: datetime, worker_state: Any) -> Run:
        """Begin an attempt, and return its context."""
        self.run_count += 1
        self.delivery += 1
        self.started_at = self.started_at or now
        self.state = {"type": "RUNNING", "name": "Running"}
        self.current = Run(
            id=self.id,
            name=self.input.get("name") or f"{self.task.key}-{self.number}",
            key=self.task.key,
            run_count=self.run_count,
            delivery=self.delivery,
            tags=tuple(self.input.get("tags", ())),
            created=self.created_at,
            # A task that changes its arguments does not change those of the next attempt.
            parameters=deepcopy(self.parameters),
            worker=WORKER,
            trace_parent=self.input.get("traceParent"),
        )
        self.current.executor.state = worker_state
        return self.current

    def complete(self, data: Any, now: datetime) -> None:
        """End the run as COMPLETED with this data."""
        self._end({"type": "COMPLETED", "name": "Completed", "data": data}, now)

    def cancel(self, now: datetime, name: str = "Cancelled") -> None:
        """End the run as CANCELLED, unless it has ended."""
        if not self.has_ended:
            self._end({"type": "CANCELLED", "name": name}, now)

    def fail(self, error: BaseException, now: datetime) -> None:
        """End the attempt with an error: the run is released, waits for a retry, or has FAILED."""
        self.error = error
        if isinstance(error, Snooze):
            self.run_count -= 1
            self._schedule(now, error.seconds, "Scheduled")
        elif self._has_retries_left() and isinstance(error, Retry):
            self._schedule(now, error.after, "AwaitingRetry")
        elif self._has_retries_left() and self.task.is_retriable(error):
            self._schedule(now, self._retry_delay(), "AwaitingRetry")
        else:
            self._end(self._failed_state(error), now)

    def _failed_state(self, error: BaseException) -> dict[str, Any]:
        retriable = self.task.is_retriable(error)
        message, data = describe_error(error, attempt=self.run_count, worker=WORKER, retriable=retriable)
        return {"type": "FAILED", "name": "Failed", "message": message, "data": data}

    @property
    def _retry_policy(self) -> dict[str, Any]:
        policy: dict[str, Any] | None = self.input.get("retryPolicy")
        return policy or {}

    def _has_retries_left(self) -> bool:
        return bool(self.run_count <= self._retry_policy.get("retries", 0))

    def _retry_delay(self) -> float:
        """Return the delay of the next retry, in seconds. Jitter is not applied."""
        delays: list[float] = self._retry_policy.get("retryDelaySeconds") or [0.0]
        return delays[min(self.run_count, len(delays)) - 1]

    def _schedule(self, now: datetime, seconds: float, name: str) -> None:
        self.state = {"type": "SCHEDULED", "name": name}
        self.due_at = now + timedelta(seconds=seconds)

    def _end(self, state: dict[str, Any], now: datetime) -> None:
        self.state = {"message": None, "data": None} | state
        self.ended_at = now

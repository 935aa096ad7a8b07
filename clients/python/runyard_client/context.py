"""The run that the calling code executes: its attributes, its cancellation and its progress."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar, overload

from runyard_client.errors import Cancelled, NoRun

Default = TypeVar("Default")

_events = threading.Lock()  # guards the creation of `Run._stop_event`, which few runs need
_required: Any = object()


@dataclass(slots=True)
class ExecutorState:
    """What all runs of an executor share: whether it is draining, and what the start hooks have yielded."""

    draining: bool = False
    state: Any = None


@dataclass(slots=True, eq=False)
class Run:
    """A task run that is being executed. Get it with `current_run()`.

    Attributes and methods may be used from any thread.
    """

    id: str
    """Id of the run. Use it as the idempotency key of side effects: retries and redeliveries of a run have the same id."""
    name: str = ""
    key: str = ""
    """The task key."""
    run_count: int = 1
    """Number of this attempt, from 1. A released run gets the same number again."""
    delivery: int = 1
    """Number of times the run has been delivered to a worker, from 1."""
    tags: tuple[str, ...] = ()
    created: datetime | None = None
    parameters: Any = None
    """The parameters as they were sent: plain JSON."""
    lease_expires_at: datetime | None = None
    """When another worker may get the run if this lease is not renewed. The worker renews it."""
    worker: str = ""
    trace_parent: str | None = None
    enqueue_parent: bool = True
    """Whether runs that the task enqueues name this run as their parent."""
    cancel_reason: str | None = None
    """Why the work should stop: `cancelled`, `timeout`, `lease_lost`, `lease_ended`, `drained`; None while it should not."""
    executor: ExecutorState = field(default_factory=ExecutorState, repr=False)
    report_progress: Callable[[Run], None] | None = field(default=None, repr=False)
    latest_progress: tuple[float, float | None, str | None] | None = field(default=None, repr=False)
    _stop_event: threading.Event | None = field(default=None, init=False, repr=False)

    @classmethod
    def from_delivery(cls, task_run: Mapping[str, Any], **others: Any) -> Run:
        """Create the run of a delivered `taskRun` object. `others` are attributes that it does not have."""
        return cls(
            id=task_run["id"],
            name=task_run.get("name") or "",
            key=task_run.get("taskKey") or "",
            run_count=task_run.get("runCount") or 1,
            tags=tuple(task_run.get("tags") or ()),
            created=read_time(task_run.get("createdAt")),
            parameters=task_run.get("parameters"),
            trace_parent=task_run.get("traceParent"),
            **others,
        )

    @property
    def cancelled(self) -> bool:
        """Whether the work should stop: it was cancelled, exceeded its timeout or has lost its lease."""
        return self.cancel_reason is not None

    @property
    def draining(self) -> bool:
        """Whether the worker is about to stop. A task that can stop early raises `Snooze(0)`, which requeues its run."""
        return self.executor.draining

    @property
    def state(self) -> Any:
        """What the `on_worker_start` hooks have yielded; None if they yielded nothing."""
        return self.executor.state

    @property
    def logger(self) -> logging.Logger:
        """The logger named after the task key."""
        return logging.getLogger(self.key)

    def check(self) -> None:
        """Raise `Cancelled` if the work should stop."""
        if self.cancel_reason is not None:
            raise Cancelled(f"The run {self.name or self.id} must stop: {self.cancel_reason}.")

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        """Block until the work should stop, for at most `timeout` seconds. Return whether it should.

        For functions of the pools `thread` and `process`. Raises RuntimeError on a thread with a running event loop, which
        it would block: a task of the pool `loop` is cancelled with `asyncio.CancelledError`.
        """
        if has_running_loop():
            raise RuntimeError(
                "`wait_cancelled` and `sleep` block the event loop; use `await asyncio.sleep(…)` instead."
            )
        return self.cancelled or self._make_stop_event().wait(timeout)

    def sleep(self, seconds: float) -> bool:
        """Block for `seconds`, less if the work should stop. Return whether the whole time has passed.

        Raises RuntimeError on a thread with a running event loop.
        """
        return not self.wait_cancelled(seconds)

    def progress(self, done: float, of: float | None = None, text: str | None = None) -> None:
        """Report progress: `done` of `of` units, with a text of at most 1,000 characters.

        The latest value is sent at most once a second. Never blocks and never raises because of the connection.
        """
        self.latest_progress = (done, of, text)
        if self.report_progress is not None:
            self.report_progress(self)

    def request_stop(self, reason: str) -> None:
        """Set `cancel_reason`. Losing the lease replaces an earlier reason; otherwise, the first reason stays."""
        if self.cancel_reason is None or reason == "lease_lost":
            self.cancel_reason = reason
        with _events:
            if self._stop_event is not None:
                self._stop_event.set()

    def _make_stop_event(self) -> threading.Event:
        with _events:
            if self._stop_event is None:
                self._stop_event = threading.Event()
                if self.cancelled:
                    self._stop_event.set()
            return self._stop_event


current: ContextVar[Run | None] = ContextVar("runyard_client.current_run", default=None)


@overload
def current_run() -> Run: ...
@overload
def current_run(default: Default) -> Run | Default: ...
def current_run(default: Any = _required) -> Any:
    """Return the run that the calling code executes, or `default` outside of a run.

    Threads and tasks that the task starts see it if they copy the context, as `asyncio.to_thread` and
    `asyncio.create_task` do.
    Raises `NoRun` outside of a run if no default is given.
    """
    run = current.get()
    if run is not None:
        return run
    if default is _required:
        raise NoRun("current_run() is available only while a worker executes a task; use current_run(None) elsewhere.")
    return default


@contextmanager
def use_run(run: Run) -> Generator[Run, None, None]:
    """Make `run` the current run of a block."""
    token = current.set(run)
    try:
        yield run
    finally:
        current.reset(token)


def read_time(text: str | None) -> datetime | None:
    """Read an ISO 8601 time of the server. Times without an offset are UTC."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def has_running_loop() -> bool:
    """Return whether an event loop runs on this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

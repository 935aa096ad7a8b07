"""Inline mode: calls are recorded, and executed in the test's process when the test asks for it, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import orjson

from runyard_client.app import Runyard
from runyard_client.connection.app_connection import Connection
from runyard_client.context import has_running_loop, read_time, use_run
from runyard_client.errors import Cancelled, RunyardError
from runyard_client.tasks.task import Task
from runyard_client.testing.assertions import find_enqueued, refuse_enqueued
from runyard_client.testing.attempts import Attempt, attempt_of
from runyard_client.testing.inline_connection import InlineConnection
from runyard_client.testing.inline_run import InlineRun

if TYPE_CHECKING:
    from typing import Self

MAX_ATTEMPTS = 10_000


class Inline:
    """Records the calls of all apps of this process while its block is executed, and executes them on request.

    Arguments and results are converted to JSON and back, as with a server. Retries, delays, due times, priorities,
    expiry, `key` and `unique` work as on a server, by a clock that only `advance`, `run_due` and `run_all` change. Not
    imitated: `cache_key`, which raises `NotImitated`; concurrency limits, leases and timeouts, which have no effect.

    For one test at a time: it is not thread-safe, and a second one cannot be entered within its block.
    """

    def __init__(self, now: datetime | None = None) -> None:
        """Start the clock at `now`, a date-time with an offset, by default at the current time."""
        self.now = now or datetime.now(UTC)
        self.state: Any = None
        """What `current_run().state` returns: start hooks of workers are not called inline."""
        self._connection = InlineConnection(lambda: self.now)

    @property
    def runs(self) -> list[InlineRun]:
        """All runs, in the order of creation."""
        return list(self._connection.runs)

    def assert_enqueued(self, task: Task[..., Any], **expected: Any) -> InlineRun:
        """Return the only run of the task with these parameters and options.

        `expected` has parameters of the function by name, and options of `Task.with_`: `delay`, `at`, `priority`, `key`,
        `unique`, `tags`, `metadata`, `name` and `version`. What is not given is not compared. Raises AssertionError with
        the runs of the task when none or several match.
        """
        return find_enqueued(self.runs, task, expected)

    def assert_not_enqueued(self, task: Task[..., Any], **expected: Any) -> None:
        """Raise AssertionError if a run of the task has these parameters and options, as in `assert_enqueued`."""
        refuse_enqueued(self.runs, task, expected)

    def advance(self, seconds: float) -> None:
        """Advance the clock. Nothing is executed."""
        self.now += timedelta(seconds=seconds)

    def run_due(self, *, raise_errors: bool = True) -> int:
        """Execute the runs that are due, and those that they make due, without advancing the clock.

        Returns the number of attempts. `raise_errors` is that of `run_all`.
        """
        return self._run(self._take_due, raise_errors)

    def run_all(self, *, raise_errors: bool = True) -> int:
        """Execute all runs in the order of their due times, advancing the clock, until none waits.

        Returns the number of attempts: a run with one retry has two. With `raise_errors`, the exception of a run that has
        FAILED is raised, and later runs wait for the next call; else its handle has it.

        Raises:
            RuntimeError: an event loop is running on this thread. Use `await run_all_async()`.
            RunyardError: there were more than 10,000 attempts: a task enqueues itself without end.
        """
        return self._run(self._take_next, raise_errors)

    async def run_all_async(self, *, raise_errors: bool = True) -> int:
        """Execute all runs, as `run_all` does, on this event loop. Functions that are not async run on a thread."""
        count = 0
        while run := self._take_next():
            count = _count_attempt(count)
            with self._attempt(run, raise_errors) as attempt:
                if attempt.is_async:
                    attempt.result = await attempt.call()
                else:
                    attempt.result = await asyncio.to_thread(attempt.call)
        return count

    def _run(self, take: Callable[[], InlineRun | None], raise_errors: bool) -> int:
        if has_running_loop():
            raise RuntimeError("An event loop is running on this thread; use `await run_all_async()`.")
        count = 0
        with asyncio.Runner() as runner:
            while run := take():
                count = _count_attempt(count)
                with self._attempt(run, raise_errors) as attempt:
                    value = attempt.call()
                    attempt.result = runner.run(value, context=copy_context()) if attempt.is_async else value
        return count

    @contextmanager
    def _attempt(self, run: InlineRun, raise_errors: bool) -> Generator[Attempt]:
        """Make the run the current one during an attempt, and end the attempt with its result or its exception."""
        current = run.begin(self.now, self.state)
        try:
            with use_run(current), attempt_of(run, current) as attempt:
                yield attempt
            data = run.task.write_result(attempt.result, run.id)
            run.complete(orjson.loads(orjson.dumps(data)), self.now)
        except (Exception, SystemExit) as error:
            if current.cancelled and isinstance(error, Cancelled):
                run.cancel(self.now)
                return
            run.fail(error, self.now)
            if raise_errors and run.has_ended:
                raise

    def _take_next(self) -> InlineRun | None:
        """Advance the clock to the next due time, and return the first run that is due; None if no run waits."""
        if run := self._take_due():
            return run
        waiting = [run.due_at for run in self._connection.runs if run.is_waiting]
        if not waiting:
            return None
        self.now = max(self.now, min(waiting))
        return self._take_due() or self._take_next()

    def _take_due(self) -> InlineRun | None:
        """Return the run that is delivered next: of those that are due, by priority, then by due time."""
        self._expire()
        due = [run for run in self._connection.runs if run.is_waiting and run.due_at <= self.now]
        return min(due, key=lambda run: (-run.priority, run.due_at, run.number), default=None)

    def _expire(self) -> None:
        for run in self._connection.runs:
            expires_at = read_time(run.input.get("expiresAt"))
            if run.is_waiting and run.started_at is None and expires_at is not None and expires_at <= self.now:
                run.cancel(self.now, "Expired")

    def __enter__(self) -> Self:
        if Runyard.backend is not None:
            raise RuntimeError("Inline mode is active already.")
        Runyard.backend = cast(Connection, self._connection)
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        Runyard.backend = None


def _count_attempt(count: int) -> int:
    if count >= MAX_ATTEMPTS:
        raise RunyardError(f"There were more than {MAX_ATTEMPTS:,} attempts. Does a task enqueue itself without end?")
    return count + 1

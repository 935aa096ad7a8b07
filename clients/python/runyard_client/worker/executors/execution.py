"""The execution of one run, in any pool: from its parameters to its outcome."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from runyard_client.context import ExecutorState, Run, read_time
from runyard_client.errors import Cancelled, Retry, Snooze
from runyard_client.results.envelope import describe_error
from runyard_client.worker.executors.hooks import Middleware, enter_middleware, leave_middleware
from runyard_client.worker.executors.outcomes import completed, failed, stopped
from runyard_client.worker.messages import Outcome

if TYPE_CHECKING:
    from runyard_client.tasks.task import Task


class Terminated(SystemExit):
    """Raised in the main thread of a process when its run has not stopped within the grace. `finally` blocks run."""


@dataclass(slots=True, eq=False)
class Execution:
    """A run that an executor has received and not reported as `done`."""

    lease: str
    run: Run
    task: Task[..., Any]
    max_retries: int
    middleware: Sequence[Middleware] = ()
    started: float = field(default_factory=time.monotonic)
    is_begun: bool = False
    is_lost: bool = False
    """Whether its thread has not stopped within the grace."""
    timers: list[asyncio.TimerHandle] = field(default_factory=list[asyncio.TimerHandle])
    future: asyncio.Task[None] | None = None
    """The task of the event loop that executes it, in the pool `loop`."""
    run_coroutine: Callable[[Coroutine[Any, Any, Any]], Any] = asyncio.run
    """Executes a coroutine function in the pool `process`."""

    def clear_timers(self) -> None:
        """Cancel all timers."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()


def make_execution(
    message: Mapping[str, Any],
    task: Task[..., Any],
    state: ExecutorState,
    middleware: Sequence[Middleware],
    report_progress: Callable[[Run], None],
) -> Execution:
    """Create the execution of a `start` message."""
    delivered = message["run"]
    run = Run.from_delivery(
        delivered,
        delivery=message.get("delivery") or 1,
        lease_expires_at=read_time(message.get("leaseExpiresAt")),
        worker=message.get("worker") or "",
        executor=state,
        report_progress=report_progress,
    )
    policy: dict[str, Any] = delivered.get("retryPolicy") or {}
    return Execution(message["lease"], run, task, policy.get("retries") or 0, middleware)


def execute_sync(execution: Execution) -> Outcome:
    """Execute a run on this thread and return its outcome."""
    task, run = execution.task, execution.run
    try:
        args, kwargs = task.read_parameters(run.parameters, run)
        generators = enter(execution, args, kwargs) if execution.middleware else []
        result, error = call_sync(execution, args, kwargs)
        error = leave_middleware(generators, result, error)
        if error is not None:
            return outcome_of_error(execution, error)
        return outcome_of_result(execution, task.write_result(result, run.id))
    except BaseException as raised:  # noqa: BLE001 - of the parameters, the middleware or the result
        return outcome_of_error(execution, raised)


async def execute_async(execution: Execution) -> Outcome:
    """Execute a run on this event loop and return its outcome."""
    task, run = execution.task, execution.run
    try:
        args, kwargs = task.read_parameters(run.parameters, run)
        generators = enter(execution, args, kwargs) if execution.middleware else []
        result, error = await call_async(execution, args, kwargs)
        error = leave_middleware(generators, result, error)
        if error is not None:
            return outcome_of_error(execution, error)
        return outcome_of_result(execution, await write_result(task, result, run.id))
    except BaseException as raised:  # noqa: BLE001 - of the parameters, the middleware or the result
        return outcome_of_error(execution, raised)


# These two return the exception instead of keeping it in a variable: its traceback refers to their frames, and the cycle
# would keep the parameters alive until the next garbage collection.


def call_sync(execution: Execution, args: Any, kwargs: Any) -> tuple[Any, BaseException | None]:
    """Call the function and return its result or its exception, also SystemExit and KeyboardInterrupt."""
    try:
        result = execution.task.function(*args, **kwargs)
        return execution.run_coroutine(result) if inspect.iscoroutine(result) else result, None
    except BaseException as error:  # noqa: BLE001 - it ends the run only
        return None, error


async def call_async(execution: Execution, args: Any, kwargs: Any) -> tuple[Any, BaseException | None]:
    """Await the function and return its result or its exception, also SystemExit and KeyboardInterrupt."""
    try:
        return await execution.task.function(*args, **kwargs), None
    except BaseException as error:  # noqa: BLE001 - it ends the run only
        return None, error


def enter(execution: Execution, args: Any, kwargs: Any) -> list[Any]:
    """Start the middleware with the arguments by name."""
    arguments = inspect.signature(execution.task.function).bind(*args, **kwargs).arguments
    return enter_middleware(execution.middleware, execution.run, arguments)


async def write_result(task: Task[..., Any], result: Any, run_id: str) -> Any:
    """Return the data of the COMPLETED state. Does not block the event loop if the result may go to a store."""
    has_store = not isinstance(task.options.result, str) or (task.app is not None and task.app.results is not None)
    if has_store:
        return await asyncio.to_thread(task.write_result, result, run_id)
    return task.write_result(result, run_id)


def outcome_of_result(execution: Execution, data: Any) -> Outcome:
    """Outcome of a task that has returned, even if it had to stop: its work is done."""
    if execution.run.cancel_reason in {"lease_lost", "lease_ended"}:
        return {"drop": True}
    return completed(data)


def outcome_of_error(execution: Execution, error: BaseException) -> Outcome:
    """Outcome of a task that has raised. Only the exceptions of a stop count as stopped; others end the run as usual."""
    run, task = execution.run, execution.task
    if run.cancel_reason in {"lease_lost", "lease_ended"}:
        return {"drop": True}
    if isinstance(error, Snooze):
        return {"release": error.seconds}
    if run.cancelled and isinstance(error, asyncio.CancelledError | Cancelled | Terminated):
        return outcome_of_stop(execution)
    retriable = task.is_retriable(error)
    message, data = describe_error(error, attempt=run.run_count, worker=run.worker, retriable=retriable)
    if isinstance(error, Retry) and run.run_count <= execution.max_retries:
        return retry_at(datetime.now(UTC) + timedelta(seconds=error.after), message, data)
    return failed(message, data, retriable=retriable)


def outcome_of_stop(execution: Execution) -> Outcome:
    """Outcome of a run whose work has stopped because it had to."""
    run = execution.run
    timeout = execution.task.options.timeout
    return stopped(run.cancel_reason, timeout=timeout, attempt=run.run_count, worker=run.worker)


def retry_at(moment: datetime, message: str, data: Any) -> Outcome:
    """Outcome of a task that has raised `Retry`."""
    details = {"scheduledTime": moment.isoformat()}
    return {
        "state": {"type": "SCHEDULED", "name": "AwaitingRetry", "message": message, "data": data, "details": details}
    }

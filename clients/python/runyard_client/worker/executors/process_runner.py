"""Executes runs of the pool `process` in a child: one at a time, on the main thread."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import orjson

from runyard_client.context import ExecutorState, Run, current, read_time
from runyard_client.log import log_begin, log_end
from runyard_client.results.envelope import describe_error
from runyard_client.worker.executors.execution import (
    Execution,
    Terminated,
    execute_sync,
    make_execution,
    outcome_of_error,
    outcome_of_stop,
)
from runyard_client.worker.executors.executor import UNKNOWN_TASK_SECONDS, failure_message
from runyard_client.worker.executors.hooks import Hooks
from runyard_client.worker.executors.outcomes import failed, outcome_name
from runyard_client.worker.executors.pipes import READ_BYTES, LineBuffer
from runyard_client.worker.executors.progress import PROGRESS_SECONDS, progress_message
from runyard_client.worker.executors.recycling import MemoryReader
from runyard_client.worker.executors.task_table import describe_tasks
from runyard_client.worker.messages import Outcome

if TYPE_CHECKING:
    from runyard_client.app import Runyard

logger = logging.getLogger("runyard_client.worker")


class ProcessRunner:
    """Executes runs on the main thread, where SIGTERM can interrupt them; another thread reads the messages."""

    def __init__(self, app: Runyard, receive_fd: int, send_fd: int) -> None:
        self.app, self._receive_fd, self._send_fd = app, receive_fd, send_fd
        self._state = ExecutorState()
        self._waiting: queue.SimpleQueue[Execution | None] = queue.SimpleQueue()
        self._current: Execution | None = None
        self._interruptible = False
        self._task: asyncio.Task[Any] | None = None
        self._writing = threading.Lock()
        self._memory = MemoryReader()

    def run(self) -> None:
        """Run the start hooks, send `ready`, execute runs until `stop` or the death of the parent, run the stop hooks."""
        signal.signal(signal.SIGTERM, self._terminate)
        hooks = Hooks(self.app.start_hooks, self.app.stop_hooks)
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            try:
                self._state.state = runner.run(hooks.start()) if self.app.start_hooks else None
            except Exception as error:  # noqa: BLE001 - the coordinator reports it
                self._send(failure_message(error))
                return
            self._send({"type": "ready", "tasks": describe_tasks(self.app), "pid": os.getpid()})
            threading.Thread(target=self._read, name="runyard-messages", daemon=True).start()
            while (execution := self._waiting.get()) is not None:
                self._execute(execution)
                del execution  # an idle process keeps no parameters alive
            runner.run(hooks.stop())

    def stop_all(self, reason: str) -> None:
        """Stop the run and end. May be called on any thread."""
        if (execution := self._current) is not None:
            self._cancel(execution, reason)
        self._waiting.put(None)

    def _execute(self, execution: Execution) -> None:
        log_begin(execution.run)
        try:
            outcome = self._call(execution)
        except Terminated as error:  # it was raised after the task had ended
            outcome = outcome_of_error(execution, error)
        self._current = None
        seconds = time.monotonic() - execution.started
        log_end(execution.run, outcome_name(outcome), seconds)
        self._send_done(execution, outcome, seconds)

    def _call(self, execution: Execution) -> Outcome:
        if execution.run.cancelled:
            return outcome_of_stop(execution)
        context = copy_context()
        context.run(current.set, execution.run)
        try:
            self._interruptible = True
            return context.run(execute_sync, execution)
        finally:
            self._interruptible = False

    def _run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine function on the loop of the start hooks. A cancel, and SIGTERM, cancel its task."""
        assert self._current is not None
        self._task = self._loop.create_task(coroutine)
        if self._current.run.cancelled:
            self._task.cancel()
        try:
            return self._loop.run_until_complete(self._task)
        except Terminated:
            self._task.cancel()
            self._loop.run_until_complete(asyncio.wait([self._task]))
            raise
        finally:
            mark_retrieved(self._task)
            self._task = None

    def _cancel(self, execution: Execution, reason: str) -> None:
        execution.run.request_stop(reason)
        if (task := self._task) is not None:
            self._loop.call_soon_threadsafe(task.cancel)

    def _terminate(self, number: int, frame: Any) -> None:
        """Handle SIGTERM. Without a run that has to stop it is ignored: a service manager sends it to all processes."""
        execution = self._current
        if self._interruptible and execution is not None and execution.run.cancelled:
            raise Terminated(f"The run did not stop within its grace: {execution.run.cancel_reason}.")

    def _read(self) -> None:
        lines = LineBuffer()
        while chunk := os.read(self._receive_fd, READ_BYTES):
            for line in lines.feed(chunk):
                try:
                    self._handle(orjson.loads(line))
                except Exception:  # one message must not prevent the handling of the others
                    logger.exception("A message between the worker's processes could not be handled")
        self.stop_all("lease_lost")

    def _handle(self, message: Any) -> None:
        execution = self._current
        is_current = execution is not None and execution.lease == message.get("lease")
        match message["type"]:
            case "start":
                self._start(message)
            case "cancel" if execution is not None and is_current:
                self._cancel(execution, message["reason"])
            case "renewed" if execution is not None and is_current:
                execution.run.lease_expires_at = read_time(message["leaseExpiresAt"])
            case "drain":
                self._state.draining = True
            case "stop":
                self._state.draining = True
                self._waiting.put(None)
            case _:
                return  # unknown, or for a run that has ended

    def _start(self, message: Any) -> None:
        task = self.app.tasks.get(message["run"]["taskKey"])
        if task is None:
            outcome = {"release": UNKNOWN_TASK_SECONDS}
            self._send(
                {"type": "done", "lease": message["lease"], "outcome": outcome, "seconds": 0.0, "memoryMib": 0.0}
            )
            return
        progress = ProgressThrottle(message["lease"], self._send)
        self._current = make_execution(message, task, self._state, self.app.middleware, progress.report)
        self._current.run_coroutine = self._run_coroutine
        self._waiting.put(self._current)

    def _send_done(self, execution: Execution, outcome: Outcome, seconds: float) -> None:
        done = {"type": "done", "lease": execution.lease, "seconds": seconds, "memoryMib": self._memory.read_mib()}
        if execution.run.latest_progress is not None:
            self._send(progress_message(execution.lease, execution.run))
        try:
            self._send({**done, "outcome": outcome})
        except (TypeError, ValueError) as error:  # a custom encoder returned something that is not JSON
            run = execution.run
            message, data = describe_error(error, attempt=run.run_count, worker=run.worker, retriable=False)
            self._send({**done, "outcome": failed(message, data, retriable=False)})

    def _send(self, message: Any) -> None:
        line = memoryview(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))
        with self._writing:
            try:
                while line:
                    line = line[os.write(self._send_fd, line) :]
            except BrokenPipeError:
                logger.warning("The worker has ended; this process ends too")


def mark_retrieved(task: asyncio.Task[Any]) -> None:
    """Prevent the log line that the exception of a task was never retrieved: it ends the run."""
    if task.done() and not task.cancelled():
        task.exception()


class ProgressThrottle:
    """Sends the progress of one run at once, then the latest value after each interval in which it was reported."""

    def __init__(self, lease: str, send: Any) -> None:
        self._lease, self._send = lease, send
        self._lock = threading.Lock()
        self._is_scheduled = False

    def report(self, run: Run) -> None:
        """Send the latest progress soon. May be called on any thread."""
        with self._lock:
            if self._is_scheduled:
                return
            self._is_scheduled = True
        timer = threading.Timer(PROGRESS_SECONDS, self._flush, [run])
        timer.daemon = True
        timer.start()

    def _flush(self, run: Run) -> None:
        with self._lock:
            self._is_scheduled = False
        self._send(progress_message(self._lease, run))

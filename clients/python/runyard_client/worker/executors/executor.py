"""Executes runs on an event loop and its threads, as the messages of a coordinator say.

The same code runs in a child process and within the process of a worker. It sends no requests to the server.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runyard_client.context import ExecutorState, read_time
from runyard_client.log import log_begin, log_end
from runyard_client.results.envelope import describe_error
from runyard_client.worker.executors.child_process import ChildSettings
from runyard_client.worker.executors.execution import Execution, make_execution, outcome_of_stop
from runyard_client.worker.executors.hooks import Hooks
from runyard_client.worker.executors.loop_runner import LoopRunner
from runyard_client.worker.executors.mailbox import Mailbox
from runyard_client.worker.executors.outcomes import failed, outcome_name
from runyard_client.worker.executors.progress import ProgressSender, progress_message
from runyard_client.worker.executors.recycling import MemoryReader
from runyard_client.worker.executors.task_table import describe_tasks
from runyard_client.worker.executors.thread_runner import ThreadRunner
from runyard_client.worker.messages import Outcome

if TYPE_CHECKING:
    from runyard_client.app import Runyard

UNKNOWN_TASK_SECONDS = 5.0
"""A run whose task this process does not have is released for this time. Another worker can claim it then."""

logger = logging.getLogger("runyard_client.worker")


class Executor:
    """Executes the runs of the pools `loop` and `thread`.

    Args:
        app: the tasks and the hooks.
        concurrency: runs at a time. The coordinator respects it; here, it is the limit for lost threads.
        send: receives the messages for the coordinator, on the thread of the loop.
    """

    def __init__(
        self,
        app: Runyard,
        *,
        concurrency: int,
        send: Callable[[dict[str, Any]], None],
        settings: ChildSettings | None = None,
        ready_fields: dict[str, Any] | None = None,
    ) -> None:
        self.app, self.concurrency, self.settings = app, concurrency, settings or ChildSettings()
        self._send = send
        self._ready_fields = ready_fields or {}
        self._state = ExecutorState()
        self._executions: dict[str, Execution] = {}
        self._is_stopping = False
        self._idle = asyncio.Event()
        self._handlers: dict[str, Callable[[Any], None]] = {
            "start": self._start,
            "cancel": lambda message: self._stop_lease(message["lease"], message["reason"]),
            "renewed": self._renew,
            "drain": self._drain,
            "stop": self._stop,
            "ping": self._pong,
        }

    async def run(self) -> None:
        """Run the start hooks, send `ready`, execute runs until `stop`, and run the stop hooks.

        Sends `failed` and returns if a start hook raises. A cancelled call cancels the runs of the loop and does not wait.
        """
        loop = asyncio.get_running_loop()
        mailbox = Mailbox(loop)
        self._loop = loop
        self._threads = ThreadRunner(mailbox, self._finish)
        self._tasks_of_loop = LoopRunner(loop, self._finish, self.settings.cancel_repeat_seconds)
        self._progress = ProgressSender(loop, mailbox, lambda lease, run: self._send(progress_message(lease, run)))
        hooks = Hooks(self.app.start_hooks, self.app.stop_hooks)
        try:
            self._state.state = await hooks.start()
        except Exception as error:  # noqa: BLE001 - the coordinator reports it
            self._send(failure_message(error))
            return
        self._memory = MemoryReader()
        self._send({"type": "ready", "tasks": describe_tasks(self.app), "pid": os.getpid(), **self._ready_fields})
        try:
            await self._idle.wait()
        finally:
            self._abandon()
            await hooks.stop()
            self._threads.close()
            self._memory.close()

    def receive(self, message: Any) -> None:
        """Handle a message of the coordinator, on the thread of the loop. Unknown types are ignored."""
        handler = self._handlers.get(message["type"])
        if handler is not None:
            handler(message)

    def stop_all(self, reason: str) -> None:
        """Stop all runs, and end when they have ended."""
        for lease in list(self._executions):
            self._stop_lease(lease, reason)
        self._stop({})

    def _start(self, message: Any) -> None:
        task = self.app.tasks.get(message["run"]["taskKey"])
        if task is None:
            logger.error("There is no task with the key %r; its run is released", message["run"]["taskKey"])
            outcome = {"release": UNKNOWN_TASK_SECONDS}
            self._send(
                {"type": "done", "lease": message["lease"], "outcome": outcome, "seconds": 0.0, "memoryMib": 0.0}
            )
            return
        report = self._progress.reporter(message["lease"])
        execution = make_execution(message, task, self._state, self.app.middleware, report)
        self._executions[execution.lease] = execution
        log_begin(execution.run)
        if task.options.timeout is not None:
            timer = self._loop.call_later(task.options.timeout, self._stop_lease, execution.lease, "timeout")
            execution.timers.append(timer)
        self._runner_of(execution).start(execution)

    def _runner_of(self, execution: Execution) -> LoopRunner | ThreadRunner:
        return self._tasks_of_loop if execution.task.options.pool == "loop" else self._threads

    def _stop_lease(self, lease: str, reason: str) -> None:
        execution = self._executions.get(lease)
        if execution is None:
            return
        is_first = not execution.run.cancelled
        execution.run.request_stop(reason)
        if not is_first:
            return
        execution.clear_timers()
        self._runner_of(execution).stop(execution)
        if execution.task.options.pool != "loop":
            grace = execution.task.options.grace
            execution.timers.append(self._loop.call_later(grace, self._count_lost, execution))

    def _count_lost(self, execution: Execution) -> None:
        execution.is_lost = True
        logger.warning("%s does not stop: its thread is occupied until it ends", execution.run.name)
        self._send_lost_slots()
        self._end_if_idle()

    def _send_lost_slots(self) -> None:
        self._send({"type": "lost_slots", "count": sum(each.is_lost for each in self._executions.values())})

    def _finish(self, execution: Execution, outcome: Outcome) -> None:
        if self._executions.pop(execution.lease, None) is None:
            return  # it was abandoned
        execution.clear_timers()
        self._progress.flush(execution.run)
        seconds = time.monotonic() - execution.started
        log_end(execution.run, outcome_name(outcome), seconds)
        self._send_done(execution, outcome, seconds)
        if execution.is_lost:
            self._send_lost_slots()
        self._end_if_idle()

    def _send_done(self, execution: Execution, outcome: Outcome, seconds: float) -> None:
        done = {"type": "done", "lease": execution.lease, "seconds": seconds, "memoryMib": self._memory.read_mib()}
        try:
            self._send({**done, "outcome": outcome})
        except (TypeError, ValueError) as error:  # a custom encoder returned something that is not JSON
            run = execution.run
            message, data = describe_error(error, attempt=run.run_count, worker=run.worker, retriable=False)
            self._send({**done, "outcome": failed(message, data, retriable=False)})

    def _renew(self, message: Any) -> None:
        if execution := self._executions.get(message["lease"]):
            execution.run.lease_expires_at = read_time(message["leaseExpiresAt"])

    def _drain(self, message: Any) -> None:
        self._state.draining = True

    def _pong(self, message: Any) -> None:
        on_loop = [each.run.name for each in self._executions.values() if each.task.options.pool == "loop"]
        self._send({"type": "pong", "number": message["number"], "onLoop": on_loop})

    def _stop(self, message: Any) -> None:
        self._is_stopping = self._state.draining = True
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._is_stopping and all(each.is_lost for each in self._executions.values()):
            self._idle.set()

    def _abandon(self) -> None:
        """End all that is left: lost threads end with the process, so their runs have stopped."""
        for execution in list(self._executions.values()):
            execution.run.request_stop("drained")
            if execution.future is not None:
                execution.future.cancel()
            self._finish(execution, outcome_of_stop(execution))


def failure_message(error: BaseException) -> dict[str, Any]:
    """Return the message `failed` for an error before `ready`."""
    text = "".join(traceback.format_exception(error))
    return {"type": "failed", "error": f"{type(error).__name__}: {error}", "traceback": text}

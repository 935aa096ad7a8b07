"""Executes runs of the pool `thread`, on daemon threads of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextvars import copy_context

from runyard_client.context import current
from runyard_client.worker.executors.execution import Execution, execute_sync, outcome_of_stop
from runyard_client.worker.executors.mailbox import Mailbox
from runyard_client.worker.messages import Outcome


class ThreadRunner:
    """Starts runs on threads, which are created as they are needed and kept.

    The threads are daemons: one that does not stop does not prevent the exit of the process. Nothing is ever thrown into a
    thread; a run stops when it checks its `Run`.
    """

    def __init__(self, mailbox: Mailbox, finish: Callable[[Execution, Outcome], None]) -> None:
        self._mailbox, self._finish = mailbox, finish
        self._waiting: queue.SimpleQueue[Execution | None] = queue.SimpleQueue()
        self._threads = 0
        self._running = 0

    def start(self, execution: Execution) -> None:
        """Start a run soon. Must be called on the thread of the loop."""
        self._running += 1
        if self._running > self._threads:
            self._threads += 1
            threading.Thread(target=self._work, name=f"runyard-task-{self._threads}", daemon=True).start()
        self._waiting.put(execution)

    def stop(self, execution: Execution) -> None:
        """Do nothing: the run has seen `Run.request_stop`."""

    def close(self) -> None:
        """End the threads when they are idle."""
        for _ in range(self._threads):
            self._waiting.put(None)

    def _work(self) -> None:
        while (execution := self._waiting.get()) is not None:
            outcome = self._execute(execution)
            self._mailbox.post(self._end, execution, outcome)
            del execution, outcome  # an idle thread keeps no result alive

    def _execute(self, execution: Execution) -> Outcome:
        execution.is_begun = True
        if execution.run.cancelled:
            return outcome_of_stop(execution)
        context = copy_context()
        context.run(current.set, execution.run)
        return context.run(execute_sync, execution)

    def _end(self, execution: Execution, outcome: Outcome) -> None:
        self._running -= 1
        self._finish(execution, outcome)

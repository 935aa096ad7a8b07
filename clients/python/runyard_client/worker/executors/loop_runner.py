"""Executes runs of the pool `loop`: each is an `asyncio.Task` in a context of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import copy_context

from runyard_client.context import current
from runyard_client.worker.executors.execution import Execution, execute_async, outcome_of_stop
from runyard_client.worker.messages import Outcome

logger = logging.getLogger("runyard_client.worker")


class LoopRunner:
    """Starts runs on an event loop and cancels them, again and again until they end."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        finish: Callable[[Execution, Outcome], None],
        cancel_repeat_seconds: float,
    ) -> None:
        self._loop, self._finish, self._cancel_repeat_seconds = loop, finish, cancel_repeat_seconds

    def start(self, execution: Execution) -> None:
        """Start a run soon."""
        context = copy_context()
        context.run(current.set, execution.run)
        execution.future = self._loop.create_task(self._execute(execution), context=context)

    def stop(self, execution: Execution) -> None:
        """Cancel the task of a run, and again after a time if it continues. A run that has not begun never begins."""
        if not execution.is_begun:
            return  # `_execute` sees that the run is cancelled
        assert execution.future is not None
        execution.future.cancel()
        execution.timers.append(self._loop.call_later(self._cancel_repeat_seconds, self._stop_again, execution))

    def _stop_again(self, execution: Execution) -> None:
        run = execution.run
        logger.warning("%s continues although it was cancelled (%s); cancelling it again", run.name, run.cancel_reason)
        self.stop(execution)

    async def _execute(self, execution: Execution) -> None:
        execution.is_begun = True
        outcome = outcome_of_stop(execution) if execution.run.cancelled else await execute_async(execution)
        self._finish(execution, outcome)

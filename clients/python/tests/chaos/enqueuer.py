"""`python -m chaos.enqueuer NUMBER STARTED_AT JOURNAL OPTIONS`: enqueues its share of the runs, and waits for their ends.

It notes each response in its journal. When it was killed and is started again, it repeats what the journal does not contain:
with the same keys: no run can be created twice. It exits when the journal has the end of each of its runs.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chaos.ledger import Ledger, read_ledger
from chaos.plan import Options, PlannedRun, runs_of_enqueuer
from chaos.tasks import in_process, in_thread, on_loop, runyard
from runyard_client import (
    NoResult,
    PartlyEnqueued,
    QueueFull,
    ServerUnavailable,
    TaskCancelled,
    TaskDeleted,
    TaskFailed,
)

TASKS: dict[str, Any] = {task.key: task for task in (on_loop, in_thread, in_process)}
PAUSE_SECONDS = 0.1
RESULT_SECONDS = 20.0
MAX_BATCH_SIZE = 10


class Enqueuer:
    """An enqueuing program. Its number decides how it enqueues: one at a time, from threads, or in batches."""

    def __init__(self, number: int, started_at: float, journal: Path, options: Options) -> None:
        self._number = number
        self._started_at = started_at
        self._options = options
        events = list(read_ledger(journal))
        self._run_ids: dict[str, str] = {each["key"]: each["run"] for each in events if each["event"] == "enqueued"}
        self._ended = {each["key"] for each in events if each["event"] in ("result", "failure")}
        self._journal = Ledger(journal)

    async def run(self) -> None:
        planned = [each for each in runs_of_enqueuer(self._options, self._number) if each.key not in self._ended]
        size = MAX_BATCH_SIZE if self._number % 3 == 2 else 1
        batches = [planned[start : start + size] for start in range(0, len(planned), size)]
        async with asyncio.TaskGroup() as tasks:
            for batch in batches:
                tasks.create_task(self._carry_out(batch))
        await runyard.close()

    async def _carry_out(self, batch: Sequence[PlannedRun]) -> None:
        await asyncio.sleep(max(0.0, self._started_at + batch[0].at - time.time()))
        await self._enqueue([each for each in batch if each.key not in self._run_ids])
        async with asyncio.TaskGroup() as tasks:
            for planned in batch:
                tasks.create_task(self._follow(planned))

    async def _enqueue(self, batch: Sequence[PlannedRun]) -> None:
        while batch:
            remaining: list[PlannedRun] = []
            for planned, result in zip(batch, await self._send(batch), strict=True):
                if isinstance(result, ServerUnavailable | QueueFull):
                    remaining.append(planned)
                elif isinstance(result, Exception):
                    raise result
                else:
                    self._run_ids[planned.key] = result.id
                    self._journal.note(
                        "enqueued",
                        key=planned.key,
                        run=result.id,
                        created=result.created,
                    )
            batch = remaining
            await asyncio.sleep(PAUSE_SECONDS if batch else 0)

    async def _send(self, batch: Sequence[PlannedRun]) -> Sequence[Any]:
        """Return a handle or an exception for each run."""
        try:
            if self._number % 3 == 2:
                return await runyard.enqueue_many(_bind(each).call(**each.parameters) for each in batch)
            (planned,) = batch
            if self._number % 3 == 1:
                return [await asyncio.to_thread(_bind(planned).enqueue_sync, **planned.parameters)]
            return [await _bind(planned).enqueue(**planned.parameters)]
        except PartlyEnqueued as error:
            return error.results
        except (ServerUnavailable, QueueFull) as error:
            return [error]

    async def _follow(self, planned: PlannedRun) -> None:
        """Cancel the run if this is planned, and wait for its end."""
        handle = runyard.handle(self._run_ids[planned.key], TASKS[planned.task])
        if planned.cancel_after is not None:
            await asyncio.sleep(planned.cancel_after)
            await self._cancel(planned, handle)
        while True:
            try:
                self._journal.note("result", key=planned.key, value=await handle.result(RESULT_SECONDS))
            except (ServerUnavailable, TimeoutError):
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            except (TaskFailed, TaskCancelled, TaskDeleted, NoResult) as error:
                crashed = isinstance(error, TaskFailed) and error.crashed
                self._journal.note(
                    "failure",
                    key=planned.key,
                    error=type(error).__name__,
                    crashed=crashed,
                )
            return

    async def _cancel(self, planned: PlannedRun, handle: Any) -> None:
        while True:
            self._journal.note("cancelling", key=planned.key)
            try:
                await handle.cancel()
            except ServerUnavailable:
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._journal.note("cancelled", key=planned.key)
            return


def _bind(planned: PlannedRun) -> Any:
    options: dict[str, Any] = {"delay": planned.delay} if planned.delay else {}
    return TASKS[planned.task].with_(key=planned.key, **options)


def main() -> None:
    number, started_at, journal, options = sys.argv[1:]
    enqueuer = Enqueuer(int(number), float(started_at), Path(journal), Options(**json.loads(options)))
    asyncio.run(enqueuer.run())


if __name__ == "__main__":
    main()

"""The app of the chaos test: `runyard-worker chaos.tasks:runyard`.

CHAOS_LEDGER is the path of the ledger; CHAOS_LEASE_SECONDS and CHAOS_TIMEOUT_SECONDS are settings of the tasks. Each
execution notes its begin, and its end with how it ended. An execution without an end died with its process.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from chaos.ledger import Ledger
from chaos.plan import HANGING_SECONDS, RETRIES
from runyard_client import Fail, Retry, Runyard, Snooze, current_run

runyard = Runyard()
OPTIONS: dict[str, Any] = {
    "retries": RETRIES,
    "retry_delays": [0.1, 0.2, 0.5],
    "timeout": float(os.environ.get("CHAOS_TIMEOUT_SECONDS", "12")),
    "lease_seconds": float(os.environ.get("CHAOS_LEASE_SECONDS", "6")),
}
RETRY_SECONDS = 0.2


class PlannedFailure(Exception):
    """The plan makes this attempt fail."""


class Execution:
    """One execution of a task. As a context manager it notes its begin and its end."""

    def __init__(self) -> None:
        self.id = uuid4().hex
        self.run = current_run()
        self._ledger = Ledger(Path(os.environ["CHAOS_LEDGER"]))

    def __enter__(self) -> "Execution":
        run = self.run
        self._ledger.note(
            "begin",
            execution=self.id,
            run=run.id,
            worker=os.environ["CHAOS_WORKER"],
            pid=os.getpid(),
            run_count=run.run_count,
            delivery=run.delivery,
        )
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        outcome = "returned" if error_type is None else error_type.__name__
        self._ledger.note("end", execution=self.id, outcome=outcome, reason=self.run.cancel_reason)
        self._ledger.close()

    def decide(self, number: int, behaviour: str, failures: int) -> Any:
        """Return the result of this attempt, or raise what the plan says."""
        if behaviour == "snooze" and self.run.delivery == 1:
            raise Snooze(RETRY_SECONDS)
        if behaviour == "fail":
            raise Fail("planned to fail")
        if behaviour == "refuse":
            return {
                "number": number,
                "execution": self.id,
                "not serialisable": object(),
            }
        if behaviour in ("raise", "retry") and self.run.run_count <= failures:
            raise (PlannedFailure(f"attempt {self.run.run_count}") if behaviour == "raise" else Retry(RETRY_SECONDS))
        return {"number": number, "execution": self.id}

    def seconds(self, behaviour: str, seconds: float) -> float:
        """Return how long this attempt works."""
        return HANGING_SECONDS if behaviour == "hang" and self.run.run_count == 1 else seconds


@runyard.task(key="chaos-loop", **OPTIONS)
async def on_loop(number: int, behaviour: str, seconds: float, failures: int) -> Any:
    with Execution() as execution:
        await asyncio.sleep(execution.seconds(behaviour, seconds))
        return execution.decide(number, behaviour, failures)


@runyard.task(key="chaos-thread", **OPTIONS)
def in_thread(number: int, behaviour: str, seconds: float, failures: int) -> Any:
    with Execution() as execution:
        current_run().sleep(execution.seconds(behaviour, seconds))
        current_run().check()
        return execution.decide(number, behaviour, failures)


@runyard.task(key="chaos-process", pool="process", **OPTIONS)
def in_process(number: int, behaviour: str, seconds: float, failures: int) -> Any:
    with Execution() as execution:
        end = time.monotonic() + execution.seconds(behaviour, seconds)
        while time.monotonic() < end:
            current_run().check()
            time.sleep(0.02)
        return execution.decide(number, behaviour, failures)

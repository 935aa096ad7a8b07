"""The tasks and the client of Celery."""

import os
import time
from importlib import import_module
from typing import Any

from effects import count, stamp

celery: Any = import_module("celery")
app = celery.Celery("benchmark", broker=os.environ["BENCHMARK_REDIS"], backend=os.environ["BENCHMARK_REDIS"])


def noop() -> None:
    count()


def stamped(sent_at: float) -> None:
    stamp(sent_at)


def ended_at() -> float:
    return time.time()


noop_task = app.task(name="noop", ignore_result=True)(noop)
stamped_task = app.task(name="stamped", ignore_result=True)(stamped)
ended_at_task = app.task(name="ended-at")(ended_at)


class Client:
    async def open(self) -> None:
        """Nothing: the app connects with its first task."""

    async def enqueue(self) -> None:
        noop_task.delay()

    async def enqueue_many(self, count: int) -> None:
        for _ in range(count):
            noop_task.delay()

    async def enqueue_stamp(self, sent_at: float) -> None:
        stamped_task.delay(sent_at)

    async def result(self) -> tuple[float, float]:
        return ended_at_task.delay().get(timeout=30), time.time()

    async def failure(self) -> float:
        raise NotImplementedError("only measured for runyard-client")

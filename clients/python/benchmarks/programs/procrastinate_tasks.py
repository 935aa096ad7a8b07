"""The tasks and the client of Procrastinate, which stores no results."""

import os
from importlib import import_module
from typing import Any

from effects import count, stamp

procrastinate: Any = import_module("procrastinate")
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCHMARK_POSTGRESQL"]))


async def noop() -> None:
    count()


async def stamped(sent_at: float) -> None:
    stamp(sent_at)


noop_task = app.task(name="noop")(noop)
stamped_task = app.task(name="stamped")(stamped)


class Client:
    async def open(self) -> None:
        await app.open_async()

    async def enqueue(self) -> None:
        await noop_task.defer_async()

    async def enqueue_many(self, count: int) -> None:
        await noop_task.batch_defer_async(*({} for _ in range(count)))

    async def enqueue_stamp(self, sent_at: float) -> None:
        await stamped_task.defer_async(sent_at=sent_at)

    async def result(self) -> tuple[float, float]:
        raise NotImplementedError("Procrastinate stores no results")

    async def failure(self) -> float:
        raise NotImplementedError("only measured for runyard-client")

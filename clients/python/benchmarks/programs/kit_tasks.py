"""The tasks and the client of `runyard-client`."""

import asyncio
import time

from effects import count, stamp

from runyard_client import Runyard, TaskFailed

runyard = Runyard()


@runyard.task(key="noop")
async def noop() -> None:
    count()


@runyard.task(key="stamped")
async def stamped(sent_at: float) -> None:
    stamp(sent_at)


@runyard.task(key="ended-at")
async def ended_at() -> float:
    return time.time()


@runyard.task(key="endless")
async def endless() -> None:
    stamp(time.time())
    await asyncio.Event().wait()


class Client:
    async def open(self) -> None:
        """Nothing: the app connects with its first request."""

    async def enqueue(self) -> None:
        await noop.enqueue()

    async def enqueue_many(self, count: int) -> None:
        await runyard.enqueue_many(noop.call() for _ in range(count))

    async def enqueue_stamp(self, sent_at: float) -> None:
        await stamped.enqueue(sent_at)

    async def result(self) -> tuple[float, float]:
        handle = await ended_at.enqueue()
        return await handle.result(30), time.time()

    async def failure(self) -> float:
        handle = await endless.enqueue()
        try:
            await handle.result(60)
        except TaskFailed:
            return time.time()
        raise RuntimeError("the task without end has ended")

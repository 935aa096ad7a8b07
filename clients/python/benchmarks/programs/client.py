"""`python client.py MODULE`: the client of a system. It reads commands as JSON lines, and prints their results."""

import asyncio
import json
import sys
import time
from importlib import import_module
from typing import Any, Protocol


class Client(Protocol):
    """The module's class `Client`. `enqueue_many` uses whatever the system offers for many tasks at a time."""

    async def open(self) -> None: ...
    async def enqueue(self) -> None: ...
    async def enqueue_many(self, count: int) -> None: ...
    async def enqueue_stamp(self, sent_at: float) -> None: ...
    async def result(self) -> tuple[float, float]:
        """Enqueue a task that returns the time of its end; return this time and that of the result's arrival."""
        ...

    async def failure(self) -> float:
        """Enqueue a task that does not end, and return the time when the client learned of its failure."""
        ...


async def enqueue_one_at_a_time(client: Client, count: int) -> dict[str, float]:
    began, cpu_began = time.perf_counter(), time.process_time()
    for _ in range(count):
        await client.enqueue()
    return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu_began}


async def enqueue_many(client: Client, count: int) -> dict[str, float]:
    began, cpu_began = time.perf_counter(), time.process_time()
    await client.enqueue_many(count)
    return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu_began}


async def enqueue_paced(client: Client, count: int, rate: float) -> dict[str, float]:
    began = time.perf_counter()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        await client.enqueue_stamp(time.time())
    return {"seconds": time.perf_counter() - began}


async def wait_for_results(client: Client, count: int) -> dict[str, list[float]]:
    times = [await client.result() for _ in range(count)]
    return {"delays": [received_at - ended_at for ended_at, received_at in times]}


async def wait_for_failure(client: Client) -> dict[str, float]:
    return {"failed_at": await client.failure()}


COMMANDS = {
    each.__name__: each
    for each in (enqueue_one_at_a_time, enqueue_many, enqueue_paced, wait_for_results, wait_for_failure)
}


async def main() -> None:
    client: Client = import_module(sys.argv[1]).Client()
    await client.open()
    print(json.dumps({"ready": True}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        command: dict[str, Any] = json.loads(line)
        print(json.dumps(await COMMANDS[command.pop("do")](client, **command)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())

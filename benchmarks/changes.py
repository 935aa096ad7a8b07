"""The kinds of workloads that change something: creations, changes of state, deliveries."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.client import Client, Request, Worker, named
from benchmarks.stage import Stage
from benchmarks.writes import RETRIED, Calls, Scratch
from db.enums import StateType

LIMITED_TAG = "limited"
LARGEST_CREATION = 1000
"""How many runs createTaskRuns takes."""


@dataclass
class Writing:
    """Single mutations, so many under way at a time. Its runs have a task key of their own and are deleted in the end."""

    name: str
    title: str
    at_once: int
    operations: int = 400

    @property
    def key(self) -> str:
        return f"benchmark-{self.name}"

    def is_possible(self, stage: Stage) -> bool:
        return True

    async def prepare(self, stage: Stage) -> None:
        raise NotImplementedError

    async def run(self, stage: Stage) -> int:
        await stage.client.send_all(self._requests, self.at_once)
        return sum(map(len, self._requests))

    async def clean(self, stage: Stage) -> None:
        await delete_runs(stage.client, self.key)

    def bare(self, scratch: Scratch, count: int) -> tuple[list[Calls], list[Calls]]:
        """What is to be there before, and what is measured: a transaction for each operation."""
        raise NotImplementedError

    _requests: Sequence[Sequence[Request]] = field(default=(), init=False)
    """Groups of requests, each group one after the other."""


@dataclass
class Creating(Writing):
    """createTaskRun, in the background."""

    type: StateType = StateType.PENDING

    def _new(self) -> dict[str, Any]:
        return {"taskKey": self.key, "tags": ["etl", "nightly"], "parameters": {"customer": 7, "region": "eu"}}

    async def prepare(self, stage: Stage) -> None:
        new = {**self._new(), "state": {"type": self.type}}
        wanted = named("CreateTaskRun", b'"created":true', input=new)
        self._requests = [[wanted]] * stage.count(self.operations)

    def bare(self, scratch: Scratch, count: int) -> tuple[list[Calls], list[Calls]]:
        new = {"task_key": self.key, "tags": ["etl", "nightly"], "parameters": '{"customer":7,"region":"eu"}'}
        return [], scratch.creations(count, new, self.type)[1]


@dataclass
class Moving(Writing):
    """setTaskRunState: RUNNING, then COMPLETED; in a flow run, with a limit on a tag and retries, so every rule is asked."""

    async def prepare(self, stage: Stage) -> None:
        new = {
            "taskKey": self.key,
            "flowRunId": stage.flow_run_id,
            "tags": ["etl", LIMITED_TAG],
            "empiricalPolicy": {"retries": 3, "retryDelaySeconds": [10.0]},
        }
        ids: list[str] = []
        while (left := stage.count(self.operations // 2) - len(ids)) > 0:
            made = await stage.client.ask("CreateTaskRuns", inputs=[new] * min(left, LARGEST_CREATION))
            ids += [each["taskRun"]["id"] for each in made]
        self._requests = [
            [
                named("SetTaskRunState", b'"status":"ACCEPT"', id=id, state={"type": type})
                for type in (StateType.RUNNING, StateType.COMPLETED)
            ]
            for id in ids
        ]

    def bare(self, scratch: Scratch, count: int) -> tuple[list[Calls], list[Calls]]:
        new = {
            "task_key": self.key,
            "flow_run_id": scratch.flow_run_id,
            "tags": ["etl", LIMITED_TAG],
            "policy": RETRIED,
        }
        ids, before = scratch.creations(count // 2, new, StateType.PENDING)
        types = (StateType.RUNNING, StateType.COMPLETED)
        return before, [move for id in ids for type in types for move in scratch.moves([id], type)]


@dataclass
class Delivering(Writing):
    """One run after the other: created, received over a WebSocket, acknowledged."""

    async def prepare(self, stage: Stage) -> None:
        self._request = named("CreateTaskRun", b'"created":true', input=scheduled(self.key))
        self._worker = await Worker.subscribe(stage.client, self.key, 1)

    async def run(self, stage: Stage) -> int:
        latencies: list[float] = []
        for _ in range(count := stage.count(self.operations)):
            began = time.perf_counter()
            await stage.client.send(self._request)
            leases = await receive_some(self._worker)
            latencies.append((time.perf_counter() - began) * 1000)
            await self._worker.acknowledge(leases)
        stage.note("W7 median from sending createTaskRun to its delivery, ms", sorted(latencies)[count // 2])
        return count

    async def clean(self, stage: Stage) -> None:
        await self._worker.close()
        await delete_runs(stage.client, self.key)

    def bare(self, scratch: Scratch, count: int) -> tuple[list[Calls], list[Calls]]:
        _, created = scratch.creations(count, {"task_key": self.key, "tags": []}, StateType.SCHEDULED)
        delivered = scratch.deliveries(self.key, count)
        # One operation is all three transactions, in the order of one run.
        each = [[created[n], delivered[2 * n], delivered[2 * n + 1]] for n in range(count)]
        return [], [transaction for three in each for transaction in three]


@dataclass
class Sustaining(Writing):
    """As many runs as go through: creators that do not wait for workers, which acknowledge whole events."""

    workers: int = 4

    async def prepare(self, stage: Stage) -> None:
        wanted = named("CreateTaskRun", b'"created":true', input=scheduled(self.key))
        self._requests = [[wanted]] * stage.count(self.operations)
        self._workers = [await Worker.subscribe(stage.client, self.key, 32) for _ in range(self.workers)]

    async def run(self, stage: Stage) -> int:
        wanted, done, left = len(self._requests), asyncio.Event(), [len(self._requests)]

        async def work(worker: Worker) -> None:
            while True:
                leases = await receive_some(worker)
                await worker.acknowledge(leases)
                left[0] -= len(leases)
                if left[0] <= 0:
                    done.set()

        began = time.perf_counter()
        working = [asyncio.create_task(work(worker)) for worker in self._workers]
        await stage.client.send_all(self._requests, self.at_once)
        await done.wait()
        stage.note("W7 runs a second, 8 creators and 4 workers", wanted / (time.perf_counter() - began))
        for each in working:
            each.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        return wanted

    async def clean(self, stage: Stage) -> None:
        for worker in self._workers:
            await worker.close()
        await delete_runs(stage.client, self.key)

    def bare(self, scratch: Scratch, count: int) -> tuple[list[Calls], list[Calls]]:
        return Delivering(self.name, self.title, 1).bare(scratch, count)


def scheduled(key: str) -> dict[str, Any]:
    return {"taskKey": key, "state": {"type": "SCHEDULED"}, "parameters": {"customer": 7, "region": "eu"}}


async def receive_some(worker: Worker) -> list[str]:
    """The leases of the next event that has any."""
    while not (leases := await worker.receive()):
        continue
    return leases


async def delete_runs(client: Client, task_key: str) -> None:
    while (await client.ask("DeleteTaskRuns", filter={"taskKey": {"any": [task_key]}}, limit=1000))["hasMore"]:
        continue

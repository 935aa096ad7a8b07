"""The kinds of workloads that write: creations, state transitions, deliveries."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.client import Client, Request, Worker, document_request
from benchmarks.stage import WorkloadContext
from benchmarks.writes import RETRIED, Calls, Scratch
from db.enums import StateType

LIMITED_TAG = "limited"
MAX_CREATE_BATCH = 1000
"""Maximum number of runs in one createTaskRuns request."""


@dataclass
class WriteWorkload:
    """Single mutations, `concurrency` of them in flight.

    Their runs have a separate task key and are deleted afterwards.
    """

    name: str
    title: str
    concurrency: int
    operations: int = 400

    @property
    def key(self) -> str:
        return f"benchmark-{self.name}"

    def is_possible(self, context: WorkloadContext) -> bool:
        return True

    async def prepare(self, context: WorkloadContext) -> None:
        raise NotImplementedError

    async def run(self, context: WorkloadContext) -> int:
        await context.client.send_all(self._requests, self.concurrency)
        return sum(map(len, self._requests))

    async def clean(self, context: WorkloadContext) -> None:
        await delete_runs(context.client, self.key)

    def bare(self, scratch: Scratch, count: int) -> tuple[list[Calls], list[Calls]]:
        """Return the transactions to execute beforehand, and those to measure: one for each operation."""
        raise NotImplementedError

    _requests: Sequence[Sequence[Request]] = field(default=(), init=False)
    """Groups of requests. The requests of a group are sent one after the other."""


@dataclass
class CreateWorkload(WriteWorkload):
    """createTaskRun for background runs."""

    type: StateType = StateType.PENDING

    def _new(self) -> dict[str, Any]:
        return {"taskKey": self.key, "tags": ["etl", "nightly"], "parameters": {"customer": 7, "region": "eu"}}

    async def prepare(self, context: WorkloadContext) -> None:
        new = {**self._new(), "state": {"type": self.type}}
        request = document_request("CreateTaskRun", b'"created":true', input=new)
        self._requests = [[request]] * context.count(self.operations)

    def bare(self, scratch: Scratch, count: int) -> tuple[list[Calls], list[Calls]]:
        new = {"task_key": self.key, "tags": ["etl", "nightly"], "parameters": '{"customer":7,"region":"eu"}'}
        return [], scratch.create_transactions(count, new, self.type)[1]


@dataclass
class TransitionWorkload(WriteWorkload):
    """setTaskRunState to RUNNING, then COMPLETED.

    The runs are in a flow run and have a limited tag and retries, and every rule is evaluated.
    """

    async def prepare(self, context: WorkloadContext) -> None:
        new = {
            "taskKey": self.key,
            "flowRunId": context.flow_run_id,
            "tags": ["etl", LIMITED_TAG],
            "retryPolicy": {"retries": 3, "retryDelaySeconds": [10.0]},
        }
        ids: list[str] = []
        while (remaining := context.count(self.operations // 2) - len(ids)) > 0:
            created = (await context.client.execute("CreateTaskRuns", inputs=[new] * min(remaining, MAX_CREATE_BATCH)))[
                "results"
            ]
            ids += [each["taskRun"]["id"] for each in created]
        self._requests = [
            [
                document_request("SetTaskRunState", b'"status":"ACCEPT"', id=id, state={"type": type})
                for type in (StateType.RUNNING, StateType.COMPLETED)
            ]
            for id in ids
        ]

    def bare(self, scratch: Scratch, count: int) -> tuple[list[Calls], list[Calls]]:
        new = {
            "task_key": self.key,
            "flow_run_id": scratch.flow_run_id,
            "tags": ["etl", LIMITED_TAG],
            "retry_policy": RETRIED,
        }
        ids, before = scratch.create_transactions(count // 2, new, StateType.PENDING)
        types = (StateType.RUNNING, StateType.COMPLETED)
        return before, [
            transaction for id in ids for type in types for transaction in scratch.transition_transactions([id], type)
        ]


@dataclass
class DeliveryWorkload(WriteWorkload):
    """Create a run, receive it over a WebSocket and acknowledge it, one run after the other."""

    async def prepare(self, context: WorkloadContext) -> None:
        self._request = document_request("CreateTaskRun", b'"created":true', input=scheduled_run_input(self.key))
        self._worker = await Worker.subscribe(context.client, self.key, 1)

    async def run(self, context: WorkloadContext) -> int:
        latencies: list[float] = []
        for _ in range(count := context.count(self.operations)):
            started_at = time.perf_counter()
            await context.client.send(self._request)
            leases = await receive_leases(self._worker)
            latencies.append((time.perf_counter() - started_at) * 1000)
            await self._worker.acknowledge(leases)
        context.note("W7 median from sending createTaskRun to its delivery, ms", sorted(latencies)[count // 2])
        return count

    async def clean(self, context: WorkloadContext) -> None:
        await self._worker.close()
        await delete_runs(context.client, self.key)

    def bare(self, scratch: Scratch, count: int) -> tuple[list[Calls], list[Calls]]:
        _, created = scratch.create_transactions(count, {"task_key": self.key, "tags": []}, StateType.SCHEDULED)
        delivered = scratch.delivery_transactions(self.key, count)
        # One operation consists of the three transactions of one run, in their order.
        per_run = [[created[n], delivered[2 * n], delivered[2 * n + 1]] for n in range(count)]
        return [], [transaction for transactions in per_run for transaction in transactions]


@dataclass
class ThroughputWorkload(WriteWorkload):
    """Maximum throughput. Creators do not wait for workers, and workers acknowledge whole events."""

    workers: int = 4

    async def prepare(self, context: WorkloadContext) -> None:
        request = document_request("CreateTaskRun", b'"created":true', input=scheduled_run_input(self.key))
        self._requests = [[request]] * context.count(self.operations)
        self._workers = [await Worker.subscribe(context.client, self.key, 32) for _ in range(self.workers)]

    async def run(self, context: WorkloadContext) -> int:
        total, done, remaining = len(self._requests), asyncio.Event(), [len(self._requests)]

        async def work(worker: Worker) -> None:
            while True:
                leases = await receive_leases(worker)
                await worker.acknowledge(leases)
                remaining[0] -= len(leases)
                if remaining[0] <= 0:
                    done.set()

        started_at = time.perf_counter()
        tasks = [asyncio.create_task(work(worker)) for worker in self._workers]
        await context.client.send_all(self._requests, self.concurrency)
        await done.wait()
        context.note("W7 runs a second, 8 creators and 4 workers", total / (time.perf_counter() - started_at))
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return total

    async def clean(self, context: WorkloadContext) -> None:
        for worker in self._workers:
            await worker.close()
        await delete_runs(context.client, self.key)

    def bare(self, scratch: Scratch, count: int) -> tuple[list[Calls], list[Calls]]:
        return DeliveryWorkload(self.name, self.title, 1).bare(scratch, count)


@dataclass
class BatchWorkload(WriteWorkload):
    """Create a batch of runs, claim and start all of them, and complete all of them: three requests."""

    batch_size: int = 100

    async def prepare(self, context: WorkloadContext) -> None:
        self._batches = context.count(self.operations)

    async def run(self, context: WorkloadContext) -> int:
        client, size = context.client, self.batch_size
        inputs = [scheduled_run_input(self.key)] * size
        started_at = time.perf_counter()
        for _ in range(self._batches):
            await client.execute("CreateTaskRuns", inputs=inputs)
            claimed = await client.execute("ClaimTaskRuns", taskKeys=[self.key], limit=size, start=True)
            reports = [
                {"taskRunId": each["taskRun"]["id"], "leaseId": each["leaseId"], "state": {"type": StateType.COMPLETED}}
                for each in claimed["deliveries"]
            ]
            completed = await client.execute("ExchangeTaskRuns", reports=reports, renew=[])
            statuses = [each["result"]["status"] for each in completed["results"]]
            assert statuses == ["ACCEPT"] * size, statuses
        context.note(f"{self.name} runs a second", self._batches * size / (time.perf_counter() - started_at))
        return self._batches

    def bare(self, scratch: Scratch, count: int) -> tuple[list[Calls], list[Calls]]:
        return [], [each for _ in range(count) for each in scratch.batch_transactions(self.key, self.batch_size)]


def scheduled_run_input(key: str) -> dict[str, Any]:
    return {"taskKey": key, "state": {"type": "SCHEDULED"}, "parameters": {"customer": 7, "region": "eu"}}


async def receive_leases(worker: Worker) -> list[str]:
    """Return the lease ids of the next event that has any."""
    while not (leases := await worker.receive()):
        continue
    return leases


async def delete_runs(client: Client, task_key: str) -> None:
    while (await client.execute("DeleteTaskRuns", filter={"taskKey": {"in": [task_key]}}, limit=1000))["hasMore"]:
        continue

"""What is asked of the server, one row a workload, and what the bare driver does to keep or find the same."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.client import Client, Request, Worker, named, request
from benchmarks.population import BEGIN, COMMON_TAG, DAYS, END, RARE_TAG, flow_name
from benchmarks.writes import RETRIED, Calls, Scratch
from db.instants import instant
from db.vocabulary import StateType

LIMITED_TAG = "limited"
MOST_SECONDS = 3.0
"""A round of a reading workload ends after this time, however few operations it has done."""


@dataclass
class Stage:
    """What the workloads of one database share."""

    client: Client
    flow_run_id: str
    """A flow run that is RUNNING."""
    task_run_id: str
    """A task run with a whole history, in a flow run."""
    fields: frozenset[str]
    """The fields that a query may begin with."""
    scale: float = 1.0
    """How much of each workload's operations a round has."""
    figures: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """What else the workloads found, by name; one value a round."""

    def count(self, operations: int) -> int:
        return max(2, int(operations * self.scale))

    def note(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)


class Workload(Protocol):
    """Something that is done many times."""

    name: str
    title: str

    def is_possible(self, stage: Stage) -> bool: ...

    async def prepare(self, stage: Stage) -> None:
        """What has to be there; not measured."""
        ...

    async def run(self, stage: Stage) -> int:
        """Do it; how many times it was done."""
        ...

    async def clean(self, stage: Stage) -> None:
        """Take away what it left; not measured."""
        ...


@dataclass
class Reading:
    """The same query again and again."""

    name: str
    title: str
    query: str
    variables: dict[str, Any] = field(default_factory=dict[str, Any])
    operations: int = 60
    needs: str = ""
    """The field that the schema has to have."""
    by_id: bool = False

    def variables_for(self, stage: Stage) -> dict[str, Any]:
        return {**self.variables, "id": stage.task_run_id} if self.by_id else self.variables

    def is_possible(self, stage: Stage) -> bool:
        return not self.needs or self.needs in stage.fields

    async def prepare(self, stage: Stage) -> None:
        self._request = request(self.query, **self.variables_for(stage))
        await stage.client.send(self._request)

    async def run(self, stage: Stage) -> int:
        began, wanted = time.perf_counter(), stage.count(self.operations)
        for number in range(wanted):
            await stage.client.send(self._request)
            if time.perf_counter() - began > MOST_SECONDS:
                return number + 1
        return wanted

    async def clean(self, stage: Stage) -> None:
        """Nothing was left."""


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
        return len(self._requests)

    async def clean(self, stage: Stage) -> None:
        await delete_runs(stage.client, self.key)

    def bare(self, scratch: Scratch, count: int) -> tuple[list[Calls], list[Calls]]:
        """What is to be there before, and what is measured: a transaction for each operation."""
        raise NotImplementedError

    _requests: list[Request] = field(default_factory=list[Request], init=False)


@dataclass
class Creating(Writing):
    """createTaskRun, in the background."""

    type: StateType = StateType.PENDING

    def _new(self) -> dict[str, Any]:
        return {"taskKey": self.key, "tags": ["etl", "nightly"], "parameters": {"customer": 7, "region": "eu"}}

    async def prepare(self, stage: Stage) -> None:
        new = {**self._new(), "state": {"type": self.type}}
        wanted = named("CreateTaskRun", b'"created":true', input=new)
        self._requests = [wanted] * stage.count(self.operations)

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
        count = stage.count(self.operations // 2)
        made = await stage.client.ask("CreateTaskRuns", inputs=[new] * count)
        ids = [each["taskRun"]["id"] for each in made]
        self._requests = [
            named("SetTaskRunState", b'"status":"ACCEPT"', id=id, state={"type": type})
            for type in (StateType.RUNNING, StateType.COMPLETED)
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
        return before, scratch.moves(ids, StateType.RUNNING) + scratch.moves(ids, StateType.COMPLETED)


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
        self._requests = [wanted] * stage.count(self.operations)
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


# --- the table ---

FILTER = {
    "state": {"type": {"any": ["COMPLETED"]}},
    "tags": {"any": [COMMON_TAG]},
    "flowRun": {"flow": {"name": {"any": [flow_name(3)]}}},
}
RARE = {"state": {"type": {"any": ["COMPLETED"]}}, "tags": {"any": [RARE_TAG]}}
PAGE_FIELDS = """id created updated name taskKey dynamicKey tags parameters runCount expectedStartTime startTime endTime
  totalRunTimeSeconds estimatedRunTimeSeconds stateType flowRunId taskVersion
  state { id type name timestamp message } flowRun { id name }"""
ALL_FIELDS = """id created updated name taskKey dynamicKey taskVersion cacheKey cacheExpiration
  empiricalPolicy { retries retryDelaySeconds retryJitterFactor } tags taskInputs parameters flowRunId stateId stateType
  stateName state { id type name timestamp message data } runCount flowRunRunCount expectedStartTime
  nextScheduledStartTime startTime endTime totalRunTimeSeconds estimatedRunTimeSeconds estimatedStartTimeDeltaSeconds
  flowRun { id name created runCount stateType flow { id name tags } }"""
PAGE = """query ($filter: TaskRunFilter, $sort: TaskRunSort) { taskRuns(filter: $filter, sort: $sort, first: 200) {
  pageInfo { hasNextPage endCursor } nodes { %s } } }"""
COUNT = "query ($filter: TaskRunFilter) { taskRunCount(filter: $filter) }"
ONE = "query ($id: ID!) { taskRun(id: $id) { %s } }"
HISTORY = """query ($start: DateTime!, $end: DateTime!, $seconds: Float!) {
  taskRunHistory(start: $start, end: $end, intervalSeconds: $seconds) {
    start end states { stateType stateName countRuns sumEstimatedRunTimeSeconds sumEstimatedLatenessSeconds } } }"""

LATEST, EXPECTED = "START_TIME_DESC", "EXPECTED_START_TIME_DESC"
READINGS = (
    Reading("P", "page of 200, 19 fields, state, flow run", PAGE % PAGE_FIELDS, {"filter": FILTER, "sort": LATEST}),
    Reading("P-expected", "the same by expected start", PAGE % PAGE_FIELDS, {"filter": FILTER, "sort": EXPECTED}),
    Reading("P-rare", "the same by a rare tag alone", PAGE % PAGE_FIELDS, {"filter": RARE, "sort": LATEST}),
    Reading("W3", "page of 200, all fields, flow", PAGE % ALL_FIELDS, {"filter": FILTER, "sort": LATEST}),
    Reading("W4", "count by the filter of P", COUNT, {"filter": FILTER}),
    Reading(
        "W5",
        "history of 7 days in 100 buckets",
        HISTORY,
        {"start": instant(BEGIN), "end": instant(END), "seconds": DAYS * 86_400 / 100},
        needs="taskRunHistory",
    ),
    Reading("W6", "one run by id, 4 fields", ONE % "id stateType stateName runCount", operations=1000, by_id=True),
    Reading("W6-all", "one run by id, all fields", ONE % ALL_FIELDS, operations=1000, by_id=True),
)
WRITINGS = (
    Creating("W1", "createTaskRun PENDING, one at a time", 1),
    Creating("W1-8", "createTaskRun PENDING, 8 at once", 8),
    Creating("W1-scheduled", "createTaskRun SCHEDULED, one at a time", 1, type=StateType.SCHEDULED),
    Creating("W1-scheduled-8", "createTaskRun SCHEDULED, 8 at once", 8, type=StateType.SCHEDULED),
    Moving("W2", "setTaskRunState, all rules, one at a time", 1),
    Moving("W2-8", "setTaskRunState, all rules, 8 at once", 8),
    Delivering("W7", "create, deliver, acknowledge, one at a time", 1, 200),
    Sustaining("W7-sustained", "the same, 8 creators and 4 workers", 8, 800),
)
WORKLOADS: tuple[Reading | Writing, ...] = (*WRITINGS, *READINGS)

"""Runs workloads in turn on one database, and takes from the operating system what each has cost."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from benchmarks.changes import LIMITED_TAG, Writing, delete_runs, receive_some, scheduled
from benchmarks.client import Client, Worker, request
from benchmarks.recording import Call, statements_of
from benchmarks.report import Samples, summary
from benchmarks.servers import PostgreSQLBackend, PostgreSQLProcesses, ServerProcess, serving
from benchmarks.stage import MOST_SECONDS, Reading, Stage
from benchmarks.writes import Scratch, scratch
from db.postgresql.driver import asyncpg
from db.records import ConcurrencyLimitRecord

COLD = request("{ taskRuns(first: 1) { nodes { id } } }").wire
FIELDS = "{ __schema { queryType { fields { name } } } }"
RUNNING_FLOW_RUN = """{ flowRuns(first: 1, filter: {state: {type: {any: [RUNNING]}}}) { nodes { id } } }"""
ENDED_TASK_RUN = """{ taskRuns(first: 1, filter: {state: {type: {any: [COMPLETED]}}, flowRunId: {isNull: false}}) {
  nodes { id } } }"""
IDLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be run, and how much of it."""

    rounds: int
    scale: float
    starts: int = 3
    idle_seconds: float = IDLE_SECONDS
    warms_up: bool = True


class Process(Protocol):
    def cpu_seconds(self) -> float: ...


class Bare:
    """The process of `benchmarks.bare`."""

    def __init__(self, database_url: str) -> None:
        command = [sys.executable, "-m", "benchmarks.bare", database_url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        backend = self._hear()["backend"]
        self.postgresql = PostgreSQLBackend(backend) if backend else None

    def do(self, **job: Any) -> float:
        """The CPU that the job took, in milliseconds."""
        assert self._process.stdin
        self._process.stdin.write(orjson.dumps(job) + b"\n")
        self._process.stdin.flush()
        return self._hear()["cpu_ms"]

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            sys.exit("The bare process failed; its reason is above.")
        return orjson.loads(line)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


@dataclass
class Bench:
    """Everything that the workloads of one database run on."""

    stage: Stage
    server: ServerProcess
    postgresql: PostgreSQLProcesses | None
    bare: Bare
    constant: ServerProcess
    scratch: Scratch
    statements: dict[str, list[Call]]

    async def warm_up(self, workloads: Sequence[Reading | Writing]) -> None:
        """A short round that does not count: what is asked for the first time is compiled, read from the disk, and so on."""
        stage = self.stage
        self.stage = replace(stage, scale=stage.scale / 5, figures={})
        for each in workloads:
            _show_progress(f"warming up: {each.name}")
            await self.measure(each, Samples(each.title))
        self.stage = stage

    async def measure(self, workload: Reading | Writing, samples: Samples) -> None:
        """One round of a workload, and of the same on the bare driver."""
        if isinstance(workload, Writing):
            await self._measure_writing(workload, samples)
        elif workload.by_id:
            await self._measure_beside_constant(workload, samples)
        else:
            await self._measure_reading(workload, samples)
        stop_at_faults(workload.name, self.stage.client)

    async def _measure_reading(self, workload: Reading, samples: Samples) -> None:
        """Turn by turn, so that both sides find the caches and the clock rate of the machine alike."""
        wanted, bare_ms = workload.request_for(self.stage), 0.0
        await self.stage.client.send(wanted)
        self.bare.do(reads=self.statements[workload.name])
        before, beside = self._spent(self.server), _spent_by(self.bare.postgresql)
        count, wall = 0, 0.0
        for took in self._turns(workload):
            count += 1
            await self.stage.client.send(wanted)
            wall += took()
            bare_ms += self.bare.do()
        cpu, database = (after - former for after, former in zip(self._spent(self.server), before, strict=True))
        beside = _spent_by(self.bare.postgresql) - beside
        self._add(samples, count, cpu, database - beside, wall, bare_ms, beside)

    async def _measure_beside_constant(self, workload: Reading, samples: Samples) -> None:
        """As `_measure_reading`, with a server beside it that answers a constant."""
        wanted, client = workload.request_for(self.stage), Client(self.constant.port)
        await self.stage.client.send(wanted)
        await client.send(wanted)
        before, (beside, _) = self._spent(self.server), self._spent(self.constant)
        count, wall = 0, 0.0
        for took in self._turns(workload):
            count += 1
            await self.stage.client.send(wanted)
            wall += took()
            await client.send(wanted)
        cpu, database = (after - former for after, former in zip(self._spent(self.server), before, strict=True))
        self._add(samples, count, cpu, database, wall, self._spent(self.constant)[0] - beside, 0.0)
        stop_at_faults("a constant", client)
        client.close()

    def _turns(self, workload: Reading) -> Generator[Callable[[], float]]:
        """As many turns as there are to be; each is told how to find out the milliseconds since it began."""
        first = time.perf_counter()
        for _ in range(self.stage.count(workload.operations)):
            began = time.perf_counter()
            if began - first > MOST_SECONDS:
                break
            yield lambda began=began: (time.perf_counter() - began) * 1000

    async def _measure_writing(self, workload: Writing, samples: Samples) -> None:
        """All at the server, then all by the bare driver."""
        await workload.prepare(self.stage)
        before, began = self._spent(self.server), time.perf_counter()
        count = await workload.run(self.stage)
        wall = (time.perf_counter() - began) * 1000
        cpu, database = (after - former for after, former in zip(self._spent(self.server), before, strict=True))
        await workload.clean(self.stage)
        wanted = self.stage.count(workload.operations)
        prepared, measured = workload.bare(self.scratch, wanted)
        self.bare.do(writes=prepared)
        beside = _spent_by(self.postgresql)
        bare_ms = self.bare.do(writes=measured)
        beside = _spent_by(self.postgresql) - beside
        await delete_runs(self.stage.client, workload.key)
        self._add(samples, count, cpu, database, wall, bare_ms * count / wanted, beside * count / wanted)

    def _spent(self, process: Process) -> tuple[float, float]:
        """The CPU of the process and of PostgreSQL up to now, in milliseconds."""
        return _spent_by(process), _spent_by(self.postgresql)

    def _add(
        self, samples: Samples, count: int, cpu: float, database: float, wall: float, bare: float, beside: float
    ) -> None:
        samples.cpu_ms.append(cpu / count)
        samples.wall_ms.append(wall / count)
        samples.bare_ms.append(bare / count)
        if self.postgresql:
            samples.postgresql_ms.append(database / count)
            samples.bare_postgresql_ms.append(beside / count)

    async def idle(self, seconds: float) -> None:
        """What the server does with one subscriber and nothing to do."""
        key = "benchmark-idle"
        worker = await Worker.subscribe(self.stage.client, key, 1)
        # A delivery shows that the subscription has begun.
        await self.stage.client.ask("CreateTaskRun", input=scheduled(key))
        await worker.acknowledge(await receive_some(worker))
        before = self.server.cpu_seconds()
        await asyncio.sleep(seconds)
        self.stage.note(
            "idle with one subscriber, CPU ms a second", (self.server.cpu_seconds() - before) * 1000 / seconds
        )
        await worker.close()
        await delete_runs(self.stage.client, key)
        stop_at_faults("idle", self.stage.client)


def _spent_by(process: Process | None) -> float:
    return process.cpu_seconds() * 1000 if process else 0.0


def stop_at_faults(name: str, client: Client) -> None:
    if client.faults:
        first = client.faults[0].decode(errors="replace")
        sys.exit(f"{name}: {len(client.faults)} answers were not what was expected; the first: {first}")


async def run_database(
    database_url: str, task_runs: int, workloads: Sequence[Reading | Writing], options: Options
) -> dict[str, Any]:
    """The report about one database, which has been seeded with so many task runs."""
    figures: dict[str, list[float]] = {}
    for _ in range(options.starts):
        with serving(["runyard", "serve"], COLD, RUNYARD_DATABASE_URL=database_url) as server:
            figures.setdefault("W9 from start to first answer, s", []).append(server.seconds_to_answer)
            figures.setdefault("W9 memory after the first answer, MiB", []).append(server.memory_mib())
    with ExitStack() as opened:
        server = opened.enter_context(serving(["runyard", "serve"], COLD, RUNYARD_DATABASE_URL=database_url))
        constant = opened.enter_context(serving(["benchmarks.constant"], COLD))
        stage = await _set_stage(Client(server.port), options, figures)
        possible = [each for each in workloads if each.is_possible(stage)]
        reads = {each.name: (each.query, each.variables_for(stage)) for each in possible if isinstance(each, Reading)}
        statements = await statements_of(database_url, reads)
        bare = Bare(database_url)
        opened.callback(bare.close)
        on_sqlite = database_url.startswith("sqlite")
        postgresql = None if on_sqlite else await _postgresql_processes(database_url)
        limit = await _limit(stage.client)
        made = opened.enter_context(scratch(stage.flow_run_id, limit, for_sqlite=on_sqlite))
        bench = Bench(stage, server, postgresql, bare, constant, made, statements)
        samples = {each.name: Samples(each.title) for each in possible}
        if options.warms_up:
            await bench.warm_up(possible)
        for number in range(options.rounds):
            for each in possible:
                _show_progress(f"{number + 1}/{options.rounds} {each.name}")
                await bench.measure(each, samples[each.name])
        _show_progress("")
        await bench.idle(options.idle_seconds)
        stage.note("W9 memory at the end, MiB", server.memory_mib())
        stage.client.close()
    return {
        "task_runs": task_runs,
        "workloads": {name: summary(each) for name, each in samples.items()},
        "figures": {name: sorted(values)[len(values) // 2] for name, values in figures.items()},
        "skipped": [each.name for each in workloads if each not in possible],
    }


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:30}\r", end="", file=sys.stderr, flush=True)


async def _set_stage(client: Client, options: Options, figures: dict[str, list[float]]) -> Stage:
    async def ask(query: str) -> Any:
        (value,) = orjson.loads(await client.send(request(query)))["data"].values()
        return value

    fields = frozenset(each["name"] for each in (await ask(FIELDS))["queryType"]["fields"])
    (flow_run,), (task_run,) = (await ask(RUNNING_FLOW_RUN))["nodes"], (await ask(ENDED_TASK_RUN))["nodes"]
    stop_at_faults("the beginning", client)
    return Stage(client, flow_run["id"], task_run["id"], fields, options.scale, figures)


async def _limit(client: Client) -> ConcurrencyLimitRecord:
    made = await client.ask("CreateConcurrencyLimit", tag=LIMITED_TAG, limit=1000)
    return ConcurrencyLimitRecord(**{name: made[name] for name in ("id", "created", "updated", "tag", "limit")})


async def _postgresql_processes(database_url: str) -> PostgreSQLProcesses:
    raw = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        return PostgreSQLProcesses(await raw.fetchval("SELECT pg_backend_pid()"))
    finally:
        await raw.close()

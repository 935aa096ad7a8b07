"""Runs workloads in turn on one database, and measures their CPU time with the operating system's counters."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from benchmarks.changes import LIMITED_TAG, WriteWorkload, delete_runs, receive_leases, scheduled_run_input
from benchmarks.client import Client, Worker, request
from benchmarks.recording import Call, record_statements
from benchmarks.report import Samples, summarize
from benchmarks.servers import PostgreSQLBackend, PostgreSQLProcesses, ServerProcess, run_server
from benchmarks.stage import MAX_SECONDS, ReadWorkload, WorkloadContext
from benchmarks.writes import Scratch, scratch
from db.postgresql.driver import asyncpg
from db.records import ConcurrencyLimitRecord

COLD = request("{ taskRuns(first: 1) { nodes { id } } }").wire
FIELDS = "{ __schema { queryType { fields { name } } } }"
RUNNING_FLOW_RUN = """{ flowRuns(first: 1, filter: {state: {type: {in: [RUNNING]}}}) { nodes { id } } }"""
ENDED_TASK_RUN = """{ taskRuns(first: 1, filter: {state: {type: {in: [COMPLETED]}}, flowRunId: {isNull: false}}) {
  nodes { id } } }"""
IDLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """What to run, and how much of it."""

    rounds: int
    scale: float
    starts: int = 3
    idle_seconds: float = IDLE_SECONDS
    warms_up: bool = True


class Process(Protocol):
    def cpu_seconds(self) -> float: ...


class BareDriverProcess:
    """The process of `benchmarks.bare`."""

    def __init__(self, database_url: str) -> None:
        command = [sys.executable, "-m", "benchmarks.bare", database_url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        backend = self._read_response()["backend"]
        self.postgresql = PostgreSQLBackend(backend) if backend else None

    def run_job(self, **job: Any) -> float:
        """Run the job and return its CPU time, in milliseconds."""
        assert self._process.stdin
        self._process.stdin.write(orjson.dumps(job) + b"\n")
        self._process.stdin.flush()
        return self._read_response()["cpu_ms"]

    def _read_response(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            sys.exit("The process of the bare driver failed; its error is printed above.")
        return orjson.loads(line)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


@dataclass
class Benchmark:
    """Everything that the workloads of one database use."""

    context: WorkloadContext
    server: ServerProcess
    postgresql: PostgreSQLProcesses | None
    bare: BareDriverProcess
    constant: ServerProcess
    scratch: Scratch
    statements: dict[str, list[Call]]

    async def warm_up(self, workloads: Sequence[ReadWorkload | WriteWorkload]) -> None:
        """Run a short round that is not counted, because first requests compile documents and read from disk."""
        context = self.context
        self.context = replace(context, scale=context.scale / 5, figures={})
        for each in workloads:
            _show_progress(f"warming up: {each.name}")
            await self.measure(each, Samples(each.title))
        self.context = context

    async def measure(self, workload: ReadWorkload | WriteWorkload, samples: Samples) -> None:
        """Measure one round of a workload, and of the same work on the bare driver."""
        if isinstance(workload, WriteWorkload):
            await self._measure_writing(workload, samples)
        elif workload.by_id:
            await self._measure_beside_constant(workload, samples)
        else:
            await self._measure_reading(workload, samples)
        exit_on_faults(workload.name, self.context.client)

    async def _measure_reading(self, workload: ReadWorkload, samples: Samples) -> None:
        """Alternate between both sides: the state of the caches and the clock rate of the machine are then the same."""
        request, bare_ms = workload.request_for(self.context), 0.0
        await self.context.client.send(request)
        self.bare.run_job(reads=self.statements[workload.name])
        before, bare_database = self._cpu_ms(self.server), _cpu_ms_of(self.bare.postgresql)
        count, wall = 0, 0.0
        for elapsed_ms in self._timed_iterations(workload):
            count += 1
            await self.context.client.send(request)
            wall += elapsed_ms()
            bare_ms += self.bare.run_job()
        cpu, database = (after - earlier for after, earlier in zip(self._cpu_ms(self.server), before, strict=True))
        bare_database = _cpu_ms_of(self.bare.postgresql) - bare_database
        self._add(samples, count, cpu, database - bare_database, wall, bare_ms, bare_database)

    async def _measure_beside_constant(self, workload: ReadWorkload, samples: Samples) -> None:
        """Measure as `_measure_reading` does, with a server that returns a constant as the other side."""
        request, client = workload.request_for(self.context), Client(self.constant.port)
        await self.context.client.send(request)
        await client.send(request)
        before, (constant_ms, _) = self._cpu_ms(self.server), self._cpu_ms(self.constant)
        count, wall = 0, 0.0
        for elapsed_ms in self._timed_iterations(workload):
            count += 1
            await self.context.client.send(request)
            wall += elapsed_ms()
            await client.send(request)
        cpu, database = (after - earlier for after, earlier in zip(self._cpu_ms(self.server), before, strict=True))
        self._add(samples, count, cpu, database, wall, self._cpu_ms(self.constant)[0] - constant_ms, 0.0)
        exit_on_faults("constant server", client)
        client.close()

    def _timed_iterations(self, workload: ReadWorkload) -> Generator[Callable[[], float]]:
        """Yield a function for each operation that returns the milliseconds since it began. Stops after MAX_SECONDS."""
        started_at = time.perf_counter()
        for _ in range(self.context.count(workload.operations)):
            began = time.perf_counter()
            if began - started_at > MAX_SECONDS:
                break
            yield lambda began=began: (time.perf_counter() - began) * 1000

    async def _measure_writing(self, workload: WriteWorkload, samples: Samples) -> None:
        """Execute all operations on the server, then all on the bare driver."""
        await workload.prepare(self.context)
        before, began = self._cpu_ms(self.server), time.perf_counter()
        count = await workload.run(self.context)
        wall = (time.perf_counter() - began) * 1000
        cpu, database = (after - earlier for after, earlier in zip(self._cpu_ms(self.server), before, strict=True))
        await workload.clean(self.context)
        operations = self.context.count(workload.operations)
        prepared, measured = workload.bare(self.scratch, operations)
        self.bare.run_job(writes=prepared)
        bare_database = _cpu_ms_of(self.postgresql)
        bare_ms = self.bare.run_job(writes=measured)
        bare_database = _cpu_ms_of(self.postgresql) - bare_database
        await delete_runs(self.context.client, workload.key)
        self._add(samples, count, cpu, database, wall, bare_ms * count / operations, bare_database * count / operations)

    def _cpu_ms(self, process: Process) -> tuple[float, float]:
        """Return the CPU time of the process and of PostgreSQL up to now, in milliseconds."""
        return _cpu_ms_of(process), _cpu_ms_of(self.postgresql)

    def _add(
        self, samples: Samples, count: int, cpu: float, database: float, wall: float, bare: float, bare_database: float
    ) -> None:
        samples.cpu_ms.append(cpu / count)
        samples.wall_ms.append(wall / count)
        samples.bare_ms.append(bare / count)
        if self.postgresql:
            samples.postgresql_ms.append(database / count)
            samples.bare_postgresql_ms.append(bare_database / count)

    async def idle(self, seconds: float) -> None:
        """Measure the CPU time of the server with one subscriber and no work."""
        key = "benchmark-idle"
        worker = await Worker.subscribe(self.context.client, key, 1)
        # A delivery shows that the subscription has started.
        await self.context.client.execute("CreateTaskRun", input=scheduled_run_input(key))
        await worker.acknowledge(await receive_leases(worker))
        before = self.server.cpu_seconds()
        await asyncio.sleep(seconds)
        self.context.note(
            "idle with one subscriber, CPU ms a second", (self.server.cpu_seconds() - before) * 1000 / seconds
        )
        await worker.close()
        await delete_runs(self.context.client, key)
        exit_on_faults("idle", self.context.client)


def _cpu_ms_of(process: Process | None) -> float:
    return process.cpu_seconds() * 1000 if process else 0.0


def exit_on_faults(name: str, client: Client) -> None:
    if client.faults:
        first = client.faults[0].decode(errors="replace")
        sys.exit(f"{name}: {len(client.faults)} unexpected responses; the first: {first}")


async def run_database(
    database_url: str, task_runs: int, workloads: Sequence[ReadWorkload | WriteWorkload], options: Options
) -> dict[str, Any]:
    """Run the workloads and return the report on one database, which has been seeded with `task_runs` task runs."""
    figures: dict[str, list[float]] = {}
    for _ in range(options.starts):
        with run_server(["runyard", "serve"], COLD, RUNYARD_DATABASE_URL=database_url) as server:
            figures.setdefault("W9 from start to first response, s", []).append(server.seconds_to_answer)
            figures.setdefault("W9 memory after the first response, MiB", []).append(server.memory_mib())
    with ExitStack() as stack:
        server = stack.enter_context(run_server(["runyard", "serve"], COLD, RUNYARD_DATABASE_URL=database_url))
        constant = stack.enter_context(run_server(["benchmarks.constant"], COLD))
        context = await _prepare_context(Client(server.port), options, figures)
        possible = [each for each in workloads if each.is_possible(context)]
        reads = {
            each.name: (each.query, each.variables_for(context)) for each in possible if isinstance(each, ReadWorkload)
        }
        statements = await record_statements(database_url, reads)
        bare = BareDriverProcess(database_url)
        stack.callback(bare.close)
        on_sqlite = database_url.startswith("sqlite")
        postgresql = None if on_sqlite else await _postgresql_processes(database_url)
        limit = await _create_limit(context.client)
        scratch_database = stack.enter_context(scratch(context.flow_run_id, limit, for_sqlite=on_sqlite))
        bench = Benchmark(context, server, postgresql, bare, constant, scratch_database, statements)
        samples = {each.name: Samples(each.title) for each in possible}
        if options.warms_up:
            await bench.warm_up(possible)
        for number in range(options.rounds):
            for each in possible:
                _show_progress(f"{number + 1}/{options.rounds} {each.name}")
                await bench.measure(each, samples[each.name])
        _note_delivery(context, samples)
        _show_progress("")
        await bench.idle(options.idle_seconds)
        context.note("W9 memory at the end, MiB", server.memory_mib())
        context.client.close()
    return {
        "task_runs": task_runs,
        "workloads": {name: summarize(each) for name, each in samples.items()},
        "figures": {name: sorted(values)[len(values) // 2] for name, values in figures.items()},
        "skipped": [each.name for each in workloads if each not in possible],
    }


def _note_delivery(context: WorkloadContext, samples: Mapping[str, Samples]) -> None:
    """Note the cost of delivery and acknowledgement: W7 without the creation, which W1-scheduled measures alone."""
    if "W7" not in samples or "W1-scheduled" not in samples:
        return
    delivered, created = samples["W7"], samples["W1-scheduled"]
    for figure, figures in (("server", "cpu_ms"), ("PostgreSQL", "postgresql_ms")):
        for whole, creation in zip(getattr(delivered, figures), getattr(created, figures), strict=True):
            context.note(f"W7 without W1-scheduled, {figure} CPU ms", whole - creation)


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:30}\r", end="", file=sys.stderr, flush=True)


async def _prepare_context(client: Client, options: Options, figures: dict[str, list[float]]) -> WorkloadContext:
    async def execute(query: str) -> Any:
        (value,) = orjson.loads(await client.send(request(query)))["data"].values()
        return value

    fields = frozenset(each["name"] for each in (await execute(FIELDS))["queryType"]["fields"])
    (flow_run,), (task_run,) = (await execute(RUNNING_FLOW_RUN))["nodes"], (await execute(ENDED_TASK_RUN))["nodes"]
    exit_on_faults("setup", client)
    return WorkloadContext(client, flow_run["id"], task_run["id"], fields, options.scale, figures)


async def _create_limit(client: Client) -> ConcurrencyLimitRecord:
    created = (await client.execute("SetConcurrencyLimit", tag=LIMITED_TAG, limit=1000))["concurrencyLimit"]
    names = ("id", "createdAt", "updatedAt", "tag", "limit")
    return ConcurrencyLimitRecord(*(created[name] for name in names))


async def _postgresql_processes(database_url: str) -> PostgreSQLProcesses:
    raw = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        return PostgreSQLProcesses(await raw.fetchval("SELECT pg_backend_pid()"))
    finally:
        await raw.close()

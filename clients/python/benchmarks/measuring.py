"""Measures one system: enqueue, burst, paced load, results, memory and import time."""

import json
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.processes import BenchmarkFailed, CpuTimes, ProcessTree, run_process, wait_until
from benchmarks.services import operations_of
from benchmarks.systems import System

WARM_UP_RUNS = 200
"""Runs of a burst that are executed before the measurement begins."""

RATE = 30.0
"""Tasks a second of the paced load."""

RUN_SECONDS = 120.0
"""Time limit for a burst, and for a request to the client."""

NOTHING = CpuTimes(0.0, 0.0)

Measures = dict[str, float | None]
"""Figures by their names, which end with their units. None: does not apply to this system."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured."""

    runs: int = 2000
    """Runs of a burst."""
    single_runs: int = 500
    """Runs that are enqueued one at a time."""
    paced_runs: int = 240
    results: int = 100


class Ledgers:
    """The files to which the tasks of a system append."""

    def __init__(self, folder: Path) -> None:
        self._counted = folder / "counted"
        self._stamped = folder / "stamped"
        self._counted.touch()
        self._stamped.touch()
        self.variables = {"BENCHMARK_COUNTED": str(self._counted), "BENCHMARK_STAMPED": str(self._stamped)}

    def count(self) -> int:
        """Return the number of executions of the task without effects."""
        return self._counted.stat().st_size

    def delays(self) -> list[float]:
        """Return the seconds from each enqueue to the first line of its task."""
        return [float(line) for line in self._stamped.read_text().splitlines()]


class ClientProgram:
    """The running client program of a system."""

    def __init__(self, system: System, variables: dict[str, str], log: Path) -> None:
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                system.client,
                env={**system.variables, **variables},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=log.parent,
            )
        self._log = log
        self.finish()

    def run(self, command: str, **arguments: float) -> Any:
        """Run one of the commands of `programs/client.py` and return its result."""
        self.begin(command, **arguments)
        return self.finish()

    def begin(self, command: str, **arguments: float) -> None:
        """Begin to run a command. `finish` returns its result."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": command, **arguments}).encode() + b"\n")
        self._process.stdin.flush()

    def finish(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkFailed(f"the client ended: {self._log.read_text()[-2000:]}")
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def run_client(system: System, variables: dict[str, str], folder: Path) -> Generator[ClientProgram]:
    client = ClientProgram(system, variables, folder / "client.log")
    try:
        yield client
    finally:
        client.close()


@contextmanager
def run_worker(system: System, ledgers: Ledgers, folder: Path) -> Generator[ProcessTree]:
    variables = {**system.variables, **ledgers.variables}
    with run_process(system.worker, variables, folder / "worker.log", is_ready=lambda: True) as processes:
        yield processes


def measure(system: System, folder: Path, options: Options) -> Measures:
    """Measure a system. Its tables are empty before.

    Raises:
        BenchmarkFailed: a process ended, or something took longer than RUN_SECONDS.
    """
    ledgers = Ledgers(folder)
    with run_client(system, ledgers.variables, folder) as client:
        measures = _measure_enqueuing(system, client, options)
        with run_worker(system, ledgers, folder) as worker:
            total = WARM_UP_RUNS + options.runs
            measures |= _measure_burst(system, worker, ledgers, total)
            measures |= _measure_paced(client, ledgers, options.paced_runs)
            if system.has_results:
                measures["result_p50_ms"] = 1000 * median(
                    client.run("wait_for_results", count=options.results)["delays"]
                )
            measures |= _memory_of(worker)
            if system.reports_killed_children:
                measures["child_killed_ms"] = 1000 * _kill_child(client, worker, ledgers)
    measures["import_ms"] = import_milliseconds(system)
    return measures


def _measure_enqueuing(system: System, client: ClientProgram, options: Options) -> Measures:
    """Enqueue the runs of the burst: some to warm up, some one at a time, the others at once."""
    first = 50
    client.run("enqueue_one_at_a_time", count=first)
    rest = max(1, WARM_UP_RUNS + options.runs - options.single_runs - first)
    return {
        **_measure_command(system, client, "enqueue_one_at_a_time", "enqueue", options.single_runs),
        **_measure_command(system, client, "enqueue_many", "enqueue_many", rest),
    }


def _measure_command(system: System, client: ClientProgram, command: str, name: str, count: int) -> Measures:
    before = _services_cpu(system)
    result = client.run(command, count=count)
    server, database = (after - earlier for after, earlier in zip(_services_cpu(system), before, strict=True))
    return {
        f"{name}_client_ms": 1000 * result["cpu_seconds"] / count,
        f"{name}_server_ms": _per_run(server, count, system.server),
        f"{name}_database_ms": _per_run(database, count, system.database),
        f"{name}_per_second": count / result["seconds"],
    }


def _services_cpu(system: System) -> tuple[CpuTimes, CpuTimes]:
    server = system.server.processes.cpu_times() if system.server else NOTHING
    return server, system.database.cpu_times() if system.database else NOTHING


def _per_run(times: CpuTimes, count: int, process: object) -> float | None:
    return 1000 * times.total / count if process is not None else None


def _measure_burst(system: System, worker: ProcessTree, ledgers: Ledgers, total: int) -> Measures:
    """Measure from the end of the warm-up to the last execution.

    The reports of the last runs are missing, but those of as many runs of the warm-up are included.
    """
    wait_until(lambda: ledgers.count() >= WARM_UP_RUNS, "the first runs", RUN_SECONDS)
    began, first, worker_before, before = (
        time.perf_counter(),
        ledgers.count(),
        worker.cpu_times(),
        _services_cpu(system),
    )
    wait_until(lambda: ledgers.count() >= total, f"the last of {total} runs", RUN_SECONDS)
    seconds, count = time.perf_counter() - began, ledgers.count() - first
    used, after = worker.cpu_times() - worker_before, _services_cpu(system)
    server, database = (late - early for late, early in zip(after, before, strict=True))
    return {
        "burst_per_second": count / seconds,
        "burst_parent_ms": 1000 * used.own / count,
        "burst_children_ms": 1000 * used.children / count,
        "burst_server_ms": _per_run(server, count, system.server),
        "burst_database_ms": _per_run(database, count, system.database),
    }


def _measure_paced(client: ClientProgram, ledgers: Ledgers, count: int) -> Measures:
    client.run("enqueue_paced", count=count, rate=RATE)
    wait_until(lambda: len(ledgers.delays()) >= count, f"{count} paced runs", RUN_SECONDS, interval=0.05)
    percentiles = quantiles(ledgers.delays(), n=20, method="inclusive")
    return {"paced_p50_ms": 1000 * percentiles[9], "paced_p95_ms": 1000 * percentiles[18]}


def _kill_child(client: ClientProgram, worker: ProcessTree, ledgers: Ledgers) -> float:
    """Kill the children of a worker that runs a task, and return the seconds until the client learns of the failure."""
    stamps = len(ledgers.delays())
    client.begin("wait_for_failure")
    wait_until(lambda: len(ledgers.delays()) > stamps, "the run whose process is killed", RUN_SECONDS)
    killed_at = time.time()
    worker.kill_children()
    return client.finish()["failed_at"] - killed_at


def _memory_of(worker: ProcessTree) -> Measures:
    parent, children = worker.memory_mib()
    return {"parent_mib": parent, "child_mib": max(children) if children else None}


def import_milliseconds(system: System) -> float:
    """Return the time of the import in a new process, the median of five."""
    program = f"import time; began = time.perf_counter(); {system.imports}; print(time.perf_counter() - began)"

    def run() -> float:
        done = subprocess.run(
            [system.python, "-c", program], env=dict(system.variables), check=True, capture_output=True, text=True
        )
        return float(done.stdout)

    run()
    return 1000 * median(run() for _ in range(5))


class IdleWorker:
    """A worker without work on a server of its own, which is watched while other systems are measured."""

    SETTLE_SECONDS = 5.0

    def __init__(self, system: System, worker: ProcessTree) -> None:
        assert system.server is not None
        self._server = system.server
        self._worker = worker
        time.sleep(self.SETTLE_SECONDS)
        self._began, self._operations = time.perf_counter(), operations_of(self._server)
        self._cpu = worker.cpu_times()

    def measure(self, seconds: float) -> Measures:
        """Return the figures of the time since the start, which is at least `seconds`."""
        time.sleep(max(0.0, self._began + seconds - time.perf_counter()))
        elapsed = time.perf_counter() - self._began
        used, operations = self._worker.cpu_times() - self._cpu, operations_of(self._server) - self._operations
        parent, children = self._worker.memory_mib()
        return {
            "idle_seconds": elapsed,
            "idle_requests_per_minute": 60 * operations / elapsed,
            "idle_cpu_percent": 100 * used.total / elapsed,
            "idle_parent_mib": parent,
            "idle_child_mib": max(children) if children else None,
        }

"""A chaos test: programs enqueue runs and workers execute them while servers, workers and connections fail."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from chaos.databases import run_database
from chaos.evidence import Evidence
from chaos.faults import ChaosServer, FaultInjector
from chaos.ledger import Ledger
from chaos.plan import Options, plan_faults, plan_runs
from chaos.processes import EnqueuerProcess, ManagedProcess, WorkerProcess, processes_of_workers
from faulty_proxy import faulty_proxy
from runyard_client.testing.server import RunyardServer

REPOSITORY = Path(__file__).resolve().parents[4]

SERVER_SETTINGS = {
    "RUNYARD_ACKNOWLEDGE_SECONDS": "5",
    "RUNYARD_SWEEP_SECONDS": "0.5",
    "RUNYARD_POLL_SECONDS": "0.5",
    "RUNYARD_HEARTBEAT_SECONDS": "1",
    "RUNYARD_DATABASE_TIMEOUT_SECONDS": "5",
    "RUNYARD_STOP_SECONDS": "3",
}
"""Short intervals, for fast detection of faults."""

LEFT_SECONDS = 10.0
"""Time limit for the end of all children, after their workers have ended."""


@dataclass(slots=True)
class ChaosResult:
    """The result of a chaos test."""

    evidence: Evidence
    injected: Counter[str]
    seconds: float
    """From the start until the end of the last run."""


async def run_chaos(options: Options, folder: Path) -> ChaosResult:
    """Run a chaos test with its files in an empty folder, and return the evidence."""
    ledger = folder / "effects.jsonl"
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(run_database(options, folder))
        servers = [
            await stack.enter_async_context(_run_server(f"server-{number}", folder, database.url))
            for number in range(options.servers)
        ]
        started_at = time.time() + 2
        workers = [
            WorkerProcess(number, server.proxy.url, server.name, ledger, options, folder)
            for number, server in _assign(options.workers, servers)
        ]
        enqueuers = [
            EnqueuerProcess(number, server.proxy.url, options, started_at, folder)
            for number, server in _assign(options.enqueuers, servers)
        ]
        injector = FaultInjector(options, servers, workers, enqueuers, database)
        async with _run_processes([*workers, *enqueuers]):
            began = time.monotonic()
            await _inject_faults(injector)
            deadline = time.monotonic() + options.settle_seconds
            await asyncio.gather(*(each.finish(deadline) for each in enqueuers))
            seconds = time.monotonic() - began
            evidence = Evidence(options, {each.key: each for each in plan_runs(options)})
            await asyncio.gather(*(injector.drain(worker) for worker in workers if worker.is_running))
            evidence.left_processes = await _wait_for_children(ledger)
        await evidence.read_tables(database.url)
    evidence.servers = {name: worker.server for worker in workers for name in worker.names}
    evidence.faults = injector.faults
    log = Ledger(folder / "faults.jsonl")
    for fault in evidence.faults:
        log.note("fault", **asdict(fault))
    evidence.unexpected_exits = [exit for each in (*workers, *enqueuers) for exit in each.unexpected_exits]
    evidence.read_effects(ledger)
    for enqueuer in enqueuers:
        evidence.read_journal(enqueuer.journal)
    return ChaosResult(evidence, injector.injected, seconds)


def _assign(count: int, servers: Sequence[ChaosServer]) -> list[tuple[int, ChaosServer]]:
    """Return numbers with their servers, in turn."""
    return [(number, servers[number % len(servers)]) for number in range(count)]


@asynccontextmanager
async def _run_server(name: str, folder: Path, database_url: str) -> AsyncGenerator[ChaosServer]:
    (folder / name).mkdir()
    process = RunyardServer(folder / name, database_url, PYTHONPATH=str(REPOSITORY), **SERVER_SETTINGS)
    await asyncio.to_thread(process.start)
    try:
        async with faulty_proxy(process.url) as proxy:
            yield ChaosServer(name, process, proxy)
    finally:
        await asyncio.to_thread(process.kill)


@asynccontextmanager
async def _run_processes(
    processes: Sequence[WorkerProcess | EnqueuerProcess],
) -> AsyncGenerator[None]:
    """Run the processes while the block runs, and kill them afterwards."""
    try:
        await asyncio.gather(*(each.start() for each in processes))
        yield
    finally:
        await asyncio.gather(*(_kill(each) for each in processes))


async def _kill(process: ManagedProcess) -> None:
    if isinstance(process, WorkerProcess):
        await process.kill_with_children()
    else:
        await process.kill()


async def _inject_faults(injector: FaultInjector) -> None:
    """Inject all faults, each at its time. Return when everything that they affected works again."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for fault in plan_faults(injector.options):
            await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
            tasks.create_task(injector.inject(fault))
        await asyncio.sleep(max(0.0, began + injector.options.seconds - time.monotonic()))


async def _wait_for_children(ledger: Path) -> list[str]:
    """Wait until all processes of the workers have ended, and return those that have not."""
    deadline = time.monotonic() + LEFT_SECONDS
    # Processes whose parent has died cannot be waited for.
    while (left := await asyncio.to_thread(processes_of_workers, ledger)) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    return left

"""A chaos test: clients create runs and workers execute them while servers, workers and the database fail."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from db import migrations
from tests.chaos.evidence import Absence, ClockStep, Evidence, Journal
from tests.chaos.faults import FaultInjector
from tests.chaos.plan import (
    LIMIT,
    LIMITED_TAG,
    Batch,
    NewRun,
    Options,
    plan_batches,
    plan_faults,
    plan_worker_kinds,
)
from tests.chaos.postgresql import run_chaos_postgresql
from tests.chaos.processes import ChaosServer, WorkerProcess, run_processes
from tests.chaos.requests import OutcomeUnknown, ReplicaClient
from tests.chaos.tables import StateObserver, read_tables, wait_for_terminal_runs
from tests.chaos.waiters import Waiters, run_waiters

CREATOR_COUNT = 4
WAITING_CREATORS = 2
"""Number of creators whose runs clients wait for."""

REPORT_SECONDS = 30.0
"""Time limit in seconds for reporting all ends to waiting clients, after the last run has ended."""


@dataclass(slots=True)
class ChaosResult:
    """The result of a chaos test."""

    evidence: Evidence
    faults: Counter[str]
    """The number of injected faults of each kind."""
    seconds: float
    """Seconds from the start until the last run ended."""
    deadlocks: int


async def run_chaos(options: Options, folder: Path) -> ChaosResult:
    """Run a chaos test with its files in an empty folder, and return the evidence."""
    sqlite_path = folder / "runyard.db"
    async with AsyncExitStack() as stack:
        postgresql = None
        if options.database == "postgresql":
            postgresql = await stack.enter_async_context(
                run_chaos_postgresql(pooler=options.pooler, standby=options.failovers > 0)
            )
            await asyncio.to_thread(migrations.upgrade_postgresql, postgresql.url)
            database_url, variables = postgresql.url, postgresql.server_variables()
        else:
            await asyncio.to_thread(migrations.upgrade_sqlite, sqlite_path)
            database_url = f"sqlite+aiosqlite:///{sqlite_path}"
            variables = {"RUNYARD_DATABASE_URL": database_url}
        servers = [ChaosServer(f"server-{n}", variables, folder) for n in range(options.replicas)]
        urls = [server.url for server in servers]
        workers = [
            WorkerProcess(n, kind, options.seed * 1000 + n * 100, options.lease_seconds, urls, folder)
            for n, kind in enumerate(plan_worker_kinds(options))
        ]
        injector = FaultInjector(options, servers, workers, postgresql, sqlite_path)
        observer = StateObserver(database_url)
        async with (
            observer.run(),
            run_processes(*servers),
            run_processes(*workers),
            run_waiters(urls, options.seed + 4, folder / "waiters.jsonl") as waiters,
        ):
            started_at = time.monotonic()
            await _create_and_inject(injector, folder / "creators.jsonl", waiters)
            await wait_for_terminal_runs(database_url, options.settle_seconds)
            seconds = time.monotonic() - started_at
            await waiters.finish(REPORT_SECONDS)
        planned = [run.input["dynamicKey"] for batch in plan_batches(options) for run in batch.runs]
        evidence = Evidence(planned, options.lease_seconds, {LIMITED_TAG: LIMIT})
        await read_tables(database_url, evidence, observer.appeared)
        deadlocks = postgresql.deadlocks() if postgresql else 0
    evidence.servers = [server.name for server in servers]
    evidence.absences = injector.absences
    evidence.clock_steps = injector.clock_steps
    log = Journal(folder / "faults.jsonl")
    for each in sorted([*injector.absences, *injector.clock_steps], key=_start_of):
        log.note(type(each).__name__, **asdict(each))
    clients = [folder / "creators.jsonl", folder / "waiters.jsonl"]
    evidence.read_journals([*clients, *(path for worker in workers for path in worker.journals)])
    evidence.faults += [fault for server in servers for fault in server.faults()]
    return ChaosResult(evidence, injector.injected, seconds, deadlocks)


def _start_of(fault: Absence | ClockStep) -> float:
    return fault.start if isinstance(fault, Absence) else fault.at


async def _create_and_inject(injector: FaultInjector, journal: Path, waiters: Waiters) -> None:
    """Create all runs and inject all faults, each at its time. Return when all processes have recovered.

    Clients begin to wait for the ends of some of the runs.
    """
    options = injector.options
    started_at = time.monotonic()
    client = ReplicaClient(
        [server.url for server in injector.servers],
        Random(options.seed + 2),  # noqa: S311 - a seed must reproduce the test
        Journal(journal),
    )
    creator = Creator(client, Journal(journal), started_at)
    await creator.create_limit()
    batches = plan_batches(options)
    async with asyncio.timeout(options.seconds + options.settle_seconds), asyncio.TaskGroup() as tasks:
        for number in range(CREATOR_COUNT):
            created = creator.create(batches[number::CREATOR_COUNT], waiters if number < WAITING_CREATORS else None)
            tasks.create_task(created)
        for fault in plan_faults(options):
            await asyncio.sleep(max(0.0, started_at + fault.at - time.monotonic()))
            tasks.create_task(injector.inject(fault))
    injector.end_clock_steps()
    await client.close()


@dataclass(slots=True)
class Creator:
    """A client that creates runs and retries with the same `dynamicKey` until it gets a response."""

    client: ReplicaClient
    journal: Journal
    started_at: float

    async def create_limit(self) -> None:
        await self.client.execute("SetConcurrencyLimit", tag=LIMITED_TAG, limit=LIMIT)

    async def create(self, batches: Sequence[Batch], waiters: Waiters | None) -> None:
        for batch in batches:
            await asyncio.sleep(max(0.0, self.started_at + batch.at - time.monotonic()))
            inputs = [_create_input(run) for run in batch.runs]
            while True:
                try:
                    payloads = await self._send(inputs)
                except OutcomeUnknown:
                    await asyncio.sleep(0.1)
                    continue
                break
            for input, payload in zip(inputs, payloads, strict=True):
                self.journal.note(
                    "creation",
                    dynamic_key=input["dynamicKey"],
                    run=payload["taskRun"]["id"],
                    created=payload["created"],
                )
            if waiters is not None:
                waiters.start([payload["taskRun"]["id"] for payload in payloads])

    async def _send(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if len(inputs) == 1:
            return [await self.client.execute("CreateTaskRun", input=inputs[0])]
        return (await self.client.execute("CreateTaskRuns", inputs=inputs))["results"]


def _create_input(run: NewRun) -> dict[str, Any]:
    if not run.due_in_seconds:
        return run.input
    due_at = (datetime.now(UTC) + timedelta(seconds=run.due_in_seconds)).isoformat()
    return run.input | {"state": {"type": "SCHEDULED", "details": {"scheduledTime": due_at}}}

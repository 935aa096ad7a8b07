"""A chaos test: clients create runs and workers execute them while servers, workers and the database fail."""

import asyncio
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import orjson

from db import migrations
from tests.chaos.checker import TERMINAL
from tests.chaos.evidence import Evidence, Journal, Run, State
from tests.chaos.plan import LIMIT, LIMITED_TAG, Batch, Fault, NewRun, Options, plan_batches, plan_faults
from tests.chaos.processes import (
    ChaosPostgreSQL,
    ChaosServer,
    WorkerProcess,
    run_chaos_postgresql,
    run_processes,
)
from tests.chaos.requests import OutcomeUnknown, ReplicaClient

CREATOR_COUNT = 4


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
    with run_chaos_postgresql() if options.database == "postgresql" else nullcontext() as postgresql:
        if postgresql is None:
            path = folder / "runyard.db"
            await asyncio.to_thread(migrations.upgrade_sqlite, path)
            database_url = f"sqlite+aiosqlite:///{path}"
        else:
            await asyncio.to_thread(migrations.upgrade_postgresql, postgresql.url)
            database_url = postgresql.url
        servers = [ChaosServer(database_url, folder / f"server-{n}.log") for n in range(options.replicas)]
        urls = [server.url for server in servers]
        workers = [
            WorkerProcess(n, options.seed * 1000 + n * 100, options.lease_seconds, urls, folder)
            for n in range(options.workers)
        ]
        async with run_processes(*servers), run_processes(*workers):
            test = ChaosTest(options, servers, workers, postgresql)
            started_at = time.monotonic()
            await test.run(folder / "creators.jsonl")
            await _wait_for_terminal_runs(database_url, options.settle_seconds)
            seconds = time.monotonic() - started_at
        evidence = await _read_evidence(options, database_url)
        deadlocks = postgresql.deadlocks() if postgresql else 0
    evidence.read_journals([folder / "creators.jsonl", *(path for worker in workers for path in worker.journals)])
    evidence.faults += [fault for server in servers for fault in server.faults()]
    return ChaosResult(evidence, test.injected, seconds, deadlocks)


@dataclass(slots=True)
class ChaosTest:
    """The processes of a chaos test and the faults injected so far."""

    options: Options
    servers: Sequence[ChaosServer]
    workers: Sequence[WorkerProcess]
    postgresql: ChaosPostgreSQL | None
    injected: Counter[str] = field(default_factory=Counter[str])
    database_is_down: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, journal: Path) -> None:
        """Create all runs and inject all faults, each at its time. Return when all processes have recovered."""
        started_at = time.monotonic()
        client = ReplicaClient(
            [server.url for server in self.servers],
            Random(self.options.seed + 2),  # noqa: S311 - a seed must reproduce the test
            Journal(journal),
        )
        creator = Creator(client, Journal(journal), started_at)
        await creator.create_limit()
        batches = plan_batches(self.options)
        limit = self.options.seconds + self.options.settle_seconds
        async with asyncio.timeout(limit), asyncio.TaskGroup() as tasks:
            for number in range(CREATOR_COUNT):
                tasks.create_task(creator.create(batches[number::CREATOR_COUNT]))
            for fault in plan_faults(self.options):
                await asyncio.sleep(max(0.0, started_at + fault.at - time.monotonic()))
                tasks.create_task(self._inject(fault))
        await client.close()

    async def _inject(self, fault: Fault) -> None:
        """Inject the fault, unless its target is already affected by another one."""
        inject: Callable[[float], Awaitable[bool]] = {
            "worker killed": self._kill_worker,
            "worker paused past its lease": self._pause_worker,
            "sockets dropped": self._drop_sockets,
            "server killed": self._kill_server,
            "server stopped": self._stop_server,
            "database connections terminated": self._terminate_database_connections,
            "PostgreSQL crashed": self._crash_postgresql,
        }[fault.kind]
        if await inject(fault.chance):
            self.injected[fault.kind] += 1

    async def _kill_worker(self, chance: float) -> bool:
        worker = self.workers[int(chance * len(self.workers))]
        if worker.busy.locked():
            return False
        async with worker.busy:
            await worker.kill()
            await worker.start()
        return True

    async def _pause_worker(self, chance: float) -> bool:
        worker = self.workers[int(chance * len(self.workers))]
        if worker.busy.locked():
            return False
        async with worker.busy:
            worker.send(signal.SIGSTOP)
            await asyncio.sleep(self.options.lease_seconds * (1.2 + chance))
            worker.send(signal.SIGCONT)
        return True

    async def _drop_sockets(self, chance: float) -> bool:
        for worker in self.workers:
            # A worker that has just started has no signal handler yet and would exit.
            if not worker.busy.locked() and worker.has_received_runs():
                worker.send(signal.SIGUSR1)
        return True

    async def _kill_server(self, chance: float) -> bool:
        return await self._stop_server_with(chance, signal.SIGKILL)

    async def _stop_server(self, chance: float) -> bool:
        return await self._stop_server_with(chance, signal.SIGTERM)

    async def _stop_server_with(self, chance: float, number: signal.Signals) -> bool:
        server = self.servers[int(chance * len(self.servers))]
        if server.busy.locked():
            return False
        async with server.busy:
            await server.stop(number)
            await asyncio.sleep(chance / 2)
            await server.start()
        return True

    async def _terminate_database_connections(self, chance: float) -> bool:
        assert self.postgresql is not None
        if self.database_is_down.locked():
            return False
        async with self.database_is_down:
            await self.postgresql.terminate_connections()
        return True

    async def _crash_postgresql(self, chance: float) -> bool:
        assert self.postgresql is not None
        if self.database_is_down.locked():
            return False
        async with self.database_is_down:
            await asyncio.to_thread(self.postgresql.crash_and_restart)
        return True


@dataclass(slots=True)
class Creator:
    """A client that creates runs and retries with the same `dynamicKey` until it gets a response."""

    client: ReplicaClient
    journal: Journal
    started_at: float

    async def create_limit(self) -> None:
        await self.client.execute("SetConcurrencyLimit", tag=LIMITED_TAG, limit=LIMIT)

    async def create(self, batches: Sequence[Batch]) -> None:
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

    async def _send(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if len(inputs) == 1:
            return [await self.client.execute("CreateTaskRun", input=inputs[0])]
        return (await self.client.execute("CreateTaskRuns", inputs=inputs))["results"]


def _create_input(run: NewRun) -> dict[str, Any]:
    if not run.due_in_seconds:
        return run.input
    due_at = (datetime.now(UTC) + timedelta(seconds=run.due_in_seconds)).isoformat()
    return run.input | {"state": {"type": "SCHEDULED", "details": {"scheduledTime": due_at}}}


async def _wait_for_terminal_runs(database_url: str, timeout_seconds: float) -> None:
    """Wait until every run is in a terminal state, for at most `timeout_seconds`."""
    deadline = time.monotonic() + timeout_seconds
    terminal = ", ".join(f"'{type}'" for type in sorted(TERMINAL))
    unfinished = f"SELECT count(*) FROM task_run WHERE state_type NOT IN ({terminal})"  # noqa: S608
    while time.monotonic() < deadline:
        ((count,),) = await _rows(database_url, unfinished)
        if count == 0:
            return
        await asyncio.sleep(0.25)


async def _rows(database_url: str, statement: str) -> list[tuple[Any, ...]]:
    if database_url.startswith("sqlite"):
        with closing(sqlite3.connect(database_url.partition(":///")[2])) as database:
            return database.execute(statement).fetchall()
    connection = await asyncpg.connect(database_url)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def _read_evidence(options: Options, database_url: str) -> Evidence:
    """Read the evidence in the database tables."""
    planned = [run.input["dynamicKey"] for batch in plan_batches(options) for run in batch.runs]
    evidence = Evidence(planned, options.lease_seconds, {LIMITED_TAG: LIMIT})
    states: dict[str, list[State]] = {}
    for id, type, name, at, transition, details in await _rows(
        database_url,
        "SELECT run_id, type, name, timestamp, transition_id, details FROM task_run_state ORDER BY run_id, timestamp, id",
    ):
        scheduled_at = orjson.loads(details).get("scheduled_time")
        states.setdefault(str(id), []).append(
            State(type, name, _seconds(at), transition and str(transition), scheduled_at and _seconds(scheduled_at))
        )
    for id, key, retries, tags in await _rows(database_url, "SELECT id, dynamic_key, retries, tags FROM task_run"):
        evidence.runs.append(Run(str(id), key, retries, tuple(orjson.loads(tags)), tuple(states[str(id)])))
    evidence.queued = [str(id) for (id,) in await _rows(database_url, "SELECT task_run_id FROM queue_entry")]
    evidence.slots = [str(id) for (id,) in await _rows(database_url, "SELECT task_run_id FROM concurrency_slot")]
    return evidence


def _seconds(timestamp: str | datetime) -> float:
    """Return a timestamp in seconds since the epoch."""
    parsed = datetime.fromisoformat(timestamp) if isinstance(timestamp, str) else timestamp
    return parsed.timestamp()

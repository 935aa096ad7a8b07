"""A run of chaos: programs create runs and workers carry them out while servers, workers and the database fail; then the
evidence is gathered."""

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
    PostgreSQLUnderFire,
    ServerUnderFire,
    WorkerUnderFire,
    postgresql_under_fire,
    started,
)
from tests.chaos.requests import Asker, Unanswered

CREATORS = 4


@dataclass(slots=True)
class Outcome:
    """What a run of chaos has brought."""

    evidence: Evidence
    faults: Counter[str]
    """How many of each kind were injected."""
    seconds: float
    """From the beginning to the end of the last run."""
    deadlocks: int


async def unleash(options: Options, folder: Path) -> Outcome:
    """Let it happen, in an empty folder, and tell what is known afterwards."""
    with postgresql_under_fire() if options.database == "postgresql" else nullcontext() as postgresql:
        if postgresql is None:
            path = folder / "runyard.db"
            await asyncio.to_thread(migrations.upgrade_sqlite, path)
            database_url = f"sqlite+aiosqlite:///{path}"
        else:
            await asyncio.to_thread(migrations.upgrade_postgresql, postgresql.url)
            database_url = postgresql.url
        servers = [ServerUnderFire(database_url, folder / f"server-{n}.log") for n in range(options.replicas)]
        urls = [server.url for server in servers]
        workers = [
            WorkerUnderFire(n, options.seed * 1000 + n * 100, options.lease_seconds, urls, folder)
            for n in range(options.workers)
        ]
        async with started(*servers), started(*workers):
            arena = Arena(options, servers, workers, postgresql)
            begun_at = time.monotonic()
            await arena.play(folder / "creators.jsonl")
            await _wait_for_the_end(database_url, options.settle_seconds)
            seconds = time.monotonic() - begun_at
        evidence = await _gather(options, database_url)
        deadlocks = postgresql.deadlocks() if postgresql else 0
    evidence.read_journals([folder / "creators.jsonl", *(path for worker in workers for path in worker.journals)])
    evidence.faults += [fault for server in servers for fault in server.faults()]
    return Outcome(evidence, arena.injected, seconds, deadlocks)


@dataclass(slots=True)
class Arena:
    """Who is there, and what has been done to them."""

    options: Options
    servers: Sequence[ServerUnderFire]
    workers: Sequence[WorkerUnderFire]
    postgresql: PostgreSQLUnderFire | None
    injected: Counter[str] = field(default_factory=Counter[str])
    database_is_down: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def play(self, journal: Path) -> None:
        """Create all runs and inject all faults, each at its time; return when everybody is well again."""
        begun_at = time.monotonic()
        asker = Asker(
            [server.url for server in self.servers],
            Random(self.options.seed + 2),  # noqa: S311 - it has to be the same again
            Journal(journal),
        )
        creator = Creator(asker, Journal(journal), begun_at)
        await creator.limit()
        batches = plan_batches(self.options)
        limit = self.options.seconds + self.options.settle_seconds
        async with asyncio.timeout(limit), asyncio.TaskGroup() as tasks:
            for number in range(CREATORS):
                tasks.create_task(creator.create(batches[number::CREATORS]))
            for fault in plan_faults(self.options):
                await asyncio.sleep(max(0.0, begun_at + fault.at - time.monotonic()))
                tasks.create_task(self._inject(fault))
        await asker.close()

    async def _inject(self, fault: Fault) -> None:
        """Where it would befall one that is down already, it does not happen."""
        inject: Callable[[float], Awaitable[bool]] = {
            "worker killed": self._kill_worker,
            "worker paused past its lease": self._pause_worker,
            "sockets cut": self._cut_sockets,
            "server killed": self._kill_server,
            "server stopped": self._stop_server,
            "database connections cut": self._cut_database_connections,
            "PostgreSQL restarted at once": self._restart_postgresql,
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

    async def _cut_sockets(self, chance: float) -> bool:
        for worker in self.workers:
            # One that has just started does not listen to the signal yet, and would end.
            if not worker.busy.locked() and worker.is_working():
                worker.send(signal.SIGUSR1)
        return True

    async def _kill_server(self, chance: float) -> bool:
        return await self._end_server(chance, signal.SIGKILL)

    async def _stop_server(self, chance: float) -> bool:
        return await self._end_server(chance, signal.SIGTERM)

    async def _end_server(self, chance: float, number: signal.Signals) -> bool:
        server = self.servers[int(chance * len(self.servers))]
        if server.busy.locked():
            return False
        async with server.busy:
            await server.end(number)
            await asyncio.sleep(chance / 2)
            await server.start()
        return True

    async def _cut_database_connections(self, chance: float) -> bool:
        assert self.postgresql is not None
        if self.database_is_down.locked():
            return False
        async with self.database_is_down:
            await self.postgresql.cut_connections()
        return True

    async def _restart_postgresql(self, chance: float) -> bool:
        assert self.postgresql is not None
        if self.database_is_down.locked():
            return False
        async with self.database_is_down:
            await asyncio.to_thread(self.postgresql.restart_at_once)
        return True


@dataclass(slots=True)
class Creator:
    """A program that creates runs, and asks again with the same dynamicKey until it is answered."""

    asker: Asker
    journal: Journal
    begun_at: float

    async def limit(self) -> None:
        await self.asker.ask("CreateConcurrencyLimit", tag=LIMITED_TAG, limit=LIMIT)

    async def create(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            await asyncio.sleep(max(0.0, self.begun_at + batch.at - time.monotonic()))
            inputs = [_input_of(run) for run in batch.runs]
            while True:
                try:
                    payloads = await self._ask(inputs)
                except Unanswered:
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

    async def _ask(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if len(inputs) == 1:
            return [await self.asker.ask("CreateTaskRun", input=inputs[0])]
        return await self.asker.ask("CreateTaskRuns", inputs=inputs)


def _input_of(run: NewRun) -> dict[str, Any]:
    if not run.ahead:
        return run.input
    due_at = (datetime.now(UTC) + timedelta(seconds=run.ahead)).isoformat()
    return run.input | {"state": {"type": "SCHEDULED", "details": {"scheduledTime": due_at}}}


async def _wait_for_the_end(database_url: str, patience: float) -> None:
    """Return when every run has ended, or at the latest after `patience` seconds."""
    give_up_at = time.monotonic() + patience
    terminal = ", ".join(f"'{type}'" for type in sorted(TERMINAL))
    going_on = f"SELECT count(*) FROM task_run WHERE state_type NOT IN ({terminal})"  # noqa: S608
    while time.monotonic() < give_up_at:
        ((count,),) = await _rows(database_url, going_on)
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


async def _gather(options: Options, database_url: str) -> Evidence:
    """What the tables say."""
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


def _seconds(instant: str | datetime) -> float:
    """By the machine's clock."""
    moment = datetime.fromisoformat(instant) if isinstance(instant, str) else instant
    return moment.timestamp()

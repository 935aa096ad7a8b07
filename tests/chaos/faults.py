"""Injects the planned faults into the processes of a chaos test, and records when each process was absent."""

import asyncio
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from tests.chaos.evidence import DATABASE, Absence, ClockStep
from tests.chaos.plan import Fault, Options
from tests.chaos.postgresql import ChaosPostgreSQL
from tests.chaos.processes import ChaosServer, WorkerProcess
from tests.chaos.tables import UNFINISHED

CLOCK_OFFSETS = (300, -3600, 3600)
"""Offsets of a stepped clock, in seconds. The last one is the furthest ahead."""

MAX_LOCKED_ROWS = 5


@dataclass(slots=True)
class FaultInjector:
    """The processes of a chaos test, the faults injected so far and their evidence."""

    options: Options
    servers: Sequence[ChaosServer]
    workers: Sequence[WorkerProcess]
    postgresql: ChaosPostgreSQL | None
    """None if the database is the SQLite file `sqlite_path`."""
    sqlite_path: Path
    injected: Counter[str] = field(default_factory=Counter[str])
    absences: list[Absence] = field(default_factory=list)
    clock_steps: list[ClockStep] = field(default_factory=list)
    """Steps of the clock that decides on due times: that of the server, on SQLite."""
    _database_is_busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the fault that currently affects the database."""

    async def inject(self, fault: Fault) -> None:
        """Inject the fault, unless its target is already affected by another one."""
        inject: Callable[[float], Awaitable[bool]] = {
            "worker killed": self._kill_worker,
            "worker paused past its lease": self._pause_worker,
            "sockets dropped": self._drop_sockets,
            "server killed": self._kill_server,
            "server stopped": self._stop_server,
            "server suspended": self._suspend_server,
            "all servers suspended": self._suspend_all_servers,
            "clock of a server stepped": self._step_server_clock,
            "rows locked": self._lock_rows,
            "database connections terminated": self._terminate_database_connections,
            "PostgreSQL crashed": self._crash_postgresql,
            "clock of PostgreSQL stepped": self._step_database_clock,
            "PgBouncer restarted": self._restart_pooler,
            "failover": self._fail_over,
        }[fault.kind]
        if await inject(fault.chance):
            self.injected[fault.kind] += 1

    def end_clock_steps(self) -> None:
        """Step the clock that decides on due times as far ahead as it has been.

        Runs that were scheduled by a clock that was ahead would otherwise not be due before the end of the test.
        """
        if self.postgresql is None and self.clock_steps:
            self._step(self.servers[0], CLOCK_OFFSETS[-1])

    async def _kill_worker(self, chance: float) -> bool:
        worker = self.workers[int(chance * len(self.workers))]
        if worker.busy.locked():
            return False
        async with worker.busy:
            self.absences.append(Absence(worker.name, time.time(), float("inf")))
            await worker.kill()
            await worker.start()
        return True

    async def _pause_worker(self, chance: float) -> bool:
        worker = self.workers[int(chance * len(self.workers))]
        if worker.busy.locked():
            return False
        async with worker.busy:
            with self._absence(worker.name):
                worker.send(signal.SIGSTOP)
                await asyncio.sleep(self._longer_than_a_lease(chance))
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
        server = self._server(chance)
        if server.busy.locked():
            return False
        async with server.busy:
            with self._absence(server.name):
                await server.stop(number)
                await asyncio.sleep(chance / 2)
                await server.start()
        return True

    async def _suspend_server(self, chance: float) -> bool:
        server = self._server(chance)
        if server.busy.locked():
            return False
        async with server.busy:
            await self._suspend([server], self._longer_than_a_lease(chance))
        return True

    async def _suspend_all_servers(self, chance: float) -> bool:
        async with self._all_servers_undisturbed():
            await self._suspend(self.servers, self._longer_than_a_lease(chance))
        return True

    async def _suspend(self, servers: Sequence[ChaosServer], seconds: float) -> None:
        with self._absence(*(server.name for server in servers)):
            for server in servers:
                server.send(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            for server in servers:
                server.send(signal.SIGCONT)

    async def _step_server_clock(self, chance: float) -> bool:
        server = self._server(chance)
        if not server.clock.can_be_stepped or server.clock.offset != 0:
            return False
        self._step(server, CLOCK_OFFSETS[int(chance * 1000) % len(CLOCK_OFFSETS)])
        await asyncio.sleep(1 + 9 * chance)
        self._step(server, 0)
        return True

    def _step(self, server: ChaosServer, offset: int) -> None:
        """Step the clock of the server. On PostgreSQL it decides nothing, and the step is not recorded."""
        if self.postgresql is None:
            self.clock_steps.append(ClockStep(time.time(), offset))
        server.clock.step_to(offset)

    async def _lock_rows(self, chance: float) -> bool:
        if self.postgresql is None:
            await asyncio.to_thread(_lock_file, self.sqlite_path, chance)
            return True
        # Other faults may end the connection, and the locks with it.
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return await self._lock_postgresql_rows(self.postgresql.url, chance)
        return False

    async def _lock_postgresql_rows(self, url: str, chance: float) -> bool:
        """Lock rows of unfinished runs for 1 to 5 seconds. Return whether there were any."""
        table, id = ("task_run", "id") if chance < 0.5 else ("queue_entry", "task_run_id")
        connection = await asyncpg.connect(url)
        try:
            transaction = connection.transaction()
            await transaction.start()
            locked = await connection.fetch(
                f"SELECT {id} FROM {table} WHERE {id} IN (SELECT id FROM task_run WHERE {UNFINISHED}) "  # noqa: S608
                "ORDER BY random() LIMIT $1 FOR UPDATE SKIP LOCKED",
                1 + int(chance * 1000) % MAX_LOCKED_ROWS,
            )
            if locked:
                await asyncio.sleep(1 + 4 * chance)
            await transaction.rollback()
            return bool(locked)
        finally:
            connection.terminate()

    async def _terminate_database_connections(self, chance: float) -> bool:
        assert self.postgresql is not None
        if self._database_is_busy.locked():
            return False
        async with self._database_is_busy:
            await self.postgresql.terminate_connections()
        return True

    async def _crash_postgresql(self, chance: float) -> bool:
        assert self.postgresql is not None
        return await self._with_absent_database(self.postgresql.crash_and_restart)

    async def _restart_pooler(self, chance: float) -> bool:
        assert self.postgresql is not None
        pooler = self.postgresql.pooler
        assert pooler is not None

        async def restart() -> None:
            await pooler.stop()
            await asyncio.sleep(chance)
            await pooler.start()

        return await self._with_absent_database(restart)

    async def _fail_over(self, chance: float) -> bool:
        """Fail over to the standby and add a new one. Waits for its turn, because there are few failovers."""
        assert self.postgresql is not None
        async with self._database_is_busy:
            with self._absence(DATABASE):
                await self.postgresql.fail_over()
            await self.postgresql.add_standby()
        return True

    async def _step_database_clock(self, chance: float) -> bool:
        """Step the clock of PostgreSQL an hour ahead for 10 to 20 seconds. Meanwhile, no server starts.

        A server cannot know that the first time it reads from the database is wrong.
        """
        assert self.postgresql is not None
        if not self.postgresql.clock.can_be_stepped:
            return False
        async with self._all_servers_undisturbed(), self._database_is_busy:
            self.postgresql.clock.step_to(3600)
            await asyncio.sleep(10 + 10 * chance)
            self.postgresql.clock.step_to(0)
        return True

    async def _with_absent_database(self, work: Callable[[], Awaitable[None]]) -> bool:
        if self._database_is_busy.locked():
            return False
        async with self._database_is_busy:
            with self._absence(DATABASE):
                await work()
        return True

    @asynccontextmanager
    async def _all_servers_undisturbed(self) -> AsyncIterator[None]:
        """Wait until no fault affects a server, and keep further ones off."""
        async with AsyncExitStack() as stack:
            for server in self.servers:
                await stack.enter_async_context(server.busy)
            yield

    @contextmanager
    def _absence(self, *names: str) -> Iterator[None]:
        start = time.time()
        try:
            yield
        finally:
            self.absences += [Absence(name, start, time.time()) for name in names]

    def _server(self, chance: float) -> ChaosServer:
        return self.servers[int(chance * len(self.servers))]

    def _longer_than_a_lease(self, chance: float) -> float:
        return self.options.lease_seconds * (1.2 + chance)


def _lock_file(path: Path, seconds: float) -> None:
    """Lock the SQLite file against writes: for less time than the servers wait for such a lock."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as database:
        database.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        database.execute("ROLLBACK")

"""Injects the planned faults, and notes when each of them affected what."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

import psutil

from chaos.databases import ChaosDatabase
from chaos.evidence import DATABASE, Fault
from chaos.plan import Options, PlannedFault
from chaos.processes import EnqueuerProcess, WorkerProcess
from faulty_proxy import FaultyProxy
from runyard_client.testing.server import RunyardServer

Item = TypeVar("Item")

LOST_OPERATIONS = (
    "CreateTaskRuns",
    "EndedTaskRuns",
    "ClaimTaskRuns",
    "ExchangeTaskRuns",
    "SetTaskRunStates",
    "RenewTaskRunLeases",
    "ReleaseTaskRuns",
    "CancelTaskRuns",
    "*",
)
LOSING_SECONDS = 1.0


@dataclass(slots=True)
class ChaosServer:
    """A server and the proxy through which all clients use it."""

    name: str
    process: RunyardServer
    proxy: FaultyProxy
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class FaultInjector:
    """Everything that faults can affect, and the faults injected so far."""

    options: Options
    servers: Sequence[ChaosServer]
    workers: Sequence[WorkerProcess]
    enqueuers: Sequence[EnqueuerProcess]
    database: ChaosDatabase
    faults: list[Fault] = field(default_factory=list[Fault])
    injected: Counter[str] = field(default_factory=Counter[str])

    async def inject(self, planned: PlannedFault) -> None:
        """Inject the fault, unless its target is affected by another one at the moment."""
        inject: Callable[[float], Awaitable[bool]] = {
            "worker killed": self._kill_worker,
            "worker killed with its children": self._kill_worker_and_children,
            "child killed": self._kill_child,
            "worker suspended": self._suspend_worker,
            "coordinator suspended": self._suspend_coordinator,
            "worker drained": self._drain_worker,
            "server killed": self._kill_server,
            "server stopped": self._stop_server,
            "server suspended": self._suspend_server,
            "connections cut": self._cut_connections,
            "connections refused": self._refuse_connections,
            "responses lost": self._lose_responses,
            "enqueuer killed": self._kill_enqueuer,
            "database connections terminated": self._terminate_connections,
            "PostgreSQL crashed": self._crash_database,
        }[planned.kind]
        if await inject(planned.chance):
            self.injected[planned.kind] += 1

    @asynccontextmanager
    async def _affect(self, kind: str, target: str) -> AsyncGenerator[None]:
        """Note the fault when the block has ended: it affected the target from its begin to its end."""
        start = time.time()
        try:
            yield
        finally:
            self.faults.append(Fault(kind, target, start, time.time()))

    async def _kill_worker(self, chance: float) -> bool:
        async def kill(worker: WorkerProcess) -> None:
            await worker.kill()

        return await self._replace_worker("worker killed", chance, kill)

    async def _kill_worker_and_children(self, chance: float) -> bool:
        async def kill(worker: WorkerProcess) -> None:
            await worker.kill_with_children()

        return await self._replace_worker("worker killed with its children", chance, kill)

    async def _replace_worker(self, kind: str, chance: float, end: Callable[[WorkerProcess], Awaitable[None]]) -> bool:
        worker = _choose(self.workers, chance)
        if worker.busy.locked():
            return False
        async with worker.busy:
            async with self._affect(kind, worker.name):
                await end(worker)
            await worker.start()
        return True

    async def _kill_child(self, chance: float) -> bool:
        """Kill a child of a worker that has some."""
        worker = _choose(self.workers, chance)
        children = worker.tree()[1:]
        if worker.busy.locked() or not children:
            return False
        child = _choose(children, chance * len(self.workers) % 1)
        async with self._affect("child killed", f"pid {child.pid}"):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        return True

    async def _suspend_worker(self, chance: float) -> bool:
        return await self._suspend("worker suspended", chance, to_children=True)

    async def _suspend_coordinator(self, chance: float) -> bool:
        return await self._suspend("coordinator suspended", chance, to_children=False)

    async def _suspend(self, kind: str, chance: float, *, to_children: bool) -> bool:
        worker = _choose(self.workers, chance)
        if worker.busy.locked() or not worker.is_running:
            return False
        async with worker.busy, self._affect(kind, worker.name):
            worker.send(signal.SIGSTOP, to_children=to_children)
            await asyncio.sleep(self._pause_seconds(chance))
            worker.send(signal.SIGCONT, to_children=to_children)
        return True

    def _pause_seconds(self, chance: float) -> float:
        """Return how long a fault lasts: half of the time less than the lease, and otherwise more."""
        return 0.2 + chance * 100 % 1 * 2 * self.options.lease_seconds

    async def _drain_worker(self, chance: float) -> bool:
        worker = _choose(self.workers, chance)
        if worker.busy.locked() or not worker.is_running:
            return False
        async with worker.busy:
            await self.drain(worker)
            await worker.start()
        return True

    async def drain(self, worker: WorkerProcess) -> None:
        """Let a worker exit as SIGTERM does, and note its exit code."""
        start = time.time()
        code, end = await worker.drain()
        self.faults.append(Fault("worker drained", worker.name, start, end, code))

    async def _kill_server(self, chance: float) -> bool:
        return await self._restart_server("server killed", chance, lambda server: server.process.kill())

    async def _stop_server(self, chance: float) -> bool:
        return await self._restart_server("server stopped", chance, lambda server: server.process.stop())

    async def _restart_server(self, kind: str, chance: float, end: Callable[[ChaosServer], object]) -> bool:
        server = _choose(self.servers, chance)
        if server.busy.locked() or self.database.busy.locked():
            return False
        async with server.busy, self._affect(kind, server.name):
            await asyncio.to_thread(end, server)
            await asyncio.sleep(chance * 100 % 1 * 2)
            await asyncio.to_thread(server.process.start)
        return True

    async def _suspend_server(self, chance: float) -> bool:
        server = _choose(self.servers, chance)
        if server.busy.locked():
            return False
        async with server.busy, self._affect("server suspended", server.name):
            server.process.pause()
            await asyncio.sleep(self._pause_seconds(chance))
            server.process.resume()
        return True

    async def _cut_connections(self, chance: float) -> bool:
        server = _choose(self.servers, chance)
        async with self._affect("connections cut", server.name):
            server.proxy.cut_connections()
        return True

    async def _refuse_connections(self, chance: float) -> bool:
        server = _choose(self.servers, chance)
        if server.busy.locked():
            return False
        async with server.busy, self._affect("connections refused", server.name):
            await server.proxy.disconnect()
            await asyncio.sleep(self._pause_seconds(chance))
            await server.proxy.connect()
        return True

    async def _lose_responses(self, chance: float) -> bool:
        """Lose some responses to one operation, but those of requests that arrive within LOSING_SECONDS only."""
        server = _choose(self.servers, chance)
        operation = _choose(LOST_OPERATIONS, chance * len(self.servers) % 1)
        async with self._affect("responses lost", server.name):
            server.proxy.lose_responses(operation, times=2)
            await asyncio.sleep(LOSING_SECONDS)
            server.proxy.stop_faults()
        return True

    async def _kill_enqueuer(self, chance: float) -> bool:
        enqueuer = _choose(self.enqueuers, chance)
        if enqueuer.busy.locked() or not enqueuer.is_running:
            return False
        async with enqueuer.busy, self._affect("enqueuer killed", enqueuer.name):
            await enqueuer.kill()
            await enqueuer.start()
        return True

    async def _terminate_connections(self, chance: float) -> bool:
        if self.database.busy.locked():
            return False
        async with (
            self.database.busy,
            self._affect("database connections terminated", DATABASE),
        ):
            await self.database.terminate_connections()
        return True

    async def _crash_database(self, chance: float) -> bool:
        if self.database.busy.locked() or any(server.busy.locked() for server in self.servers):
            return False
        async with self.database.busy, self._affect("PostgreSQL crashed", DATABASE):
            await self.database.crash(chance * 2)
        return True


def _choose(items: Sequence[Item], chance: float) -> Item:
    return items[min(int(chance * len(items)), len(items) - 1)]

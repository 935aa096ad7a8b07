"""`python -m benchmarks.waits`: what requests that wait cost two servers on one PostgreSQL database.

Half of the requests wait on `endedTaskRuns` and half on `leaseSignals`, each for another run or lease, as operations of
WebSockets to both servers. Two other servers on the same database have no waiting requests and receive the same
notifications: everything is measured at both pairs at the same time, since other processes of the machine affect both.
Three figures are printed beside their marks: the CPU time while nothing happens, the CPU time of a state change of another
run compared with that at the other pair, and the time from the end of a run at one server to its result at the other.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks.client import Client, document_request
from benchmarks.running import COLD, exit_on_faults
from benchmarks.servers import PostgreSQLProcesses, ServerProcess, postgresql, run_server
from db import migrations
from db.postgresql.driver import asyncpg
from queries import document

OPERATIONS_PER_SOCKET = 100
WAIT_SECONDS = 60.0
MAX_BATCH = 500
SETTLED_PERCENT = 3.0
"""CPU use of both servers below which no operation starts or ends, in per cent of a core."""
TASK_KEY = "benchmark-waits"
MARKS = {"idle": 1.0, "change": 1.1, "latency": 50.0}
"""At most: per cent of a core, ratio, and milliseconds."""


@dataclass
class WaitingSocket:
    """A WebSocket whose operations wait. Records when each result arrived."""

    connection: ClientConnection
    received_at: dict[str, float] = field(default_factory=dict[str, float])
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_for(self, operation: str, argument: str, id: str) -> None:
        """Start an operation that waits for `id`, which becomes the id of the operation as well."""
        payload = {"query": document(operation)[0], "variables": {argument: [id], "waitSeconds": WAIT_SECONDS}}
        await self.connection.send(orjson.dumps({"id": id, "type": "subscribe", "payload": payload}).decode())

    async def receive(self) -> None:
        """Record results until the socket is closed."""
        with suppress(ConnectionClosed):
            async for text in self.connection:
                message = orjson.loads(text)
                if message["type"] == "next":
                    self.received_at[message["id"]] = time.perf_counter()
                    self.arrived.set()

    async def result_at(self, id: str) -> float:
        """Return when the result for `id` arrived, as a reading of `time.perf_counter`."""
        while id not in self.received_at:
            self.arrived.clear()
            await self.arrived.wait()
        return self.received_at[id]


@asynccontextmanager
async def waiting(
    server: ServerProcess, operation: str, argument: str, ids: Sequence[str]
) -> AsyncGenerator[list[WaitingSocket]]:
    """Let one operation wait for each of these ids. Each socket has OPERATIONS_PER_SOCKET of them."""
    async with AsyncExitStack() as stack:
        sockets: list[WaitingSocket] = []
        for start in range(0, len(ids), OPERATIONS_PER_SOCKET):
            address = f"ws://127.0.0.1:{server.port}/graphql"
            opened = connect(address, subprotocols=["graphql-transport-ws"], proxy=None, compression=None)  # type: ignore[list-item]
            socket = WaitingSocket(await stack.enter_async_context(opened))
            await socket.connection.send('{"type":"connection_init"}')
            await socket.connection.recv()
            for id in ids[start : start + OPERATIONS_PER_SOCKET]:
                await socket.wait_for(operation, argument, id)
            receiving = asyncio.create_task(socket.receive())
            stack.callback(receiving.cancel)
            sockets.append(socket)
        yield sockets


@dataclass
class Measurement:
    """Four servers on one database: two where requests wait, and two without. And what the requests wait for."""

    servers: Sequence[ServerProcess]
    clients: Sequence[Client]
    database: PostgreSQLProcesses
    run_ids: list[str]
    lease_ids: list[str]

    def cpu_seconds(self) -> tuple[float, float, float]:
        """Return the CPU time of the servers where requests wait, that of the others, and that of PostgreSQL."""
        first, second, third, fourth = (each.cpu_seconds() for each in self.servers)
        return first + second, third + fourth, self.database.cpu_seconds()

    @asynccontextmanager
    async def all_waiting(self) -> AsyncGenerator[list[WaitingSocket]]:
        """Let requests wait, half of each kind at each server. Yield the sockets that wait for runs at the second one."""
        half_runs, half_leases = len(self.run_ids) // 2, len(self.lease_ids) // 2
        async with AsyncExitStack() as stack:
            sockets: list[WaitingSocket] = []
            for server, runs, leases in (
                (self.servers[0], self.run_ids[:half_runs], self.lease_ids[:half_leases]),
                (self.servers[1], self.run_ids[half_runs:], self.lease_ids[half_leases:]),
            ):
                sockets = await stack.enter_async_context(waiting(server, "EndedTaskRuns", "ids", runs))
                await stack.enter_async_context(waiting(server, "LeaseSignals", "leaseIds", leases))
            while (await self.idle_percent(0.5))[0] > SETTLED_PERCENT:
                pass
            yield sockets

    async def idle_percent(self, seconds: float) -> list[float]:
        """Return the CPU use of both pairs of servers, and of PostgreSQL, in per cent of one core."""
        before, began = self.cpu_seconds(), time.perf_counter()
        await asyncio.sleep(seconds)
        elapsed, after = time.perf_counter() - began, self.cpu_seconds()
        return [100 * (late - early) / elapsed for early, late in zip(before, after, strict=True)]

    async def change_milliseconds(self, count: int) -> list[float]:
        """Set new runs to RUNNING and COMPLETED, `count` at each pair. Return the CPU time of one state change.

        The results are those of both pairs of servers and of PostgreSQL. The pairs alternate.
        """
        ids = await create_runs(self.clients[0], 2 * count, "PENDING")
        before = self.cpu_seconds()
        for number, id in enumerate(ids):
            client = self.clients[0 if number % 2 == 0 else 2]
            for type in ("RUNNING", "COMPLETED"):
                await client.send(document_request("SetTaskRunState", b'"ACCEPT"', id=id, state={"type": type}))
        after = self.cpu_seconds()
        first, second, database = (1000 * (late - early) for early, late in zip(before, after, strict=True))
        return [first / (2 * count), second / (2 * count), database / (4 * count)]

    async def latencies(self, sockets: Sequence[WaitingSocket], count: int) -> list[float]:
        """End runs at the first server, and return how many milliseconds later each result arrived from the second one."""
        awaited = self.run_ids[len(self.run_ids) // 2 :]
        found: list[float] = []
        for position in range(min(count, len(awaited))):
            id = awaited[position]
            request = document_request("SetTaskRunState", b'"ACCEPT"', id=id, state={"type": "COMPLETED"})
            began = time.perf_counter()
            await self.clients[0].send(request)
            socket = sockets[position // OPERATIONS_PER_SOCKET]
            found.append(1000 * (await asyncio.wait_for(socket.result_at(id), WAIT_SECONDS) - began))
        return found


async def create_runs(client: Client, count: int, type: str, **fields: Any) -> list[str]:
    """Create background runs in this state and return their ids."""
    ids: list[str] = []
    while len(ids) < count:
        size = min(MAX_BATCH, count - len(ids))
        inputs = [{"taskKey": TASK_KEY, "state": {"type": type}, **fields}] * size
        ids += [each["taskRun"]["id"] for each in (await client.execute("CreateTaskRuns", inputs=inputs))["results"]]
    return ids


async def lease_runs(client: Client, count: int) -> list[str]:
    """Create background runs, claim and acknowledge them, and return the ids of their leases."""
    await create_runs(client, count, "SCHEDULED")
    ids: list[str] = []
    while len(ids) < count:
        claim = await client.execute(
            "ClaimTaskRuns", taskKeys=[TASK_KEY], limit=MAX_BATCH, leaseSeconds=3600, waitSeconds=5
        )
        claimed = [each["leaseId"] for each in claim["deliveries"]]
        await client.execute("AcknowledgeTaskRuns", leaseIds=claimed)
        ids += claimed
    return ids


async def measure(servers: Sequence[ServerProcess], database: PostgreSQLProcesses, args: argparse.Namespace) -> None:
    """Measure and print the figures."""
    clients = [Client(each.port) for each in servers]
    runs = await create_runs(clients[0], args.waits, "RUNNING")
    leases = await lease_runs(clients[0], args.waits)
    measurement = Measurement(servers, clients, database, runs, leases)
    await measurement.change_milliseconds(args.changes)
    memory = servers[0].memory_mib() + servers[1].memory_mib()
    changes: list[list[float]] = []
    for number in range(args.rounds):
        async with measurement.all_waiting():
            if number == 0:
                memory = servers[0].memory_mib() + servers[1].memory_mib() - memory
            changes.append(await measurement.change_milliseconds(args.changes))
    async with measurement.all_waiting() as sockets:
        idle = await measurement.idle_percent(args.idle_seconds)
        latencies = await measurement.latencies(sockets, args.ends)
    for client in clients:
        exit_on_faults("waits", client)
        client.close()
    print(f"{args.waits} requests on endedTaskRuns and {args.waits} on leaseSignals, at two servers: {memory:.0f} MiB")
    print(f"idle: {idle[0]:.2f} % of a core; mark: {MARKS['idle']} %")
    print(f"      {idle[1]:.2f} % at the servers without waiting requests; PostgreSQL {idle[2]:.2f} % for all")
    change, change_alone, in_database = (statistics.median(column) for column in zip(*changes, strict=True))
    ratio = statistics.median(each[0] / each[1] for each in changes)
    print(f"state change: {ratio:.2f} times the CPU time at the servers without them; mark: {MARKS['change']}")
    print(f"      {change:.2f} ms and {change_alone:.2f} ms; PostgreSQL {in_database:.2f} ms")
    print(
        f"end of a run, at the other server: {statistics.median(latencies):.1f} ms (median of {len(latencies)}); "
        f"mark: {MARKS['latency']} ms"
    )
    print(f"      {max(latencies):.1f} ms (maximum)")


async def database_processes(url: str) -> PostgreSQLProcesses:
    raw = await asyncpg.connect(url)
    try:
        return PostgreSQLProcesses(await raw.fetchval("SELECT pg_backend_pid()"))
    finally:
        await raw.close()


def main() -> None:
    args = parse_arguments()
    with ExitStack() as stack:
        url = args.database_url or stack.enter_context(postgresql())
        url = url.replace("+asyncpg", "")
        migrations.upgrade_postgresql(url)
        variables = {"RUNYARD_DATABASE_URL": url.replace("postgresql://", "postgresql+asyncpg://")}
        servers = [stack.enter_context(run_server(["runyard", "serve"], COLD, **variables)) for _ in range(4)]
        processes = asyncio.run(database_processes(url))
        uvloop.run(measure(servers, processes, args))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="just bench-waits",
        description="Measure what requests that wait cost two servers on one PostgreSQL database.",
    )
    parser.add_argument("--waits", type=int, default=1000, help="number of requests of each kind; defaults to 1000")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of state changes; defaults to 3")
    parser.add_argument("--changes", type=int, default=300, help="runs whose states change in a round; defaults to 300")
    parser.add_argument("--ends", type=int, default=100, help="runs whose end is awaited; defaults to 100")
    parser.add_argument(
        "--idle-seconds", type=float, default=20, help="duration in which nothing happens; defaults to 20"
    )
    parser.add_argument("--database-url", help="empty PostgreSQL database; defaults to a new PostgreSQL server")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""What the main job costs: CPU of the server process for each operation, by `python benchmarks/main_job.py`.

Starts a server of its own on an empty SQLite file, and takes user and system time from the operating system: wall time
says little on a shared machine. Prints the median of interleaved rounds.
"""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
from websockets.asyncio.client import ClientConnection, connect

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from queries import document

ROUNDS = 5
OPERATIONS = 200
WIDE_PAGE = """query { taskRuns(first: 200) { pageInfo { hasNextPage endCursor } nodes {
    id created updated name taskKey dynamicKey tags parameters runCount expectedStartTime startTime endTime
    totalRunTimeSeconds estimatedRunTimeSeconds stateType flowRunId taskVersion
    state { id type name timestamp message } flowRun { id name }
} } }"""


class Bench:
    """A server process and a client of it."""

    def __init__(self, url: str, process: psutil.Process, http: httpx.AsyncClient, socket: ClientConnection) -> None:
        self.url = url
        self.process = process
        self.http = http
        self.socket = socket

    async def ask(self, operation: str, **variables: Any) -> Any:
        response = await self.http.post("/graphql", json={"query": document(operation)[0], "variables": variables})
        (value,) = response.json()["data"].values()
        return value

    async def create(self) -> str:
        return (await self.ask("CreateTaskRun", input={"taskKey": "bench", "tags": ["a", "b"]}))["taskRun"]["id"]

    async def create_one_by_one(self) -> None:
        for _ in range(OPERATIONS):
            await self.create()

    async def create_eight_at_once(self) -> None:
        await self.eight_at_once(self.create)

    async def move_one_by_one(self, ids: list[str], type: str) -> None:
        for id in ids:
            await self.ask("SetTaskRunState", id=id, state={"type": type})

    async def eight_at_once(self, do: Callable[[], Awaitable[Any]]) -> None:
        async def repeat() -> None:
            for _ in range(OPERATIONS // 8):
                await do()

        await asyncio.gather(*(repeat() for _ in range(8)))

    async def deliver(self) -> None:
        """Create scheduled runs, receive each and acknowledge it."""
        state = {"type": "SCHEDULED"}
        for _ in range(OPERATIONS):
            await self.ask("CreateTaskRun", input={"taskKey": "deliver", "state": state})
            event = orjson.loads(await self.socket.recv())
            (run,) = event["payload"]["data"]["scheduledTaskRuns"]
            await self.ask("AcknowledgeTaskRuns", leaseIds=[run["leaseId"]])

    async def page(self) -> None:
        for _ in range(OPERATIONS // 10):
            await self.ask("ListTaskRuns", first=200)

    async def wide_page(self) -> None:
        for _ in range(OPERATIONS // 10):
            await self.http.post("/graphql", json={"query": WIDE_PAGE})

    async def one_by_id(self, id: str) -> None:
        for _ in range(OPERATIONS):
            await self.ask("GetTaskRunState", id=id)


async def measure(bench: Bench) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {}

    async def take(name: str, count: int, work: Awaitable[Any]) -> None:
        before, began = bench.process.cpu_times(), time.perf_counter()
        await work
        after, wall = bench.process.cpu_times(), time.perf_counter() - began
        cpu = after.user + after.system - before.user - before.system
        figures.setdefault(name, []).append(cpu * 1000 / count)
        figures.setdefault(f"{name} (wall)", []).append(wall * 1000 / count)

    for _ in range(ROUNDS):
        ids = [await bench.create() for _ in range(OPERATIONS)]
        await take("create, one at a time", OPERATIONS, bench.create_one_by_one())
        await take("create, eight at once", OPERATIONS, bench.create_eight_at_once())
        await take("set state RUNNING, one at a time", OPERATIONS, bench.move_one_by_one(ids, "RUNNING"))
        await take("set state COMPLETED, one at a time", OPERATIONS, bench.move_one_by_one(ids, "COMPLETED"))
        await take("create, deliver, acknowledge", OPERATIONS, bench.deliver())
        await take("page of 200, 11 fields", OPERATIONS // 10, bench.page())
        await take("page of 200, 19 fields, state, flow run", OPERATIONS // 10, bench.wide_page())
        await take("one by id, 4 fields", OPERATIONS, bench.one_by_id(ids[0]))
    return figures


async def main() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "RUNYARD_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/bench.db",
            "RUNYARD_PORT": str(port),
            "RUNYARD_LOG_LEVEL": "warning",
        }
        server = subprocess.Popen([sys.executable, "-m", "runyard", "serve"], env=environment)
        url = f"http://127.0.0.1:{port}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=60) as http:
                while True:
                    try:
                        await http.get("/readyz")
                        break
                    except httpx.ConnectError:
                        await asyncio.sleep(0.05)
                address = url.replace("http", "ws") + "/graphql"
                async with connect(address, subprotocols=["graphql-transport-ws"], proxy=None) as sock:  # type: ignore[list-item]
                    await sock.send('{"type":"connection_init"}')
                    await sock.recv()
                    payload = {
                        "query": document("ScheduledTaskRuns")[0],
                        "variables": {"taskKeys": ["deliver"], "prefetch": 10},
                    }
                    await sock.send(orjson.dumps({"id": "1", "type": "subscribe", "payload": payload}).decode())
                    figures = await measure(Bench(url, psutil.Process(server.pid), http, sock))
                memory = psutil.Process(server.pid).memory_info().rss / 2**20
        finally:
            server.terminate()
            server.wait()
    for name, values in figures.items():
        print(f"{name:45} {statistics.median(values):7.2f} ms")
    print(f"{'memory':45} {memory:7.1f} MiB")


asyncio.run(main())

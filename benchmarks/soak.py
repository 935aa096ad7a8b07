"""`python -m benchmarks.soak`: put a mixed load on a server for minutes or hours, and show whether it leaks resources.

Leaks are slow. Each minute, a row is printed with the memory, files, threads and tasks of the server's process, the
longest delay in its event loop, and the number of its responses. Runs are deleted after a while, because a growing
database would look like a leak.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import orjson
import uvloop
from websockets.asyncio.client import connect

from benchmarks.running import COLD
from benchmarks.servers import TIMEOUT_SECONDS, ServerProcess, postgresql, run_server
from db import migrations
from queries import document

RUN_LIFETIME_SECONDS = 60
"""Age at which a run is deleted."""

KEYS = [f"soak-{number}" for number in range(8)]
TAGS = ["red", "green", "blue"]
COLUMNS = ("minute", "MiB", "files", "threads", "tasks", "objects", "lag ms", "resp/s", "refused", "runs")


@dataclass
class Load:
    """The requests of all kinds of clients to one server, and the counts of their responses."""

    http: httpx.AsyncClient
    address: str
    chance: random.Random
    responses: Counter[str] = field(default_factory=Counter[str])
    faults: list[str] = field(default_factory=list[str])

    async def execute(self, operation: str, **variables: Any) -> Any:
        """Execute the operation and return the value of its one root field, or None when it is refused.

        Any other result is recorded as a fault.
        """
        body = {"query": document(operation)[0], "variables": variables}
        response = await self.http.post("/graphql", json=body)
        return self._check_response(operation, response.content)

    def _check_response(self, operation: str, body: bytes) -> Any:
        response = orjson.loads(body)
        codes = {error["extensions"]["code"] for error in response.get("errors", ())}
        self.responses["refused" if codes else "succeeded"] += 1
        if not codes <= {"BAD_USER_INPUT", "NOT_FOUND", "CONFLICT", "QUERY_TOO_COMPLEX"}:
            self.faults.append(f"{operation}: {body[:500]!r}")
        return next(iter(response["data"].values())) if not codes else None

    # --- activities, chosen at random ---

    async def create_and_finish(self) -> None:
        state = {"type": "PENDING", "data": {"text": "x" * self.chance.randrange(2000)}}
        request = {"taskKey": self.chance.choice(KEYS), "tags": self.chance.sample(TAGS, 2), "state": state}
        run = (await self.execute("CreateTaskRun", input=request))["taskRun"]
        for type_ in ("RUNNING", "COMPLETED"):
            await self.execute("SetTaskRunState", id=run["id"], state={"type": type_})
        await self.execute("GetTaskRun", id=run["id"])

    async def create_many(self) -> None:
        inputs = [{"taskKey": self.chance.choice(KEYS), "parameters": {"number": n}} for n in range(50)]
        made = (await self.execute("CreateTaskRuns", inputs=inputs))["results"]
        changes = [{"taskRunId": each["taskRun"]["id"], "state": {"type": "RUNNING"}} for each in made]
        await self.execute("SetTaskRunStates", inputs=changes)

    async def deliver(self) -> None:
        key = self.chance.choice(KEYS)
        inputs = [{"taskKey": key, "state": {"type": "SCHEDULED"}} for _ in range(5)]
        await self.execute("CreateTaskRuns", inputs=inputs)
        claimed = (await self.execute("ClaimTaskRuns", taskKeys=[key], limit=10, waitSeconds=1))["deliveries"]
        leases = [each["leaseId"] for each in claimed]
        if leases:
            await self.execute("AcknowledgeTaskRuns", leaseIds=leases)
            await self.execute("RenewTaskRunLeases", leaseIds=leases)
        for each in claimed[1:]:
            for type_ in ("RUNNING", "COMPLETED"):
                await self.execute(
                    "SetTaskRunState", id=each["taskRun"]["id"], leaseId=each["leaseId"], state={"type": type_}
                )
        if leases:
            await self.execute("ReleaseTaskRuns", leaseIds=leases[:1], delaySeconds=1)

    async def read_lists(self) -> None:
        now = datetime.now(UTC)
        page = {"first": 50, "filter": {"taskKey": {"in": KEYS[:3]}, "tags": {"any": TAGS[:1]}}}
        await self.execute("ListTaskRuns", **page)
        await self.execute("ListFlowRuns", first=20)
        span = {"start": (now - timedelta(minutes=5)).isoformat(), "end": now.isoformat()}
        await self.execute("GetTaskRunHistory", **span, intervalSeconds=10)
        await self.execute("ListTaskQueues")

    async def send_invalid_requests(self) -> None:
        """Send invalid requests, and new documents that evict others from the document cache."""
        for query in (
            "{ nothing" + str(self.chance.random())[2:] + " }",
            f"query Q{self.chance.randrange(10**9)} {{ taskRuns(first: 2) {{ nodes {{ id }} }} }}",
            "{ unfinished",
        ):
            response = await self.http.post("/graphql", json={"query": query})
            self._check_response(query, response.content)
        await self.execute("SetTaskRunState", id="00000000-0000-0000-0000-000000000000", state={"type": "RUNNING"})
        await self.execute("CreateTaskRun", input={"taskKey": ""})
        await self.http.post("/graphql", content=b"{", headers={"content-type": "application/json"})

    async def use_websocket(self) -> None:
        """Subscribe, receive events, and disconnect: with a closing handshake, or abruptly."""
        socket = await connect(self.address, subprotocols=["graphql-transport-ws"], proxy=None)  # type: ignore[list-item]
        await socket.send('{"type":"connection_init"}')
        for id, operation, variables in (
            ("1", "ScheduledTaskRuns", {"taskKeys": KEYS, "prefetch": 5, "workerName": "soak"}),
            ("2", "TaskRunStateChanges", {"filter": {"taskKey": {"in": KEYS[:2]}}}),
        ):
            payload = {"query": document(operation)[0], "variables": variables}
            await socket.send(orjson.dumps({"id": id, "type": "subscribe", "payload": payload}).decode())
        with suppress(TimeoutError):
            async with asyncio.timeout(self.chance.uniform(0.1, 1.0)):
                while True:
                    message = orjson.loads(await socket.recv())
                    self.responses["succeeded"] += 1
                    if message["type"] == "error" or "errors" in message.get("payload", ()):
                        self.faults.append(f"socket: {message}")
        if self.chance.random() < 0.5:
            await socket.close()
        else:
            socket.transport.abort()

    async def use_event_stream(self) -> None:
        """Receive the feed as server-sent events, and abort the stream."""
        body = {"query": document("TaskRunStateChanges")[0]}
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(self.chance.uniform(0.1, 1.0)),
                self.http.stream("POST", "/graphql", json=body, headers={"accept": "text/event-stream"}) as response,
            ):
                async for _ in response.aiter_lines():
                    self.responses["succeeded"] += 1

    async def delete_old_runs(self) -> None:
        """Delete the runs that are older than RUN_LIFETIME_SECONDS."""
        before = (datetime.now(UTC) - timedelta(seconds=RUN_LIFETIME_SECONDS)).isoformat()
        while await self._delete_batch(before) == 1000:
            continue

    async def _delete_batch(self, before: str) -> int:
        return (await self.execute("DeleteTaskRuns", filter={"createdAt": {"before": before}}, limit=1000))["deleted"]


ACTIVITIES: dict[Callable[[Load], Awaitable[None]], int] = {
    Load.create_and_finish: 8,
    Load.create_many: 1,
    Load.deliver: 4,
    Load.read_lists: 2,
    Load.send_invalid_requests: 3,
    Load.use_websocket: 2,
    Load.use_event_stream: 1,
}
"""The activities and their relative frequencies."""


async def _run_client(load: Load, pause_seconds: float) -> None:
    activities, weights = list(ACTIVITIES), list(ACTIVITIES.values())
    while True:
        await load.chance.choices(activities, weights)[0](load)
        await asyncio.sleep(pause_seconds)


async def _run_cleaner(load: Load) -> None:
    while True:
        await asyncio.sleep(5)
        await load.delete_old_runs()


async def soak(server: ServerProcess, minutes: float, clients: int, *, pause_seconds: float, row_seconds: float) -> int:
    """Put the load on the server, and print a row for each interval and the change from the second row to the last.

    Returns the number of faults: responses that a correct server does not give.
    """
    address = f"127.0.0.1:{server.port}"
    limits = httpx.Limits(keepalive_expiry=3.0)
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=TIMEOUT_SECONDS, limits=limits) as http:
        load = Load(http, f"ws://{address}/graphql", random.Random(1))  # noqa: S311 - not a secret
        rows = [await _measure_row(server, load, 0.0, 0.0)]
        print("  ".join(f"{name:>9}" for name in COLUMNS))
        _print(rows[0])
        began = measured_at = time.monotonic()
        work = [asyncio.create_task(_run_client(load, pause_seconds)) for _ in range(clients)]
        work.append(asyncio.create_task(_run_cleaner(load)))
        while time.monotonic() - began < minutes * 60:
            done, _ = await asyncio.wait(work, timeout=row_seconds, return_when=asyncio.FIRST_EXCEPTION)
            for each in done:
                each.result()
            now = time.monotonic()
            rows.append(await _measure_row(server, load, now - began, now - measured_at))
            measured_at = now
            _print(rows[-1])
        for each in work:
            each.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    if len(rows) > 3:
        print("Change from the second row to the last: " + ", ".join(_growth(rows[1], rows[-1])))
    for fault in load.faults[:20]:
        print(fault, file=sys.stderr)
    print(f"{len(load.faults)} faults")
    return len(load.faults)


async def _measure_row(server: ServerProcess, load: Load, at: float, seconds: float) -> dict[str, float]:
    measurements = (await load.http.get("/observed")).json()
    count = await load.execute("CountTaskRuns")
    responses, load.responses = load.responses, Counter[str]()
    return {
        "minute": at / 60,
        "MiB": server.memory_mib(),
        "files": server.process.num_fds(),
        "threads": measurements["threads"],
        "tasks": measurements["tasks"],
        "objects": measurements["objects"],
        "lag ms": measurements["lag_seconds"] * 1000,
        "resp/s": responses.total() / seconds if seconds else 0,
        "refused": responses["refused"],
        "runs": count,
    }


def _print(row: dict[str, float]) -> None:
    print("  ".join(f"{row[name]:>9.1f}" if name == "minute" else f"{row[name]:>9.0f}" for name in COLUMNS), flush=True)


def _growth(first: dict[str, float], last: dict[str, float]) -> list[str]:
    return [f"{name} {last[name] - first[name]:+,.0f}" for name in COLUMNS[1:6]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30, help="duration of the load; defaults to 30")
    parser.add_argument("--clients", type=int, default=6, help="number of concurrent clients; defaults to 6")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds that each client waits between activities")
    parser.add_argument("--row-seconds", type=float, default=60, help="interval between rows; defaults to 60")
    parser.add_argument(
        "--database-url", help="empty database, or `postgresql` to start one; defaults to a temporary SQLite file"
    )
    args = parser.parse_args()
    with ExitStack() as stack:
        url = _prepare_database(args.database_url, stack)
        server = stack.enter_context(run_server(["benchmarks.observed"], COLD, RUNYARD_DATABASE_URL=url))
        options = {"pause_seconds": args.pause, "row_seconds": args.row_seconds}
        faults = uvloop.run(soak(server, args.minutes, args.clients, **options))
    sys.exit(1 if faults else 0)


def _prepare_database(url: str | None, stack: ExitStack) -> str:
    """Migrate the database and return its URL."""
    if url is None:
        folder = stack.enter_context(TemporaryDirectory(prefix="runyard-soak-"))
        url = f"sqlite+aiosqlite:///{folder}/runyard.db"
    elif url == "postgresql":
        url = stack.enter_context(postgresql())
    if url.startswith("sqlite"):
        migrations.upgrade_sqlite(Path(url.partition(":///")[2]))
        return url
    migrations.upgrade_postgresql(url.replace("+asyncpg", ""))
    return url.replace("postgresql://", "postgresql+asyncpg://")


if __name__ == "__main__":
    main()

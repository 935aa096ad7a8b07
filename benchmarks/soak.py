"""`python -m benchmarks.soak`: a mixed load for minutes or hours, and whether the server is in the end as it was.

What leaks does so slowly, so each minute there is a row: memory, files, threads and tasks of the server's process, the
longest wait of its event loop, and what it answered. What was made is deleted after a while, so that a full database is
not taken for a leak.
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
from benchmarks.servers import PATIENCE, ServerProcess, postgresql, serving
from db import migrations
from queries import document

KEPT_SECONDS = 60
"""How old a run gets before it is deleted."""

KEYS = [f"soak-{number}" for number in range(8)]
TAGS = ["red", "green", "blue"]
COLUMNS = ("minute", "MiB", "files", "threads", "tasks", "objects", "lag ms", "answers/s", "refused", "runs")


@dataclass
class Load:
    """What clients of every kind do to one server, and what they were answered."""

    http: httpx.AsyncClient
    address: str
    chance: random.Random
    answers: Counter[str] = field(default_factory=Counter[str])
    faults: list[str] = field(default_factory=list[str])

    async def ask(self, operation: str, **variables: Any) -> Any:
        """The value of the one root field; None where the operation is refused. What is neither is a fault."""
        body = {"query": document(operation)[0], "variables": variables}
        response = await self.http.post("/graphql", json=body)
        return self._looked_at(operation, response.content)

    def _looked_at(self, what: str, body: bytes) -> Any:
        answer = orjson.loads(body)
        codes = {error["extensions"]["code"] for error in answer.get("errors", ())}
        self.answers["refused" if codes else "answered"] += 1
        if not codes <= {"BAD_USER_INPUT", "NOT_FOUND", "CONFLICT", "QUERY_TOO_COMPLEX"}:
            self.faults.append(f"{what}: {body[:500]!r}")
        return next(iter(answer["data"].values())) if not codes else None

    # --- what they do, one after the other, by chance ---

    async def create_and_finish(self) -> None:
        state = {"type": "PENDING", "data": {"text": "x" * self.chance.randrange(2000)}}
        wanted = {"taskKey": self.chance.choice(KEYS), "tags": self.chance.sample(TAGS, 2), "state": state}
        run = (await self.ask("CreateTaskRun", input=wanted))["taskRun"]
        for type_ in ("RUNNING", "COMPLETED"):
            await self.ask("SetTaskRunState", id=run["id"], state={"type": type_})
        await self.ask("GetTaskRun", id=run["id"])

    async def create_many(self) -> None:
        inputs = [{"taskKey": self.chance.choice(KEYS), "parameters": {"number": n}} for n in range(50)]
        made = await self.ask("CreateTaskRuns", inputs=inputs)
        changes = [{"id": each["taskRun"]["id"], "state": {"type": "RUNNING"}} for each in made]
        await self.ask("SetTaskRunStates", inputs=changes)

    async def deliver(self) -> None:
        key = self.chance.choice(KEYS)
        inputs = [{"taskKey": key, "state": {"type": "SCHEDULED"}} for _ in range(5)]
        await self.ask("CreateTaskRuns", inputs=inputs)
        claimed = await self.ask("ClaimTaskRuns", taskKeys=[key], limit=10, waitSeconds=1)
        leases = [each["leaseId"] for each in claimed]
        if leases:
            await self.ask("AcknowledgeTaskRuns", leaseIds=leases)
            await self.ask("RenewTaskRunLeases", leaseIds=leases)
        for each in claimed[1:]:
            for type_ in ("RUNNING", "COMPLETED"):
                await self.ask(
                    "SetTaskRunState", id=each["taskRun"]["id"], leaseId=each["leaseId"], state={"type": type_}
                )
        if leases:
            await self.ask("ReleaseTaskRuns", leaseIds=leases[:1], delaySeconds=1)

    async def look(self) -> None:
        now = datetime.now(UTC)
        page = {"first": 50, "filter": {"taskKey": {"any": KEYS[:3]}, "tags": {"any": TAGS[:1]}}}
        await self.ask("ListTaskRuns", **page)
        await self.ask("ListFlowRuns", first=20)
        span = {"start": (now - timedelta(minutes=5)).isoformat(), "end": now.isoformat()}
        await self.ask("GetTaskRunHistory", **span, intervalSeconds=10)
        await self.ask("ListTaskQueues")

    async def err(self) -> None:
        """Documents that nobody sent before, among them, so that what is kept of documents is pushed out."""
        for query in (
            "{ nothing" + str(self.chance.random())[2:] + " }",
            f"query Q{self.chance.randrange(10**9)} {{ taskRuns(first: 2) {{ nodes {{ id }} }} }}",
            "{ unfinished",
        ):
            response = await self.http.post("/graphql", json={"query": query})
            self._looked_at(query, response.content)
        await self.ask("SetTaskRunState", id="00000000-0000-0000-0000-000000000000", state={"type": "RUNNING"})
        await self.ask("CreateTaskRun", input={"taskKey": ""})
        await self.http.post("/graphql", content=b"{", headers={"content-type": "application/json"})

    async def work_on_a_socket(self) -> None:
        """Subscribe, take what comes, and go: by the protocol, or without a word."""
        socket = await connect(self.address, subprotocols=["graphql-transport-ws"], proxy=None)  # type: ignore[list-item]
        await socket.send('{"type":"connection_init"}')
        for id, operation, variables in (
            ("1", "ScheduledTaskRuns", {"taskKeys": KEYS, "prefetch": 5, "workerName": "soak"}),
            ("2", "TaskRunStateChanges", {"filter": {"taskKey": {"any": KEYS[:2]}}}),
        ):
            payload = {"query": document(operation)[0], "variables": variables}
            await socket.send(orjson.dumps({"id": id, "type": "subscribe", "payload": payload}).decode())
        with suppress(TimeoutError):
            async with asyncio.timeout(self.chance.uniform(0.1, 1.0)):
                while True:
                    message = orjson.loads(await socket.recv())
                    self.answers["answered"] += 1
                    if message["type"] == "error" or "errors" in message.get("payload", ()):
                        self.faults.append(f"socket: {message}")
        if self.chance.random() < 0.5:
            await socket.close()
        else:
            socket.transport.abort()

    async def listen_to_a_stream(self) -> None:
        """The feed as server-sent events, dropped while it goes on."""
        body = {"query": document("TaskRunStateChanges")[0]}
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(self.chance.uniform(0.1, 1.0)),
                self.http.stream("POST", "/graphql", json=body, headers={"accept": "text/event-stream"}) as response,
            ):
                async for _ in response.aiter_lines():
                    self.answers["answered"] += 1

    async def clean(self) -> None:
        """Delete what is older than a while."""
        before = (datetime.now(UTC) - timedelta(seconds=KEPT_SECONDS)).isoformat()
        while await self._deleted(before) == 1000:
            continue

    async def _deleted(self, before: str) -> int:
        return (await self.ask("DeleteTaskRuns", filter={"created": {"before": before}}, limit=1000))["count"]


ACTIVITIES: dict[Callable[[Load], Awaitable[None]], int] = {
    Load.create_and_finish: 8,
    Load.create_many: 1,
    Load.deliver: 4,
    Load.look: 2,
    Load.err: 3,
    Load.work_on_a_socket: 2,
    Load.listen_to_a_stream: 1,
}
"""How often each comes up."""


async def _client(load: Load, pause_seconds: float) -> None:
    activities, weights = list(ACTIVITIES), list(ACTIVITIES.values())
    while True:
        await load.chance.choices(activities, weights)[0](load)
        await asyncio.sleep(pause_seconds)


async def _cleaner(load: Load) -> None:
    while True:
        await asyncio.sleep(5)
        await load.clean()


async def soak(server: ServerProcess, minutes: float, clients: int, *, pause_seconds: float, row_seconds: float) -> int:
    """Put the load on the server, and print a row for each minute, and how the last differs from the second.

    The number of faults: answers that no well-behaved server gives.
    """
    address = f"127.0.0.1:{server.port}"
    limits = httpx.Limits(keepalive_expiry=3.0)
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE, limits=limits) as http:
        load = Load(http, f"ws://{address}/graphql", random.Random(1))  # noqa: S311 - load, no secret
        rows = [await _row(server, load, 0.0, 0.0)]
        print("  ".join(f"{name:>9}" for name in COLUMNS))
        _print(rows[0])
        began = measured_at = time.monotonic()
        work = [asyncio.create_task(_client(load, pause_seconds)) for _ in range(clients)]
        work.append(asyncio.create_task(_cleaner(load)))
        while time.monotonic() - began < minutes * 60:
            done, _ = await asyncio.wait(work, timeout=row_seconds, return_when=asyncio.FIRST_EXCEPTION)
            for each in done:
                each.result()
            now = time.monotonic()
            rows.append(await _row(server, load, now - began, now - measured_at))
            measured_at = now
            _print(rows[-1])
        for each in work:
            each.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    if len(rows) > 3:
        print("from the second row to the last: " + ", ".join(_grown(rows[1], rows[-1])))
    for fault in load.faults[:20]:
        print(fault, file=sys.stderr)
    print(f"{len(load.faults)} faults")
    return len(load.faults)


async def _row(server: ServerProcess, load: Load, at: float, seconds: float) -> dict[str, float]:
    figures = (await load.http.get("/observed")).json()
    count = await load.ask("CountTaskRuns")
    answers, load.answers = load.answers, Counter[str]()
    return {
        "minute": at / 60,
        "MiB": server.memory_mib(),
        "files": server.process.num_fds(),
        "threads": figures["threads"],
        "tasks": figures["tasks"],
        "objects": figures["objects"],
        "lag ms": figures["lag_seconds"] * 1000,
        "answers/s": answers.total() / seconds if seconds else 0,
        "refused": answers["refused"],
        "runs": count,
    }


def _print(row: dict[str, float]) -> None:
    print("  ".join(f"{row[name]:>9.1f}" if name == "minute" else f"{row[name]:>9.0f}" for name in COLUMNS), flush=True)


def _grown(first: dict[str, float], last: dict[str, float]) -> list[str]:
    return [f"{name} {last[name] - first[name]:+,.0f}" for name in COLUMNS[1:6]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=6, help="how many do something at a time; the default is 6")
    parser.add_argument("--pause", type=float, default=0.02, help="how many seconds each waits in between")
    parser.add_argument("--row-seconds", type=float, default=60)
    parser.add_argument(
        "--database-url", help="an empty database; `postgresql` is one of its own; left out, a SQLite file"
    )
    given = parser.parse_args()
    with ExitStack() as opened:
        url = _prepared(given.database_url, opened)
        server = opened.enter_context(serving(["benchmarks.observed"], COLD, RUNYARD_DATABASE_URL=url))
        options = {"pause_seconds": given.pause, "row_seconds": given.row_seconds}
        faults = uvloop.run(soak(server, given.minutes, given.clients, **options))
    sys.exit(1 if faults else 0)


def _prepared(url: str | None, opened: ExitStack) -> str:
    """The URL of a migrated database."""
    if url is None:
        folder = opened.enter_context(TemporaryDirectory(prefix="runyard-soak-"))
        url = f"sqlite+aiosqlite:///{folder}/runyard.db"
    elif url == "postgresql":
        url = opened.enter_context(postgresql())
    if url.startswith("sqlite"):
        migrations.upgrade_sqlite(Path(url.partition(":///")[2]))
        return url
    migrations.upgrade_postgresql(url.replace("+asyncpg", ""))
    return url.replace("postgresql://", "postgresql+asyncpg://")


if __name__ == "__main__":
    main()

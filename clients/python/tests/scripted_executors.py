"""Executors whose runs end when a test says so, and a worker that uses them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from runyard_client.transport.http import Transport
from runyard_client.transport.tokens import TokenSource
from runyard_client.worker.coordinator.coordinator import Coordinator
from runyard_client.worker.messages import ExecutorHost, OnDeath, OnMessage, Outcome, Pool, ReadyMessage
from runyard_client.worker.settings import WorkerSettings

TIMEOUT_SECONDS = 30.0


def describe_task(key: str, **changes: Any) -> Any:
    """Return the `TaskDescription` of a task on the event loop."""
    defaults = {"pool": "loop", "group": "default", "leaseSeconds": None, "exclusive": False, "grace": None}
    return {"key": key, **defaults, **changes}


class ScriptedLink:
    """An executor that records its messages. A run ends by `finish`, or at once with the outcome of `respond`."""

    def __init__(
        self,
        *tasks: Any,
        capacity: int = 2,
        pool: Pool = "main",
        respond: Callable[[Any], Outcome | None] = lambda _: None,
    ) -> None:
        self.capacity, self.pool, self.respond = capacity, pool, respond
        self.tasks = [describe_task(each) if isinstance(each, str) else each for each in tasks]
        self.messages: list[Any] = []
        self.is_closed = False
        self.answers_pings = True
        self._changed = asyncio.Condition()

    async def start(self, on_message: OnMessage, on_death: OnDeath) -> ReadyMessage:
        self.emit, self.die = on_message, on_death
        return {"type": "ready", "tasks": self.tasks, "pid": 0}

    def send(self, message: Any) -> None:
        self.messages.append(message)
        asyncio.get_running_loop().create_task(self._notify())
        if message["type"] == "start" and (outcome := self.respond(message)):
            asyncio.get_running_loop().call_soon(self.finish, message["lease"], outcome)
        if message["type"] == "ping" and self.answers_pings:
            self.emit({"type": "pong", "number": message["number"], "onLoop": []})

    async def close(self, grace: float) -> None:
        self.is_closed = True

    def finish(self, lease: str, outcome: Outcome | None = None) -> None:
        """End a run, by default with the result 1."""
        outcome = outcome or {"state": {"type": "COMPLETED", "data": {"result": 1}}}
        self.emit({"type": "done", "lease": lease, "outcome": outcome, "seconds": 0.0, "memoryMib": 0.0})

    def received(self, type: str, **values: Any) -> list[Any]:
        """Return the messages of a type with these values."""
        return [each for each in self.messages if each["type"] == type and values.items() <= each.items()]

    async def wait_for(self, type: str, count: int = 1, **values: Any) -> list[Any]:
        """Wait for as many messages of a type with these values, and return them."""
        async with asyncio.timeout(TIMEOUT_SECONDS), self._changed:
            return await self._changed.wait_for(
                lambda: found if len(found := self.received(type, **values)) >= count else None
            )

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class FixedExecutors:
    """Starts links and never replaces them. A link that dies is lost."""

    def __init__(self, *links: ScriptedLink) -> None:
        self.links = links

    async def start(self, host: ExecutorHost) -> None:
        for link in self.links:
            ready = await link.start(
                lambda message, link=link: host.receive(link, message),
                lambda reason, link=link: host.lose_executor(link, reason),
            )
            host.add_executor(link, ready)

    async def close(self, grace: float) -> None:
        for link in self.links:
            await link.close(grace)


class ScriptedWorker:
    """A coordinator that runs in the test's event loop, with scripted executors."""

    def __init__(self, url: str, *links: ScriptedLink, **settings: Any) -> None:
        defaults: dict[str, Any] = {
            "name": "scripted",
            "max_back_off_seconds": 0.2,
            "claim_settle_seconds": 0.0,
        }
        self.transport = Transport(url, TokenSource(settings.pop("token", None)))
        self.settings = WorkerSettings(**defaults | settings)
        self.coordinator = Coordinator(self.transport, FixedExecutors(*links), self.settings)
        self.task = asyncio.ensure_future(self.coordinator.run())

    async def stop(self) -> int:
        """Drain the worker and return its exit code."""
        self.coordinator.request_stop()
        return await self.exit_code()

    async def exit_code(self) -> int:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await self.task


@asynccontextmanager
async def scripted_worker(url: str, *links: ScriptedLink, **settings: Any) -> AsyncIterator[ScriptedWorker]:
    """Run a worker for the duration of the block."""
    worker = ScriptedWorker(url, *links, **settings)
    try:
        yield worker
    finally:
        worker.task.cancel()
        await asyncio.gather(worker.task, return_exceptions=True)
        await worker.transport.close()


class Client:
    """Creates and reads runs, without the client under test."""

    def __init__(self, url: str) -> None:
        self.transport = Transport(url, TokenSource())

    async def create(self, key: str, count: int = 1, **values: Any) -> list[str]:
        """Create runs that are due and return their ids."""
        item = {"taskKey": key, "state": {"type": "SCHEDULED"}, **values}
        payload = await self.transport.execute("CreateTaskRuns", {"inputs": [item] * count})
        return [each["taskRun"]["id"] for each in payload["results"]]

    async def read(self, run_id: str) -> Any:
        return await self.transport.execute("GetTaskRun", {"id": run_id})

    async def wait_ended(self, *run_ids: str) -> list[Any]:
        """Wait until these runs have ended and return them in their order."""
        ended: dict[str, Any] = {}
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while rest := [each for each in run_ids if each not in ended]:
                payload = await self.transport.execute("EndedTaskRuns", {"ids": rest, "waitSeconds": 10})
                ended |= {each["id"]: each for each in payload["ended"]}
        return [ended[each] for each in run_ids]

    async def cancel(self, run_id: str) -> None:
        await self.transport.execute("CancelTaskRuns", {"filter": {"id": {"in": [run_id]}}})

    async def claim(self, key: str, wait_seconds: float = 20) -> list[Any]:
        """Claim a run as another worker would."""
        variables = {"taskKeys": [key], "waitSeconds": wait_seconds, "start": True, "workerName": "other"}
        payload = await self.transport.execute("ClaimTaskRuns", variables)
        return list(payload["deliveries"])


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Client]:
    client = Client(url)
    try:
        yield client
    finally:
        await client.transport.close()

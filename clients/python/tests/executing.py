"""Executors without a server: the messages of a coordinator, and those of the executors."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from runyard_client import Runyard
from runyard_client.worker.executors.child_process import ChildSettings
from runyard_client.worker.executors.executor import Executor
from runyard_client.worker.executors.links import ChildLink, ProcessSlotLink
from runyard_client.worker.executors.loading import load_app
from runyard_client.worker.executors.task_table import describe_tasks

APP = f"{Path(__file__).with_name('executor_app.py')}:app"
WAIT_SECONDS = 30.0

leases = count(1)


def make_app(**options: Any) -> Runyard:
    """An app whose server is never asked."""
    return Runyard("http://127.0.0.1:9", **options)


def start_message(
    key: str, parameters: Any = None, *, run_count: int = 1, retries: int = 0, **run: Any
) -> dict[str, Any]:
    """The message with which a coordinator starts a run of this key."""
    lease = f"lease-{next(leases)}"
    task_run = {
        "id": f"run-of-{lease}",
        "name": f"name-of-{lease}",
        "taskKey": key,
        "parameters": parameters or {},
        "runCount": run_count,
        "tags": ["tag"],
        "createdAt": "2026-11-30T12:00:00+00:00",
        "retryPolicy": {"retries": retries},
        **run,
    }
    expires = "2026-11-30T12:01:00+00:00"
    return {
        "type": "start",
        "lease": lease,
        "run": task_run,
        "delivery": 1,
        "leaseExpiresAt": expires,
        "worker": "mill",
    }


class Peer:
    """A coordinator's view of one executor."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._arrived = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.send: Callable[[dict[str, Any]], None] = self.messages.append

    def receive(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        task = asyncio.get_running_loop().create_task(self._wake())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def die(self, reason: str) -> None:
        self.receive({"type": "death", "reason": reason})

    async def _wake(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()

    async def next(self, type: str, **fields: Any) -> dict[str, Any]:
        """The first message of this type with these fields, once it has arrived. It is taken away."""

        def find() -> dict[str, Any] | None:
            wanted = {"type": type, **fields}
            return next((each for each in self.messages if wanted.items() <= each.items()), None)

        async with asyncio.timeout(WAIT_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: find() is not None)
            message = find()
        assert message is not None
        self.messages.remove(message)
        return message

    def start(self, key: str, parameters: Any = None, **run: Any) -> str:
        """Start a run and return its lease."""
        message = start_message(key, parameters, **run)
        self.send(message)
        return message["lease"]

    def cancel(self, lease: str, reason: str = "cancelled") -> None:
        self.send({"type": "cancel", "lease": lease, "reason": reason})

    async def outcome(self, lease: str) -> Any:
        """The outcome of a run, once it has ended."""
        return (await self.next("done", lease=lease))["outcome"]

    async def execute(self, key: str, parameters: Any = None, **run: Any) -> Any:
        """Start a run and return its outcome."""
        return await self.outcome(self.start(key, parameters, **run))

    async def state(self, key: str, parameters: Any = None, **run: Any) -> Any:
        """Start a run and return the state that it reports."""
        return (await self.execute(key, parameters, **run))["state"]


@asynccontextmanager
async def executing(app: Runyard, concurrency: int = 4, **settings: Any) -> AsyncIterator[Peer]:
    """An executor on the loop of the test."""
    peer = Peer()
    executor = Executor(app, concurrency=concurrency, send=peer.receive, settings=ChildSettings(**settings))
    peer.send = executor.receive
    running = asyncio.create_task(executor.run())
    try:
        await peer.next("ready")
        yield peer
    finally:
        executor.receive({"type": "stop"})
        async with asyncio.timeout(WAIT_SECONDS):
            await running


@asynccontextmanager
async def child(capacity: int = 4, app: str = APP, **settings: Any) -> AsyncIterator[tuple[ChildLink, Peer]]:
    """A child process with the tasks of `executor_app`."""
    link, peer = ChildLink(app, capacity=capacity, settings=ChildSettings(**settings)), Peer()
    await link.start(peer.receive, peer.die)
    peer.send = link.send
    try:
        yield link, peer
    finally:
        await link.close(0)


@asynccontextmanager
async def process_slot(app: str = APP, **settings: Any) -> AsyncIterator[tuple[ProcessSlotLink, Peer]]:
    """A place for one run of the pool `process` of `executor_app`."""
    link, peer = ProcessSlotLink(app, tasks=describe_tasks(load_app(APP)), settings=ChildSettings(**settings)), Peer()
    await link.start(peer.receive, peer.die)
    peer.send = link.send
    try:
        yield link, peer
    finally:
        await link.close(0)


async def wait_for_line(path: Path, text: str | None = None) -> str:
    """The last line of a file, once it is there and has this text."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            lines = path.read_text().splitlines() if path.exists() else []  # noqa: ASYNC240 - a tiny file
            if lines and text in (None, lines[-1]):
                return lines[-1]
            await asyncio.sleep(0.01)

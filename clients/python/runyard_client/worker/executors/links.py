"""The coordinator's ends of the executors: a child process, this process, or a process for one run at a time.

Each class is an `ExecutorLink`. All methods and callbacks run on the coordinator's loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from runyard_client.worker.executors.child_process import ChildProcess, ChildSettings, child_arguments, describe_exit
from runyard_client.worker.executors.mailbox import Mailbox
from runyard_client.worker.executors.process_slot import ProcessSlotLink
from runyard_client.worker.messages import ExecutorFailed, OnDeath, OnMessage, Pool, ReadyMessage

if TYPE_CHECKING:
    from runyard_client.app import Runyard

CANCEL_SECONDS = 1.0
"""How long a cancelled executor in this process has to report its runs: the loop may be blocked."""

__all__ = ["ChildLink", "ChildSettings", "LocalLink", "ProcessSlotLink"]


class ChildLink:
    """A spawned child with an event loop and `capacity` threads, for the pools `loop` and `thread`.

    After `send({"type": "stop"})` the child ends when it is idle, which is no death. `on_death` is called, with a reason
    such as `signal 9`, if it ends in any other way without `close`, or while it has runs.
    """

    pool: Pool = "main"

    def __init__(self, app: str, *, capacity: int, settings: ChildSettings | None = None) -> None:
        """`app` is `MODULE:APP`, which the child imports and this process does not."""
        self.app, self.capacity, self.settings = app, capacity, settings or ChildSettings()
        self.leases: set[str] = set()
        """Leases of the runs that were started and are not done."""
        self.is_stopping = False
        self._is_closed = False

    @property
    def pid(self) -> int:
        """Id of the child's process."""
        return self._process.pid

    async def start(self, on_message: OnMessage, on_death: OnDeath) -> ReadyMessage:
        """Start the child and wait until it has imported the app and its start hooks have ended.

        Raises ExecutorFailed if it ends before. A cancelled call kills the child.
        """
        loop = asyncio.get_running_loop()
        self._on_message, self._on_death = on_message, on_death
        self._ready: asyncio.Future[ReadyMessage] = loop.create_future()
        self._process = ChildProcess(loop, self._receive, self._end)
        self._process.spawn(self.app, child_arguments(self.settings, "main", self.capacity))
        try:
            return await self._ready
        except BaseException:
            await self.close(0)
            raise

    def send(self, message: Any) -> None:
        """Send a message without waiting. Messages to a child that has died are dropped."""
        if message["type"] == "start":
            self.leases.add(message["lease"])
        self.is_stopping = self.is_stopping or message["type"] == "stop"
        self._process.send(message)

    async def close(self, grace: float) -> None:
        """End the child: `stop`, then SIGKILL after `grace` seconds. Does not call `on_death`."""
        self._is_closed = True
        self.send({"type": "stop"})
        try:
            async with asyncio.timeout(grace):
                await self._process.exited.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.exited.wait()

    async def wait_ended(self) -> None:
        """Wait until the process has ended."""
        await self._process.exited.wait()

    def _receive(self, message: Any) -> None:
        if not self._ready.done():
            accept_first_message(self._ready, message)
            return
        if message["type"] == "done":
            self.leases.discard(message["lease"])
        self._on_message(message)

    def _end(self, code: int) -> None:
        reason = describe_exit(code)
        if not self._ready.done():
            self._ready.set_exception(ExecutorFailed(f"The executor ended before it was ready: {reason}."))
        elif not self._is_closed and (self.leases or not self.is_stopping):
            self._on_death(reason)


class LocalLink:
    """An executor in this process: `loop` runs the tasks of the pool `loop`, and `capacity` threads those of `thread`.

    The coordinator's loop runs on another thread: a blocked `loop` does not delay renewals. Threads that do not stop
    continue after `close`: their runs are reported as stopped.
    """

    pool: Pool = "main"

    def __init__(
        self, app: Runyard, *, capacity: int, loop: asyncio.AbstractEventLoop, settings: ChildSettings | None = None
    ) -> None:
        self.app, self.capacity, self.loop, self.settings = app, capacity, loop, settings or ChildSettings()
        self.leases: set[str] = set()
        self.is_stopping = False
        self._is_closed = False

    async def start(self, on_message: OnMessage, on_death: OnDeath) -> ReadyMessage:
        """Run the start hooks on `loop` and return what `ready` has. Raises ExecutorFailed if a hook fails."""
        from runyard_client.worker.executors.executor import Executor  # noqa: PLC0415 - a parent with children does not need it

        here = asyncio.get_running_loop()
        self._on_message, self._on_death = on_message, on_death
        self._ready: asyncio.Future[ReadyMessage] = here.create_future()
        self._ended = asyncio.Event()
        self._incoming, self._outgoing = Mailbox(here), Mailbox(self.loop)
        self._executor = Executor(self.app, concurrency=self.capacity, send=self._post_here, settings=self.settings)
        self._running = asyncio.run_coroutine_threadsafe(self._executor.run(), self.loop)
        self._running.add_done_callback(lambda _: self._incoming.post(self._end))
        return await self._ready

    def send(self, message: Any) -> None:
        """Send a message without waiting."""
        if message["type"] == "start":
            self.leases.add(message["lease"])
        self.is_stopping = self.is_stopping or message["type"] == "stop"
        self._outgoing.post(self._executor.receive, message)

    async def close(self, grace: float) -> None:
        """Stop the executor; cancel what is left after `grace` seconds. Does not call `on_death`."""
        self._is_closed = True
        self.send({"type": "stop"})
        try:
            async with asyncio.timeout(grace):
                await self._ended.wait()
        except TimeoutError:
            self._running.cancel()
            await asyncio.wait([asyncio.ensure_future(self._ended.wait())], timeout=CANCEL_SECONDS)

    async def wait_ended(self) -> None:
        """Wait until the executor has ended."""
        await self._ended.wait()

    def _post_here(self, message: Any) -> None:
        self._incoming.post(self._receive, message)

    def _receive(self, message: Any) -> None:
        if not self._ready.done():
            accept_first_message(self._ready, message)
            return
        if message["type"] == "done":
            self.leases.discard(message["lease"])
        self._on_message(message)

    def _end(self) -> None:
        self._ended.set()
        error = None if self._running.cancelled() else self._running.exception()
        reason = f"{type(error).__name__}: {error}" if error else "the executor was cancelled"
        if not self._ready.done():
            self._ready.set_exception(ExecutorFailed(f"The executor ended before it was ready: {reason}."))
        elif not self._is_closed and (self.leases or not self.is_stopping):
            self._on_death(reason)


def accept_first_message(ready: asyncio.Future[ReadyMessage], message: Any) -> None:
    """Resolve `ready` with the message `ready`, or with ExecutorFailed for `failed`."""
    if message["type"] == "ready":
        ready.set_result(message)
    else:
        ready.set_exception(ExecutorFailed(message["error"], message["traceback"]))

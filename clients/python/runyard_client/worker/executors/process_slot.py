"""The coordinator's end of a process that runs one task of the pool `process` at a time."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from runyard_client.worker.executors.child_process import ChildProcess, ChildSettings, child_arguments, describe_exit
from runyard_client.worker.executors.outcomes import stopped
from runyard_client.worker.messages import OnDeath, OnMessage, Outcome, Pool, ReadyMessage, TaskDescription

logger = logging.getLogger("runyard_client.worker")


@dataclass(slots=True)
class StartedRun:
    """The run that the slot executes."""

    message: dict[str, Any]
    started: float
    stop_reason: str | None = None
    is_sent: bool = False


class ProcessSlotLink:
    """A place for one run of the pool `process`. Its child is spawned at the first run and kept for the next ones.

    Timeouts are judged here, since the child may be unable to. A run that must stop gets the message at once; its
    process gets SIGTERM after the task's `grace`, and SIGKILL after as long again. A child that was ended in this way
    is no death: the run is `done`, and the next run gets another child. Any other end of the child within a run is
    reported by `on_death`.
    """

    pool: Pool = "process"
    capacity: int = 1

    def __init__(self, app: str, *, tasks: list[TaskDescription], settings: ChildSettings | None = None) -> None:
        """`app` is `MODULE:APP`; `tasks` are those of the `ready` message of another executor."""
        self.app, self.settings = app, settings or ChildSettings()
        self.tasks = {task["key"]: task for task in tasks}
        self.is_stopping = False
        self._is_closed = False
        self._child: ChildProcess | None = None
        self._is_ready = False
        self._run: StartedRun | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._ended = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Id of the child's process; None without one."""
        return self._child.pid if self._child else None

    @property
    def leases(self) -> set[str]:
        """The lease of the run that was started and is not done, if there is one."""
        return {self._run.message["lease"]} if self._run else set()

    async def start(self, on_message: OnMessage, on_death: OnDeath) -> ReadyMessage:
        """Return at once: the child is spawned at the first run."""
        self._loop = asyncio.get_running_loop()
        self._on_message, self._on_death = on_message, on_death
        return {"type": "ready", "tasks": list(self.tasks.values()), "pid": 0}

    def send(self, message: Any) -> None:
        """Send a message without waiting."""
        match message["type"]:
            case "start":
                self._start_run(message)
            case "cancel":
                if message["lease"] in self.leases:
                    self._stop_run(message["reason"])
            case "ping":
                self._on_message({"type": "pong", "number": message["number"], "onLoop": []})
            case "stop":
                self.is_stopping = True
                self._stop_if_idle()
            case _:
                self._forward(message)

    async def close(self, grace: float) -> None:
        """End the child: `stop`, then SIGKILL after `grace` seconds. Does not call `on_death`."""
        self._is_closed = self.is_stopping = True
        self._stop_if_idle()
        try:
            async with asyncio.timeout(grace):
                await self._ended.wait()
        except TimeoutError:
            if self._child:
                self._child.kill()
                await self._child.exited.wait()

    async def wait_ended(self) -> None:
        """Wait until the child has ended after `stop`."""
        await self._ended.wait()

    def _start_run(self, message: dict[str, Any]) -> None:
        if self._run is not None:
            raise RuntimeError("A process slot runs one run at a time.")
        self._run = StartedRun(message, self._loop.time())
        if self._child is None:
            self._is_ready = False
            self._child = ChildProcess(self._loop, self._receive, self._end)
            self._child.spawn(self.app, child_arguments(self.settings, "process", 1))
        elif self._is_ready:
            self._begin(self._run)

    def _begin(self, run: StartedRun) -> None:
        """Send the run to the child. Its timeout counts from here."""
        run.is_sent = True
        self._forward(run.message)
        timeout = self._task_of(run).get("timeout")
        if timeout is not None:
            self._timers.append(self._loop.call_later(timeout, self._stop_run, "timeout"))

    def _stop_run(self, reason: str) -> None:
        run = self._run
        if run is None:
            return
        is_first = run.stop_reason is None
        if is_first or reason == "lease_lost":
            run.stop_reason = reason
        if not run.is_sent:
            self._finish(stopped_outcome(run, None))
            return
        self._forward({"type": "cancel", "lease": run.message["lease"], "reason": run.stop_reason})
        if is_first:
            self._schedule_kill(run)

    def _schedule_kill(self, run: StartedRun) -> None:
        grace = self._task_of(run).get("grace")
        grace = self.settings.kill_after_seconds if grace is None else grace
        assert self._child is not None
        self._timers.append(self._loop.call_later(grace, self._child.terminate))
        self._timers.append(self._loop.call_later(2 * grace, self._child.kill))

    def _receive(self, message: Any) -> None:
        match message["type"]:
            case "ready":
                self._is_ready = True
                if self._run:
                    self._begin(self._run)
                else:
                    self._stop_if_idle()
            case "failed":
                logger.error("A process cannot import %s: %s\n%s", self.app, message["error"], message["traceback"])
            case "done":
                self._finish(message["outcome"], message)
            case _:
                self._on_message(message)

    def _finish(self, outcome: Outcome, message: dict[str, Any] | None = None) -> None:
        run = self._run
        if run is None or (message and message["lease"] != run.message["lease"]):
            return
        self._run = None
        self._clear_timers()
        seconds = self._loop.time() - run.started
        done = {"type": "done", "lease": run.message["lease"], "seconds": seconds, "memoryMib": 0.0}
        self._on_message({**done, **(message or {}), "outcome": outcome})
        self._stop_if_idle()

    def _end(self, code: int) -> None:
        self._clear_timers()
        self._child, self._is_ready = None, False
        run = self._run
        if run is not None and not self._is_closed:
            if run.stop_reason is not None:
                self._finish(stopped_outcome(run, self._task_of(run).get("timeout")))
            else:
                self._run = None
                self._on_death(describe_exit(code))
        self._stop_if_idle()

    def _stop_if_idle(self) -> None:
        if not self.is_stopping or self._run is not None:
            return
        if self._child is None:
            self._ended.set()
        else:
            self._forward({"type": "stop"})

    def _forward(self, message: Any) -> None:
        if self._child is not None:
            self._child.send(message)

    def _clear_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _task_of(self, run: StartedRun) -> Any:
        return self.tasks.get(run.message["run"]["taskKey"]) or {}


def stopped_outcome(run: StartedRun, timeout: float | None) -> Outcome:
    """Outcome of a run whose process was ended because the run had to stop."""
    return stopped(
        run.stop_reason,
        timeout=timeout,
        attempt=run.message["run"].get("runCount") or 1,
        worker=run.message["worker"],
    )

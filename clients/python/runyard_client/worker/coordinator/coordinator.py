"""The coordinator: it claims runs for the executors of a worker, keeps their leases and reports their ends.

It runs on one event loop on which no code of the user runs: a task cannot delay the renewal of its lease.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from runyard_client.worker.coordinator.claims import ClaimPolicy, WaitingClaims
from runyard_client.worker.coordinator.connection_policy import EXIT_FAILED, Connection, Requests, WorkerExit
from runyard_client.worker.coordinator.drain import Drain
from runyard_client.worker.coordinator.exchange import Exchanges
from runyard_client.worker.coordinator.exclusive import ExclusiveRuns
from runyard_client.worker.coordinator.executor_pools import ExecutorPool, ExecutorSlots, HeldRun, select_tasks
from runyard_client.worker.coordinator.health import HealthCheck, describe_health
from runyard_client.worker.coordinator.pings import Pings
from runyard_client.worker.coordinator.progress_reports import ProgressReports
from runyard_client.worker.coordinator.releases import Releases
from runyard_client.worker.coordinator.renewals import Renewals
from runyard_client.worker.coordinator.reports import Reports, describe_death
from runyard_client.worker.coordinator.signals import LeaseSignals
from runyard_client.worker.messages import (
    CancelReason,
    ExecutorFailed,
    ExecutorHost,
    ExecutorLink,
    Outcome,
    ReadyMessage,
    TaskDescription,
)
from runyard_client.worker.settings import WorkerSettings

logger = logging.getLogger("runyard_client.worker")


class Executors(Protocol):
    """The executors of a worker, which are started and replaced by a supervisor."""

    async def start(self, host: ExecutorHost) -> None:
        """Start the executors and add them to the host. Raises ExecutorFailed if the first ones cannot be started."""
        ...

    async def close(self, grace: float) -> None:
        """End all executors: `stop`, then by force after `grace` seconds."""
        ...


class Coordinator:
    """Runs one worker. All methods are called on the loop of `run`.

    Args:
        clock: monotonic time in seconds.
        chance: returns a random number from 0 to 1.
    """

    def __init__(
        self,
        transport: Requests,
        executors: Executors,
        settings: WorkerSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings
        self.connection = Connection(transport, settings, clock=clock, chance=chance)
        self.main, self.process = ExecutorPool("main"), ExecutorPool("process")
        self.pools = [self.main, self.process]
        self.tasks: dict[str, TaskDescription] = {}
        self.held: dict[str, HeldRun] = {}
        self.reports = Reports()
        self.started = asyncio.Event()
        """Set when the executors have started and claims begin."""
        self._executors, self._clock = executors, clock
        self._slots: dict[int, ExecutorSlots] = {}
        self._is_draining = False
        self._failure: asyncio.Future[int] | None = None
        self._policy = ClaimPolicy(settings, self.reports, self.pools)
        self.renewals = Renewals(
            self.held, settings, self.connection, self._apply_lease_state, clock=clock, chance=chance
        )
        self._signals = LeaseSignals(self.held, settings, self.connection, self._apply_lease_state)
        self._progress = ProgressReports(self.held, settings, self.connection, self._apply_lease_state)
        self._releases = Releases(self.connection, self._note_answer, self._may_release)
        self._pings = Pings(self.pools, self.tasks, settings, self._handle_blocked)
        self._exclusive = ExclusiveRuns(self.held, self.cancel, clock=clock)
        self._drain = Drain(self, settings, clock=clock)
        self._claims = [
            WaitingClaims(pool, self._policy, settings, self.connection, self._accept) for pool in self.pools
        ]
        self._exchanges = Exchanges(
            self.pools,
            self.reports,
            self.renewals,
            self._policy,
            settings,
            self.connection,
            self._accept,
            lambda: bool(self.held),
            self._note_answer,
            clock=clock,
        )

    async def run(self) -> int:
        """Work until a drain has finished or the worker must exit. Return the exit code.

        0: the server knows about all runs. 1: it may not know about some, or the executors do not start. 3: the token
        was refused.
        """
        self._failure = asyncio.get_running_loop().create_future()
        grace = 0.0
        loops: list[asyncio.Task[None]] = []
        try:
            await self._executors.start(self)
            loops = [asyncio.create_task(self._guard(each)) for each in self._loops()]
            self.started.set()
            self._wake_claims()
            is_told = await self._drain_or_fail()
            grace = self.settings.stop_seconds if is_told else 0.0
            return 0 if is_told else EXIT_FAILED
        except WorkerExit as error:
            logger.error("%s", error)
            return error.code
        except ExecutorFailed as error:
            logger.error("The worker cannot start: %s%s", error, f"\n{error.traceback}" if error.traceback else "")
            return EXIT_FAILED
        finally:
            for each in loops:
                each.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await self._executors.close(grace)

    def request_stop(self) -> None:
        """Begin the drain; the second time, release the runs; the third time, exit."""
        self._drain.request()

    def add_executor(self, link: ExecutorLink, ready: ReadyMessage) -> None:
        """Give runs to an executor that has started."""
        slots = ExecutorSlots(link)
        self._slots[id(link)] = slots
        pool = self.process if link.pool == "process" else self.main
        pool.executors.append(slots)
        if link.pool == "main" or not self.tasks:
            self._set_tasks(ready)
        if self._is_draining:
            link.send({"type": "drain"})
        self._wake_claims()

    def retire_executor(self, link: ExecutorLink) -> None:
        """Give no further runs to an executor. Its runs continue; then it is removed."""
        if slots := self._slots.get(id(link)):
            slots.is_retiring = True
            self._end_retired(slots)
            self._handle_blocked()

    def lose_executor(self, link: ExecutorLink, reason: str) -> None:
        """Remove an executor that has died, and report its runs as FAILED."""
        slots = self._slots.get(id(link))
        if slots is None:
            return
        self._remove(slots)
        for held in list(slots.runs.values()):
            logger.error("%s (%s): its process has died: %s", held.name, held.key, reason)
            state = describe_death(reason, attempt=int(held.run.get("runCount") or 0), worker=self.settings.name)
            self._end(held, {"release": 0.0} if held.reason == "drained" else {"state": state})
        self._handle_blocked()

    def fail(self, message: str) -> None:
        """End the worker with exit code 1."""
        self._exit(WorkerExit(EXIT_FAILED, message))

    def receive(self, link: ExecutorLink, message: Any) -> None:
        """Handle a message of an executor."""
        slots = self._slots.get(id(link))
        if slots is None:
            return
        match message["type"]:
            case "done":
                if held := slots.runs.get(message["lease"]):
                    self._end(held, message["outcome"])
            case "progress":
                if message["lease"] in self.held:
                    self._progress.add(message)
            case "pong":
                self._pings.receive(slots, message)
            case "lost_slots":
                slots.lost_slots = message["count"]
            case _:
                logger.debug("An executor sent a message of the unknown type %s.", message["type"])

    def cancel(self, held: HeldRun, reason: CancelReason) -> None:
        """Send the executor of a run the message to stop it. The first reason counts, unless the lease is lost later."""
        if held.reason == reason or held.is_lost or (held.reason and reason in ("cancelled", "drained")):
            return
        held.reason = reason
        held.executor.link.send({"type": "cancel", "lease": held.lease, "reason": reason})

    def _accept(self, pool: ExecutorPool, deliveries: list[dict[str, Any]]) -> None:
        """Start the runs that were claimed. Those that cannot start are released."""
        now = self._clock()
        for delivery in deliveries:
            task = self.tasks.get(delivery["taskRun"]["taskKey"])
            slots = pool.find_free()
            if task is None or slots is None or self._is_draining:
                self._releases.add(delivery["leaseId"], 0.0)
            else:
                self._start(delivery, task, slots, now)
        self._note_answer()

    def _start(self, delivery: dict[str, Any], task: TaskDescription, slots: ExecutorSlots, now: float) -> None:
        lease, run = delivery["leaseId"], delivery["taskRun"]
        lease_seconds = task.get("leaseSeconds") or self.settings.default_lease_seconds
        is_exclusive = task.get("exclusive", False)
        due = self.renewals.plan_confirmation(now, at_once=is_exclusive)
        held = HeldRun(lease, run, delivery["attempt"], slots, lease_seconds, is_exclusive, now, due)
        self.held[lease] = slots.runs[lease] = held
        if is_exclusive:
            self._exclusive.watch(held)
        slots.link.send(
            {
                "type": "start",
                "lease": lease,
                "run": run,
                "delivery": delivery["attempt"],
                "leaseExpiresAt": delivery["leaseExpiresAt"],
                "worker": self.settings.name,
            }
        )

    def _end(self, held: HeldRun, outcome: Outcome) -> None:
        """Free the slot of a run, and report or release it."""
        slots = held.executor
        del slots.runs[held.lease]
        del self.held[held.lease]
        if held.reason == "lease_ended":
            self._releases.add(held.lease, 0.0)
        elif held.reason == "lease_lost":
            pass  # the run belongs to another worker, or was deleted
        else:
            self._tell(held, outcome)
        for pool in self.pools:
            pool.is_exhausted = False
        self._end_retired(slots)
        self._note_answer()

    def _tell(self, held: HeldRun, outcome: Any) -> None:
        if "state" in outcome:
            self.reports.add(held.run["id"], held.name, held.lease, outcome["state"])
        elif "release" in outcome:
            self._releases.add(held.lease, outcome["release"])

    def _apply_lease_state(self, held: HeldRun, result: dict[str, Any]) -> None:
        """Handle what the server says about a lease."""
        if result.get("status") == "LOST":
            if not held.is_lost:
                logger.warning(
                    "%s (%s): its lease has ended, because the run was cancelled, deleted or delivered again. Its work is"
                    " stopped.",
                    held.name,
                    held.key,
                )
            self.cancel(held, "lease_lost")
            return
        if result.get("cancelRequested"):
            self.cancel(held, "cancelled")
        expires_at = result.get("leaseExpiresAt")
        if expires_at and held.is_confirmed:
            held.executor.link.send({"type": "renewed", "lease": held.lease, "leaseExpiresAt": expires_at})
            self._signals.watch(held)

    def stop_claims(self) -> None:
        """Claim nothing more, and notify the executors that the worker stops."""
        self._is_draining = self._policy.is_stopped = True
        for claims in self._claims:
            claims.interrupt()
        for slots in self._slots.values():
            slots.link.send({"type": "drain"})

    def has_runs(self) -> bool:
        """Return whether runs are executing."""
        return bool(self.held)

    def is_told(self) -> bool:
        """Return whether the server has responded to all reports and releases."""
        return not (self._is_claiming() or self.reports.unanswered or self._releases.unanswered)

    def _is_claiming(self) -> bool:
        return any(pool.claimed_slots for pool in self.pools)

    def _may_release(self) -> bool:
        """Return whether no claim of this worker, which is about to stop, could get the released runs."""
        return not (self._is_draining and self._is_claiming())

    def stop_runs(self) -> None:
        """Cancel all runs. They are released when they have stopped."""
        for held in list(self.held.values()):
            self.cancel(held, "drained")

    async def kill_runs(self) -> None:
        """End the executors of runs that have not stopped, and release the runs."""
        stuck = {id(held.executor.link): held.executor for held in self.held.values()}
        await asyncio.gather(*(slots.link.close(0) for slots in stuck.values()))
        for slots in stuck.values():
            self._remove(slots)
            for held in list(slots.runs.values()):
                self._end(held, {"release": 0.0})

    def _loops(self) -> Iterable[Coroutine[Any, Any, None]]:
        yield from (claims.run() for claims in self._claims)
        for part in (self._exchanges, self.renewals, self._signals, self._releases, self._progress, self._pings):
            yield part.run()
        if self.settings.health is not None:
            yield HealthCheck(self.settings.health, self._find_problem).run()

    def _find_problem(self) -> str | None:
        limit = 2 * max(self.settings.default_lease_seconds, self.settings.claim_wait_seconds)
        return describe_health(self._clock() - self.connection.answered_at, limit, self.pools)

    async def _guard(self, loop: Coroutine[Any, Any, None]) -> None:
        try:
            await loop
        except Exception as error:  # noqa: BLE001 - `run` raises it
            self._exit(error)

    def _exit(self, error: Exception) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)

    async def _drain_or_fail(self) -> bool:
        assert self._failure is not None
        drain = asyncio.ensure_future(self._drain.run())
        both: list[asyncio.Future[Any]] = [drain, self._failure]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                self._failure.result()
            return drain.result()
        finally:
            drain.cancel()

    def _set_tasks(self, ready: ReadyMessage) -> None:
        settings = self.settings
        selected = select_tasks(ready["tasks"], settings.groups, settings.tasks, settings.except_)
        self.tasks.clear()
        self.tasks.update(selected)
        for pool in self.pools:
            is_process = pool is self.process
            pool.task_keys = [key for key, task in selected.items() if (task["pool"] == "process") is is_process]

    def _remove(self, slots: ExecutorSlots) -> None:
        self._slots.pop(id(slots.link), None)
        for pool in self.pools:
            if slots in pool.executors:
                pool.executors.remove(slots)

    def _end_retired(self, slots: ExecutorSlots) -> None:
        if slots.is_retiring and not slots.runs:
            self._remove(slots)

    def _handle_blocked(self) -> None:
        """Adapt the claims after the number of free slots has changed without a claim."""
        for pool, claims in zip(self.pools, self._claims, strict=True):
            if pool.claimed_slots > pool.free:
                claims.interrupt()
        self._wake_claims()

    def _wake_claims(self) -> None:
        for pool in self.pools:
            pool.wake.set()

    def _note_answer(self) -> None:
        """Continue after a run has ended or a response has arrived."""
        self._wake_claims()
        self._releases.wake()
        self._drain.notify()
        self._check_once()

    def _check_once(self) -> None:
        """Begin the drain of a worker that executes what is due, when nothing is."""
        if not self.settings.once or self._is_draining or self.held or self._releases.unanswered:
            return
        pools = [pool for pool in self.pools if pool.task_keys and pool.executors]
        if all(pool.is_exhausted for pool in pools) and not self.reports.unanswered:
            self._drain.request()

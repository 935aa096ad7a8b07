"""Keeps one executor in place: replaces it after its death, and before it is recycled or reloaded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from runyard_client.transport.back_off import BackOff
from runyard_client.worker.executors.links import ChildLink, LocalLink, ProcessSlotLink
from runyard_client.worker.executors.recycling import RecyclingPolicy
from runyard_client.worker.messages import ExecutorFailed, ReadyMessage

HEALTHY_SECONDS = 10.0
"""A child that has lived for this time is replaced at once after its death."""
MAX_EARLY_DEATHS = 5

Link = ChildLink | LocalLink | ProcessSlotLink

logger = logging.getLogger("runyard_client.worker")


class SupervisorEvents(Protocol):
    """Notifications for the coordinator. All methods are called on its loop and must not raise."""

    def on_ready(self, link: Link, ready: ReadyMessage) -> None:
        """`link` may get runs from now on."""

    def on_retiring(self, link: Link) -> None:
        """`link` must get no further runs: it is recycled or reloaded. Messages for its runs are still exchanged."""

    def on_message(self, link: Link, message: Any) -> None:
        """`link` has sent a message."""

    def on_death(self, link: Link, reason: str) -> None:
        """`link` has died, and its runs with it. It gets no further messages; a successor follows with `on_ready`."""

    def on_gone(self, link: Link) -> None:
        """A retiring `link` has ended without runs."""

    def on_giving_up(self, reason: str) -> None:
        """Five children in a row have died within 10 seconds of their starts: the worker ends with exit code 1."""


class Supervisor:
    """Owns the link of one executor and its successors. All methods must be called on the coordinator's loop.

    A link of the pool `process` is replaced without delay and without limit, since its next run starts another process.
    """

    def __init__(
        self,
        make_link: Callable[[], Link],
        events: SupervisorEvents,
        *,
        recycling: RecyclingPolicy | None = None,
        back_off: BackOff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_link, self._events, self._clock = make_link, events, clock
        self._recycling = recycling or RecyclingPolicy()
        self._back_off = back_off or BackOff()
        self.link: Link | None = None
        """The executor that gets new runs; None while its successor starts."""
        self._started_at = 0.0
        self._early_deaths = 0
        self._runs = 0
        self._is_closing = False
        self._is_replacing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._retiring: set[Link] = set()

    async def start(self) -> ReadyMessage:
        """Start the first executor. Raises ExecutorFailed if the app cannot be imported or a start hook fails."""
        return await self._start_link()

    async def replace(self, grace: float | None = None) -> None:
        """Start a successor, then let the current executor end what it has and exit.

        After `grace` seconds, its runs are stopped and released. Returns when the successor is ready. Raises ExecutorFailed
        if it cannot start: the current executor stays. Does nothing while a replacement is in progress.
        """
        if self.link is None or self._is_replacing or self._is_closing:
            return
        self._is_replacing = True
        try:
            await self._start_link(grace)
        finally:
            self._is_replacing = False
            self._restart_if_missing()

    async def close(self, grace: float) -> None:
        """End all executors of this place: `stop`, then by force after `grace` seconds."""
        self._is_closing = True
        for task in self._tasks:
            task.cancel()
        links = [*self._retiring, *([self.link] if self.link else [])]
        await asyncio.gather(*(link.close(grace) for link in links), *self._tasks, return_exceptions=True)

    async def _start_link(self, grace: float | None = None) -> ReadyMessage:
        """Start an executor and retire its predecessor, if that still lives."""
        link = self._make_link()
        started_at = self._clock()
        ready = await link.start(
            lambda message: self._receive(link, message), lambda reason: self._end(link, reason, started_at)
        )
        predecessor, self.link, self._runs = self.link, link, 0
        self._events.on_ready(link, ready)
        if predecessor is not None:
            self._retire(predecessor, grace)
        return ready

    def _receive(self, link: Link, message: Any) -> None:
        self._events.on_message(link, message)
        if link is not self.link:
            return
        if message["type"] == "done":
            self._runs += 1
            if self._recycling.is_due(self._runs, message["memoryMib"]):
                self._replace_soon(link, f"after {self._runs:,} runs, with {message['memoryMib']:,.0f} MiB")
        elif message["type"] == "lost_slots" and 2 * message["count"] >= link.capacity:
            self._replace_soon(link, f"because {message['count']} of its {link.capacity} threads do not stop")

    def _replace_soon(self, link: Link, reason: str) -> None:
        if self._is_replacing or self._is_closing or isinstance(link, LocalLink):
            return
        logger.info("Replacing process %s %s", link.pid, reason)
        self._spawn(self._try_to_replace())

    async def _try_to_replace(self) -> None:
        try:
            await self.replace()
        except ExecutorFailed as error:
            logger.error("The successor of a process cannot start: %s", error)

    def _retire(self, link: Link, grace: float | None) -> None:
        self._retiring.add(link)
        self._events.on_retiring(link)
        link.send({"type": "drain"})
        link.send({"type": "stop"})
        self._spawn(self._wait_retired(link, grace))

    async def _wait_retired(self, link: Link, grace: float | None) -> None:
        try:
            async with asyncio.timeout(grace):
                await link.wait_ended()
        except TimeoutError:
            for lease in list(link.leases):
                link.send({"type": "cancel", "lease": lease, "reason": "drained"})
            await link.wait_ended()
        if link in self._retiring:
            self._retiring.discard(link)
            self._events.on_gone(link)

    def _end(self, link: Link, reason: str, started_at: float) -> None:
        if self._is_closing:
            return
        self._events.on_death(link, reason)
        if link in self._retiring:
            self._retiring.discard(link)
        elif link is self.link:
            self.link = None
            self._count_death(link, started_at)
            if self._early_deaths >= MAX_EARLY_DEATHS:
                self._events.on_giving_up(reason)
            elif not self._is_replacing:
                self._spawn(self._restart())

    def _count_death(self, link: Link, started_at: float) -> None:
        is_early = link.pool == "main" and self._clock() - started_at < HEALTHY_SECONDS
        self._early_deaths = self._early_deaths + 1 if is_early else 0
        if not is_early:
            self._back_off.reset()

    def _restart_if_missing(self) -> None:
        """Start an executor if the current one died while its successor failed to start."""
        if self.link is None and not self._is_closing:
            self._spawn(self._restart())

    async def _restart(self) -> None:
        while not self._is_closing:
            if self._early_deaths:
                await asyncio.sleep(self._back_off.next_delay())
            try:
                await self._start_link()
            except ExecutorFailed as error:
                logger.error("The successor of a process cannot start: %s", error)
                self._early_deaths += 1
                if self._early_deaths >= MAX_EARLY_DEATHS:
                    self._events.on_giving_up(str(error))
                    return
            else:
                return

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

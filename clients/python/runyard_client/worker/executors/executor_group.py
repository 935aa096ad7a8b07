"""All executors of a worker, each kept in place by a supervisor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from runyard_client.worker.executors.child_process import ChildSettings
from runyard_client.worker.executors.links import ChildLink, ProcessSlotLink
from runyard_client.worker.executors.recycling import RecyclingPolicy
from runyard_client.worker.executors.supervisor import Link, Supervisor
from runyard_client.worker.messages import ExecutorHost, ReadyMessage
from runyard_client.worker.settings import WorkerSettings

logger = logging.getLogger("runyard_client.worker")


class HostEvents:
    """Passes the events of a supervisor to the coordinator."""

    def __init__(self, host: ExecutorHost) -> None:
        self._host = host

    def on_ready(self, link: Link, ready: ReadyMessage) -> None:
        self._host.add_executor(link, ready)

    def on_retiring(self, link: Link) -> None:
        self._host.retire_executor(link)

    def on_message(self, link: Link, message: Any) -> None:
        self._host.receive(link, message)

    def on_death(self, link: Link, reason: str) -> None:
        self._host.lose_executor(link, reason)

    def on_gone(self, link: Link) -> None:
        self._host.lose_executor(link, "the process has ended")

    def on_giving_up(self, reason: str) -> None:
        self._host.fail(f"Executors cannot be kept running: {reason}")


class ExecutorGroup:
    """Starts the executors of the pool `main`, then those of the pool `process` if the app has tasks for them.

    `make_main` returns an executor of the pool `main` with a number of slots; `reference` returns MODULE:APP, which the
    processes of the pool `process` import.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        make_main: Callable[[int], Link],
        reference: Callable[[], str],
    ) -> None:
        self._settings, self._make_main, self._reference = settings, make_main, reference
        self._supervisors: list[Supervisor] = []
        self._reloading: asyncio.Task[None] | None = None

    async def start(self, host: ExecutorHost) -> None:
        """Start the executors and add them to the host. Raises ExecutorFailed if the first ones cannot be started."""
        events = HostEvents(host)
        for slots in split_slots(self._settings.concurrency, max(1, self._settings.processes)):
            self._add(events, self._main_maker(slots), recycling_of(self._settings))
        ready = (await asyncio.gather(*(each.start() for each in self._supervisors)))[0]
        if any(task["pool"] == "process" for task in ready["tasks"]):
            await self._start_process_slots(events, ready)
        if self._settings.reload is not None:
            self._reloading = asyncio.create_task(self._reload(ready))

    async def close(self, grace: float) -> None:
        """End all executors: `stop`, then by force after `grace` seconds."""
        if self._reloading is not None:
            self._reloading.cancel()
        await asyncio.gather(*(each.close(grace) for each in self._supervisors))

    async def _start_process_slots(self, events: HostEvents, ready: ReadyMessage) -> None:
        reference, settings = self._reference(), child_settings(self._settings)
        for _ in range(self._settings.cpu_processes):
            maker = lambda: ProcessSlotLink(reference, tasks=ready["tasks"], settings=settings)  # noqa: E731
            await self._add(events, maker, None).start()

    def _main_maker(self, slots: int) -> Callable[[], Link]:
        return lambda: self._make_main(slots)

    def _add(self, events: HostEvents, make_link: Callable[[], Link], recycling: RecyclingPolicy | None) -> Supervisor:
        supervisor = Supervisor(make_link, events, recycling=recycling)
        self._supervisors.append(supervisor)
        return supervisor

    async def _reload(self, ready: ReadyMessage) -> None:
        from runyard_client.worker.executors.reload import reload_on_changes, watch_files  # noqa: PLC0415 - for `--reload` only

        folders = [self._settings.reload] if self._settings.reload else ready.get("folders", [])
        changes: AsyncIterator[set[str]] = watch_files(folders)
        await reload_on_changes(changes, [each.replace for each in self._supervisors])


def make_child(settings: WorkerSettings, reference: str) -> Callable[[int], Link]:
    """Return a function that makes child processes for MODULE:APP."""
    return lambda slots: ChildLink(reference, capacity=slots, settings=child_settings(settings))


def child_settings(settings: WorkerSettings) -> ChildSettings:
    """Return the settings that executors need."""
    return ChildSettings(
        log_format=settings.log_format,
        uvloop=settings.uvloop,
        cancel_repeat_seconds=settings.cancel_repeat_seconds,
        kill_after_seconds=settings.kill_after_seconds,
        report_folders=settings.reload is not None,
    )


def recycling_of(settings: WorkerSettings) -> RecyclingPolicy | None:
    if settings.recycle_runs is None and settings.recycle_mib is None:
        return None
    return RecyclingPolicy(settings.recycle_runs, settings.recycle_mib)


def split_slots(concurrency: int, processes: int) -> list[int]:
    """Divide slots among processes, at least one each."""
    share, rest = divmod(max(concurrency, processes), processes)
    return [share + (number < rest) for number in range(processes)]

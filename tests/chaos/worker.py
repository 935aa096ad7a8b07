"""A worker process for chaos tests: executes runs and records all its requests and responses in a journal.

Unlike a correct worker, it ignores lost leases and continues to report under them.
`python -m tests.chaos.worker NAME KIND SEED LEASE_SECONDS JOURNAL URL...`; SIGUSR1 drops its WebSocket, or the connection
of its current claim.
"""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

from websockets.exceptions import WebSocketException

from tests.chaos.evidence import Journal
from tests.chaos.lease_requests import KEYS, LeaseRequests, Report
from tests.chaos.requests import OutcomeUnknown
from tests.client import Client, Socket

PREFETCH = 4
MAX_CONCURRENT_RUNS = 6
CLAIM_WAIT_SECONDS = 2.0

KINDS = ("subscribe", "subscribe with start", "claim with start", "exchange")
"""How a worker receives runs: over a subscription, by claims over HTTP, or by exchanges, which report and renew too."""


class ChaosWorker:
    def __init__(self, name: str, kind: str, requests: LeaseRequests, rng: Random) -> None:
        self._name = name
        self._kind = kind
        self._starts = kind != "subscribe"
        self._requests = requests
        self._rng = rng
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_RUNS)
        self._held: dict[str, str] = {}
        """Run ids by the leases under which runs are executed."""
        self._reports: list[Report] = []
        """What the next exchange reports."""
        self._has_reports = asyncio.Event()
        self._socket: Socket | None = None

    async def work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            if self._kind == "exchange":
                await self._exchange(tasks)
            tasks.create_task(self._renew_leases(tasks))
            await (self._claim(tasks) if self._kind == "claim with start" else self._subscribe(tasks))

    def drop_connection(self) -> None:
        if self._socket is not None:
            self._socket.connection.transport.abort()
        self._requests.disconnect()

    async def _subscribe(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            try:
                async with Client(self._requests.client.url()).socket() as self._socket:
                    await self._receive(self._socket, tasks)
            except (WebSocketException, OSError, TimeoutError):
                self._socket = None
            await self._requests.pause()

    async def _receive(self, socket: Socket, tasks: asyncio.TaskGroup) -> None:
        await socket.subscribe(
            "ScheduledTaskRuns",
            taskKeys=KEYS,
            prefetch=PREFETCH,
            leaseSeconds=self._requests.lease_seconds,
            workerName=self._name,
            start=self._starts,
        )
        execute = self._execute_started if self._starts else self._execute
        while (message := await socket.receive())["type"] == "next":
            for delivery in message["payload"]["data"]["scheduledTaskRuns"]:
                self._requests.note_delivery(delivery, is_started=self._starts)
                tasks.create_task(self._execute_when_free(execute, delivery))

    async def _claim(self, tasks: asyncio.TaskGroup) -> None:
        """Claim as many runs as there are free places, again and again."""
        while True:
            if (limit := MAX_CONCURRENT_RUNS - len(self._held)) == 0:
                await self._requests.pause()
                continue
            try:
                deliveries = await self._requests.claim_started(limit, CLAIM_WAIT_SECONDS)
            except OutcomeUnknown:
                await self._requests.pause()
                continue
            for delivery in deliveries:
                self._held[delivery["leaseId"]] = delivery["taskRun"]["id"]
                tasks.create_task(self._execute_when_free(self._execute_started, delivery))

    async def _exchange(self, tasks: asyncio.TaskGroup) -> None:
        """Exchange what has ended for new runs, at least every fourth part of the lease time."""
        while True:
            reports = list(self._reports)
            try:
                deliveries = await self._requests.exchange(
                    reports, self._held, max(0, MAX_CONCURRENT_RUNS - len(self._held))
                )
            except OutcomeUnknown:
                await self._requests.pause()
                continue
            del self._reports[: len(reports)]
            for delivery in deliveries:
                self._held[delivery["leaseId"]] = delivery["taskRun"]["id"]
                tasks.create_task(self._execute_for_exchange(delivery))
            if not self._reports:
                self._has_reports.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._has_reports.wait(), self._requests.lease_seconds / 4)

    async def _execute_for_exchange(self, delivery: dict[str, Any]) -> None:
        run, lease = delivery["taskRun"], delivery["leaseId"]
        await asyncio.sleep(run["parameters"]["seconds"])
        del self._held[lease]
        self._reports.append(Report.of(run, lease, _final_type(run, run["runCount"] - 1)))
        self._has_reports.set()

    async def _execute_when_free(self, execute: Callable[..., Any], delivery: dict[str, Any]) -> None:
        run, lease = delivery["taskRun"], delivery["leaseId"]
        async with self._slots:
            self._held[lease] = run["id"]
            try:
                await execute(run, lease)
            finally:
                del self._held[lease]

    async def _execute(self, run: dict[str, Any], lease: str) -> None:
        roll = self._rng.random()
        if roll < 0.2:
            await self._requests.change_leases("AcknowledgeTaskRuns", "ACKNOWLEDGE", {lease: run["id"]})
        if roll < 0.4:
            await self._requests.propose(run, lease, "PENDING")
        status = await self._requests.propose(run, lease, "RUNNING")
        if status == "WAIT":
            await self._requests.change_leases("ReleaseTaskRuns", "RELEASE", {lease: run["id"]}, delaySeconds=1)
        if status != "ACCEPT":
            return
        await self._finish(run, lease, run["runCount"])

    async def _execute_started(self, run: dict[str, Any], lease: str) -> None:
        """Execute a run that its claim has started. Renew it first, or let a later renewal or the report confirm it."""
        if self._rng.random() < 0.5:
            await self._renew({lease: run["id"]}, None, attempts=5)
        await self._finish(run, lease, run["runCount"] - 1)

    async def _finish(self, run: dict[str, Any], lease: str, earlier_attempts: int) -> None:
        await asyncio.sleep(run["parameters"]["seconds"])
        if self._rng.random() < 0.02:
            await self._requests.change_leases("ReleaseTaskRuns", "RELEASE", {lease: run["id"]})
        await self._requests.propose(run, lease, _final_type(run, earlier_attempts))

    async def _renew_leases(self, tasks: asyncio.TaskGroup) -> None:
        """Renew at intervals, by each server in turn, and do not wait for servers that do not respond."""
        for url in cycle(self._requests.client.urls):
            await asyncio.sleep(self._requests.lease_seconds / 4)
            if self._held:
                tasks.create_task(self._renew(dict(self._held), url))

    async def _renew(self, held: dict[str, str], url: str | None, *, attempts: int = 1) -> None:
        await self._requests.change_leases(
            "RenewTaskRunLeases",
            "RENEW",
            held,
            leaseSeconds=self._requests.lease_seconds,
            attempts=attempts,
            url=url,
        )


def _final_type(run: dict[str, Any], earlier_attempts: int) -> str:
    return "FAILED" if earlier_attempts < run["parameters"]["failures"] else "COMPLETED"


async def main(name: str, kind: str, seed: str, lease_seconds: str, journal: str, *urls: str) -> None:
    rng = Random(int(seed))  # noqa: S311 - a seed must reproduce the test
    requests = LeaseRequests(name, rng, float(lease_seconds), Journal(Path(journal)), urls)
    worker = ChaosWorker(name, kind, requests, rng)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, worker.drop_connection)
    await worker.work()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

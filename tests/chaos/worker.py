"""A worker for chaos, as a process: carries runs out as they say, whatever happens, and notes all it sends and is told.

It is worse than a worker should be: it never believes that a lease is lost, and goes on to report under it.
`python -m tests.chaos.worker NAME SEED LEASE_SECONDS JOURNAL URL...`; SIGUSR1 cuts its WebSocket.
"""

import asyncio
import signal
import sys
import time
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

from websockets.exceptions import WebSocketException

from tests.chaos.evidence import Journal
from tests.chaos.requests import Asker, Unanswered
from tests.client import Client, Socket

KEYS = ["a", "b", "c", "d", "e"]
PREFETCH = 4
AT_ONCE = 6


class ChaosWorker:
    def __init__(self, name: str, seed: int, lease_seconds: float, journal: Journal, urls: list[str]) -> None:
        self._name = name
        self._chance = Random(seed)  # noqa: S311 - it has to be the same again
        self._lease_seconds = lease_seconds
        self._journal = journal
        self._asker = Asker(urls, self._chance, journal)
        self._places = asyncio.Semaphore(AT_ONCE)
        self._held: dict[str, str] = {}
        self._socket: Socket | None = None

    async def work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())
            while True:
                try:
                    async with Client(self._asker.url()).socket() as self._socket:
                        await self._receive(self._socket, tasks)
                except (WebSocketException, OSError, TimeoutError):
                    self._socket = None
                await asyncio.sleep(self._chance.uniform(0.02, 0.3))

    def cut(self) -> None:
        if self._socket is not None:
            self._socket.connection.transport.abort()

    async def _receive(self, socket: Socket, tasks: asyncio.TaskGroup) -> None:
        await socket.subscribe(
            "ScheduledTaskRuns",
            taskKeys=KEYS,
            prefetch=PREFETCH,
            leaseSeconds=self._lease_seconds,
            workerName=self._name,
        )
        while (message := await socket.receive())["type"] == "next":
            for delivery in message["payload"]["data"]["scheduledTaskRuns"]:
                run, lease = delivery["taskRun"], delivery["leaseId"]
                self._journal.note(
                    "claim",
                    at=time.time(),
                    worker=self._name,
                    run=run["id"],
                    lease=lease,
                    attempt=delivery["attempt"],
                )
                tasks.create_task(self._take(run, lease))

    async def _take(self, run: dict[str, Any], lease: str) -> None:
        async with self._places:
            self._held[lease] = run["id"]
            try:
                await self._carry_out(run, lease)
            finally:
                del self._held[lease]

    async def _carry_out(self, run: dict[str, Any], lease: str) -> None:
        way = self._chance.random()
        if way < 0.2:
            await self._lease_request("AcknowledgeTaskRuns", "ACKNOWLEDGE", {lease: run["id"]})
        if way < 0.4:
            await self._propose(run, lease, "PENDING")
        status = await self._propose(run, lease, "RUNNING")
        if status == "WAIT":
            await self._lease_request("ReleaseTaskRuns", "RELEASE", {lease: run["id"]}, delaySeconds=1)
        if status != "ACCEPT":
            return
        await asyncio.sleep(run["parameters"]["seconds"])
        if self._chance.random() < 0.02:
            await self._lease_request("ReleaseTaskRuns", "RELEASE", {lease: run["id"]})
        has_failed = run["runCount"] < run["parameters"]["failures"]
        await self._propose(run, lease, "FAILED" if has_failed else "COMPLETED")

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / 4)
            if self._held:
                held = dict(self._held)
                await self._lease_request(
                    "RenewTaskRunLeases", "RENEW", held, leaseSeconds=self._lease_seconds, tries=1
                )

    async def _propose(self, run: dict[str, Any], lease: str, type: str) -> str:
        """Propose the state until there is an answer; its status."""
        transition = str(uuid4())
        named = {"run": run["id"], "lease": lease, "kind": type, "transition": transition}
        state = {"type": type, "details": {"transitionId": transition}}
        while True:
            sent_at = time.time()
            self._journal.note("attempt", sent_at=sent_at, **named)
            try:
                answer = await self._asker.ask("SetTaskRunState", id=run["id"], leaseId=lease, state=state)
            except Unanswered:
                await asyncio.sleep(self._chance.uniform(0.02, 0.3))
                continue
            status, created = answer["status"], answer["created"]
            self._journal.note("verdict", sent_at=sent_at, status=status, created=created, **named)
            return status

    async def _lease_request(
        self, operation: str, kind: str, leases: dict[str, str], *, tries: int = 5, **variables: object
    ) -> None:
        for _ in range(tries):
            sent_at = time.time()
            for lease, run in leases.items():
                self._journal.note("attempt", sent_at=sent_at, run=run, lease=lease, kind=kind)
            try:
                results = await self._asker.ask(operation, leaseIds=list(leases), **variables)
            except Unanswered:
                await asyncio.sleep(self._chance.uniform(0.02, 0.3))
                continue
            for each in results:
                named = {"run": leases[each["leaseId"]], "lease": each["leaseId"], "kind": kind}
                self._journal.note("verdict", sent_at=sent_at, status=each["status"], created=False, **named)
            return


async def main(name: str, seed: str, lease_seconds: str, journal: str, *urls: str) -> None:
    worker = ChaosWorker(name, int(seed), float(lease_seconds), Journal(Path(journal)), list(urls))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, worker.cut)
    await worker.work()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

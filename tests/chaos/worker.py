"""A worker process for chaos tests: executes runs and records all its requests and responses in a journal.

Unlike a correct worker, it ignores lost leases and continues to report under them.
`python -m tests.chaos.worker NAME SEED LEASE_SECONDS JOURNAL URL...`; SIGUSR1 drops its WebSocket.
"""

import asyncio
import signal
import sys
import time
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

from websockets.exceptions import WebSocketException

from tests.chaos.evidence import Journal
from tests.chaos.requests import OutcomeUnknown, ReplicaClient
from tests.client import Client, Socket

KEYS = ["a", "b", "c", "d", "e"]
PREFETCH = 4
MAX_CONCURRENT_RUNS = 6


class ChaosWorker:
    def __init__(self, name: str, seed: int, lease_seconds: float, journal: Journal, urls: list[str]) -> None:
        self._name = name
        self._rng = Random(seed)  # noqa: S311 - a seed must reproduce the test
        self._lease_seconds = lease_seconds
        self._journal = journal
        self._client = ReplicaClient(urls, self._rng, journal)
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_RUNS)
        self._held: dict[str, str] = {}
        self._socket: Socket | None = None

    async def work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew_leases(tasks))
            while True:
                try:
                    async with Client(self._client.url()).socket() as self._socket:
                        await self._receive(self._socket, tasks)
                except (WebSocketException, OSError, TimeoutError):
                    self._socket = None
                await asyncio.sleep(self._rng.uniform(0.02, 0.3))

    def drop_socket(self) -> None:
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
                tasks.create_task(self._execute_when_free(run, lease))

    async def _execute_when_free(self, run: dict[str, Any], lease: str) -> None:
        async with self._slots:
            self._held[lease] = run["id"]
            try:
                await self._execute(run, lease)
            finally:
                del self._held[lease]

    async def _execute(self, run: dict[str, Any], lease: str) -> None:
        roll = self._rng.random()
        if roll < 0.2:
            await self._lease_request("AcknowledgeTaskRuns", "ACKNOWLEDGE", {lease: run["id"]})
        if roll < 0.4:
            await self._propose(run, lease, "PENDING")
        status = await self._propose(run, lease, "RUNNING")
        if status == "WAIT":
            await self._lease_request("ReleaseTaskRuns", "RELEASE", {lease: run["id"]}, delaySeconds=1)
        if status != "ACCEPT":
            return
        await asyncio.sleep(run["parameters"]["seconds"])
        if self._rng.random() < 0.02:
            await self._lease_request("ReleaseTaskRuns", "RELEASE", {lease: run["id"]})
        has_failed = run["runCount"] < run["parameters"]["failures"]
        await self._propose(run, lease, "FAILED" if has_failed else "COMPLETED")

    async def _renew_leases(self, tasks: asyncio.TaskGroup) -> None:
        """Renew at intervals, by each server in turn, and do not wait for servers that do not respond."""
        for url in cycle(self._client.urls):
            await asyncio.sleep(self._lease_seconds / 4)
            if self._held:
                tasks.create_task(self._renew(dict(self._held), url))

    async def _renew(self, held: dict[str, str], url: str) -> None:
        await self._lease_request(
            "RenewTaskRunLeases", "RENEW", held, leaseSeconds=self._lease_seconds, attempts=1, url=url
        )

    async def _propose(self, run: dict[str, Any], lease: str, type: str) -> str:
        """Propose the state until there is a response, and return its status."""
        transition = str(uuid4())
        identity = {"run": run["id"], "lease": lease, "kind": type, "transition": transition}
        state = {"type": type, "details": {"transitionId": transition}}
        while True:
            sent_at = time.time()
            self._journal.note("attempt", sent_at=sent_at, **identity)
            try:
                result = await self._client.execute("SetTaskRunState", id=run["id"], leaseId=lease, state=state)
            except OutcomeUnknown:
                await asyncio.sleep(self._rng.uniform(0.02, 0.3))
                continue
            status, state_created = result["status"], result["stateCreated"]
            self._journal.note(
                "verdict",
                sent_at=sent_at,
                received_at=time.time(),
                status=status,
                state_created=state_created,
                **identity,
            )
            return status

    async def _lease_request(
        self,
        operation: str,
        kind: str,
        leases: dict[str, str],
        *,
        attempts: int = 5,
        url: str | None = None,
        **variables: object,
    ) -> None:
        for _ in range(attempts):
            sent_at = time.time()
            for lease, run in leases.items():
                self._journal.note("attempt", sent_at=sent_at, run=run, lease=lease, kind=kind)
            try:
                payload = await self._client.execute(operation, url=url, leaseIds=list(leases), **variables)
            except OutcomeUnknown:
                await asyncio.sleep(self._rng.uniform(0.02, 0.3))
                continue
            received_at = time.time()
            for each in payload["leases"]:
                self._journal.note(
                    "verdict",
                    sent_at=sent_at,
                    received_at=received_at,
                    run=leases[each["leaseId"]],
                    lease=each["leaseId"],
                    kind=kind,
                    status=each["status"],
                    state_created=False,
                )
            return


async def main(name: str, seed: str, lease_seconds: str, journal: str, *urls: str) -> None:
    worker = ChaosWorker(name, int(seed), float(lease_seconds), Journal(Path(journal)), list(urls))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, worker.drop_socket)
    await worker.work()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""Clients that wait for the ends of runs that they know, and record each response in a journal."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chaos.evidence import Journal
from tests.chaos.requests import TIMEOUT_SECONDS, OutcomeUnknown, ReplicaClient

WAIT_SECONDS = 10.0
"""`waitSeconds` of each query. Much longer than a waiting query may take to notice an end."""


@dataclass(slots=True)
class Waiters:
    """One waiting client for each group of runs."""

    client: ReplicaClient
    journal: Journal
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set["asyncio.Task[None]"])

    def start(self, ids: Sequence[str]) -> None:
        """Wait for the ends of these runs, until each has been reported."""
        for id in ids:
            self.journal.note("awaited", run=id)
        self._tasks.add(asyncio.create_task(self._wait(ids)))

    async def finish(self, timeout_seconds: float) -> None:
        """Wait until every end has been reported, for at most `timeout_seconds`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_seconds)

    async def stop(self) -> None:
        """End all waiting clients. Raises what a client has raised."""
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def _wait(self, ids: Sequence[str]) -> None:
        remaining = set(ids)
        while remaining:
            awaited, sent_at = sorted(remaining), time.time()
            try:
                payload = await self.client.execute(
                    "EndedTaskRuns",
                    timeout_seconds=WAIT_SECONDS + TIMEOUT_SECONDS,
                    ids=awaited,
                    waitSeconds=WAIT_SECONDS,
                )
            except OutcomeUnknown:
                await asyncio.sleep(0.1)
                continue
            ended = [[each["id"], each["stateType"], each["stateName"]] for each in payload["ended"]]
            self.journal.note(
                "wait",
                sent_at=sent_at,
                received_at=time.time(),
                runs=awaited,
                ended=ended,
                not_found=payload["notFound"],
                has_more=payload["hasMore"],
            )
            remaining -= {id for id, _, _ in ended}
            if not ended:
                # A server that stops responds at once.
                await asyncio.sleep(0.1)


@asynccontextmanager
async def run_waiters(urls: Sequence[str], seed: int, journal: Path) -> AsyncGenerator[Waiters]:
    """Provide waiting clients, and end them after the block."""
    rng = Random(seed)  # noqa: S311 - a seed must reproduce the test
    client = ReplicaClient(urls, rng, Journal(journal))
    waiters = Waiters(client, Journal(journal))
    try:
        yield waiters
    finally:
        await waiters.stop()
        await client.close()

"""A worker by hand: claims runs and reports their ends over GraphQL, without the worker of the client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from runyard_client.transport.http import Transport
from runyard_client.transport.tokens import TokenSource


class RawWorker:
    """Claims and ends the runs of one task key. It uses the event loop of the test."""

    def __init__(self, transport: Transport, task_key: str) -> None:
        self._transport = transport
        self.task_key = task_key

    async def claim(self, limit: int = 1) -> list[dict[str, Any]]:
        """Start up to `limit` runs that are due, waiting up to 30 seconds for the first."""
        claim = {"taskKeys": [self.task_key], "limit": limit, "waitSeconds": 30, "start": True}
        payload = await self._transport.execute("ClaimTaskRuns", claim, timeout=60)
        deliveries: list[dict[str, Any]] = payload["deliveries"]
        return deliveries

    async def end(self, deliveries: list[dict[str, Any]], **state: Any) -> None:
        """Report a state for started runs, such as `type="COMPLETED", data={"result": 1}`."""
        reports = [
            {
                "taskRunId": delivery["taskRun"]["id"],
                "leaseId": delivery["leaseId"],
                "state": {**state, "details": {"transitionId": str(uuid4())}},
            }
            for delivery in deliveries
        ]
        payload = await self._transport.execute("SetTaskRunStates", {"inputs": reports})
        assert [result["error"] for result in payload["results"]] == [None] * len(reports)

    async def complete(self, count: int = 1, result: Any = None) -> None:
        """Start this many runs and end them with a result."""
        while count > 0:
            deliveries = await self.claim(min(count, 500))
            await self.end(deliveries, type="COMPLETED", data={"result": result})
            count -= len(deliveries)


@asynccontextmanager
async def raw_worker(url: str, task_key: str) -> AsyncIterator[RawWorker]:
    """Provide a worker by hand for the duration of the block."""
    transport = Transport(url, TokenSource())
    try:
        yield RawWorker(transport, task_key)
    finally:
        await transport.close()

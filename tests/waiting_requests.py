"""Requests that wait on a server, and the number of those that are waiting."""

import asyncio
from typing import Any

from tests.client import TIMEOUT_SECONDS
from tests.serving import RunningServer

WAIT_SECONDS = 50.0
"""`waitSeconds` of the requests. Nothing else on a server waits for this time."""


async def start_waiting(
    server: RunningServer, operation: str, *, count: int = 1, **variables: Any
) -> "asyncio.Task[Any]":
    """Start the operation and wait until `count` operations wait on the server."""
    task = asyncio.create_task(server.client.execute(operation, waitSeconds=WAIT_SECONDS, **variables))
    await asyncio.wait_for(server.clock.wait_for_waiters(WAIT_SECONDS, count), TIMEOUT_SECONDS)
    return task


async def result_of(waiting: "asyncio.Task[Any]") -> Any:
    """Return the result of an operation that was waiting."""
    return await asyncio.wait_for(waiting, TIMEOUT_SECONDS)


def count_waiting(server: RunningServer) -> int:
    """Return the number of requests that wait on the server."""
    waits = server.services.waits
    return waits.ended_task_runs.request_count + waits.lease_signals.request_count


async def wait_until_none_waits(server: RunningServer) -> None:
    """Wait until no request waits on the server."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while count_waiting(server):
            await server.client.http.get("/healthz")

"""The health check of a worker: an HTTP server with one response."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runyard_client.worker.coordinator.executor_pools import ExecutorPool

REQUEST_SECONDS = 5.0


def describe_health(answered_seconds: float, limit_seconds: float, pools: list[ExecutorPool]) -> str | None:
    """Return why a worker is not healthy, or None if it is.

    Args:
        answered_seconds: time since the last response of the server.
        limit_seconds: how long a response may take.
    """
    if answered_seconds > limit_seconds:
        return f"no response from the server for {answered_seconds:.0f} seconds"
    lost = sum(each.lost_slots for pool in pools for each in pool.executors)
    slots = sum(pool.capacity for pool in pools)
    if lost and 2 * lost >= slots:
        return f"{lost} of {slots} slots are occupied by threads that do not stop"
    return None


class HealthCheck:
    """Responds to every request with 200, or with 503 and the reason that `problem` returns."""

    def __init__(self, address: str, problem: Callable[[], str | None]) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port, self._problem = host.strip("[]"), int(port), problem

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError if the address cannot be used."""
        server = await asyncio.start_server(self._answer, self._host, self._port)
        async with server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response())
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # the client is gone, or sends no HTTP
        finally:
            writer.close()

    def _response(self) -> bytes:
        problem = self._problem()
        body = (problem or "ok").encode() + b"\n"
        status = b"503 Service Unavailable" if problem else b"200 OK"
        head = b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        return head % (status, len(body)) + body

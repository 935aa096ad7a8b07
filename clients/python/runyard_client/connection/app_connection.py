"""An app's connection to the server: its transport, what it enqueues and what it waits for, on the background loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from runyard_client.connection.background import Background
from runyard_client.connection.enqueuing import Enqueuer, WhenFull
from runyard_client.connection.waiting import Waiter
from runyard_client.errors import Refused, ServerUnavailable
from runyard_client.transport.back_off import BackOff
from runyard_client.transport.http import Transport
from runyard_client.transport.tokens import TokenSource

RETRY_SECONDS = 10.0
"""How long a request of a handle is repeated without a response."""


class Connection:
    """The services of one app in one process. Methods may be called from any thread, except the coroutines."""

    def __init__(
        self, background: Background, url: str, tokens: TokenSource, *, enqueue_timeout: float, when_full: WhenFull
    ) -> None:
        self.background = background
        self._transport = Transport(url, tokens)
        loop = background.loop
        self.enqueuer = Enqueuer(loop, self._transport, timeout=enqueue_timeout, when_full=when_full)
        self.waiter = Waiter(loop, self._transport)
        background.services.add(self)

    def execute(self, operation: str, variables: Mapping[str, Any], timeout: float = RETRY_SECONDS) -> Future[Any]:
        """Execute an operation that may be repeated, for up to `timeout` seconds without a response."""
        return self.background.run(self._execute(operation, variables, timeout))

    def delete(self, id: str) -> Future[None]:
        """Delete a task run. A run that does not exist is no error: a repeated request finds it deleted."""
        return self.background.run(self._delete(id))

    async def _delete(self, id: str) -> None:
        try:
            await self._execute("DeleteTaskRun", {"id": id}, RETRY_SECONDS)
        except Refused as error:
            if error.code != "NOT_FOUND":
                raise

    async def _execute(self, operation: str, variables: Mapping[str, Any], timeout: float) -> Any:  # noqa: ASYNC109
        back_off = BackOff()
        deadline = time.monotonic() + timeout
        while True:
            try:
                return await self._transport.execute(
                    operation, variables, timeout=max(deadline - time.monotonic(), 1.0)
                )
            except ServerUnavailable as error:
                delay = back_off.next_delay() if error.retry_after is None else error.retry_after
                if time.monotonic() + delay >= deadline:
                    raise
            await asyncio.sleep(delay)

    async def close(self) -> None:
        """Wait for the responses to what was enqueued, end the waits, and close the connections."""
        self.background.services.discard(self)
        error = ServerUnavailable("The connection was closed before the server responded.")
        try:
            await self.enqueuer.finish()
        finally:
            self.enqueuer.fail_pending(error)
            await self.waiter.close(error)
            await self._transport.close()

    def is_of_this_process(self) -> bool:
        """Whether the background loop of this connection runs in this process. In a forked child, it does not."""
        return self.background.is_running()

    def abandon(self) -> None:
        """Forget the connections without closing them."""
        self._transport.abandon()

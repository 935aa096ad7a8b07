"""GraphQL over server-sent events, by the protocol graphql-sse, in its mode of distinct connections.

One request is one operation: each result is an event `next`, and an event `complete` says that there are no more. A comment
now and then keeps what lies between from taking the silence for the end. When the client goes away, its operation ends.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runyard.http.disconnects import until_gone
from runyard.http.responses import send_body

EVENT_STREAM = "text/event-stream"
COMPLETE = b"event: complete\ndata:\n\n"
COMMENT = b":\n\n"


class EventStream(Response):
    """A response that is as long as the operation."""

    media_type = EVENT_STREAM

    def __init__(
        self,
        results: AsyncGenerator[bytes, None],
        headers: dict[str, str],
        keep_alive_seconds: float,
        last_words: Callable[[], Coroutine[Any, Any, bytes]] | None = None,
    ) -> None:
        """`results` are JSON texts. As soon as there are `last_words`, the operation ends, and they are its last result."""
        self.status_code = 200
        self.background = None
        self._results = results
        self._keep_alive_seconds = keep_alive_seconds
        self._last_words = last_words
        self.init_headers(headers | {"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the operation is over, or the client goes away."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        streaming = asyncio.create_task(self._stream(send))
        leaving = asyncio.create_task(until_gone(receive))
        ending = None if self._last_words is None else asyncio.create_task(self._last_words())
        tasks: list[asyncio.Task[Any]] = [each for each in (streaming, leaving, ending) if each is not None]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in tasks:
                each.cancel()
            # The operation is over when it has given back what it held.
            await asyncio.gather(*tasks, return_exceptions=True)
        if not streaming.cancelled():
            streaming.result()
        elif ending is not None and not ending.cancelled():
            await send({"type": "http.response.body", "body": _event(ending.result()) + COMPLETE})

    async def _stream(self, send: Send) -> None:
        write = partial(send_body, send, more=True)
        commenting = asyncio.create_task(self._comment(write))
        try:
            async with aclosing(self._results) as results:
                async for result in results:
                    await write(_event(result))
        finally:
            commenting.cancel()
        await send_body(send, COMPLETE, more=False)

    async def _comment(self, write: Callable[[bytes], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(self._keep_alive_seconds)
            await write(COMMENT)


def _event(result: bytes) -> bytes:
    return b"event: next\ndata: " + result + b"\n\n"

"""GraphQL over Server-Sent Events: the protocol graphql-sse in distinct connections mode.

One request is one operation. Each result is an event `next`, and an event `complete` follows the last one. Comments at
regular intervals keep proxies from closing an idle connection. When the client disconnects, the operation ends.

A stream that ends because the server is stopping has no `complete`: clients such as graphql-sse and EventSource then
reconnect, and `complete` would end the subscription.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runyard.http.disconnects import wait_for_disconnect
from runyard.http.responses import send_body

EVENT_STREAM = "text/event-stream"
COMPLETE_EVENT = b"event: complete\ndata:\n\n"
KEEP_ALIVE_COMMENT = b":\n\n"


class EventStream(Response):
    """A streaming response that lasts as long as its operation."""

    media_type = EVENT_STREAM

    def __init__(
        self,
        open_results: Callable[[], Coroutine[Any, Any, AsyncGenerator[bytes, None]]],
        headers: dict[str, str],
        keep_alive_seconds: float,
        is_interrupted: Callable[[], bool],
        final_result: Callable[[], Coroutine[Any, Any, bytes]] | None = None,
    ) -> None:
        """Create a stream of JSON texts. The response starts when `open_results` has returned them.

        `is_interrupted`: whether the results end because the server is stopping.
        When `final_result` returns, the operation ends and that text is sent last.
        """
        self.status_code = 200
        self.background = None
        self._open_results = open_results
        self._is_started = False
        self._keep_alive_seconds = keep_alive_seconds
        self._is_interrupted = is_interrupted
        self._final_result = final_result
        self.init_headers(headers | {"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the operation ends or the client disconnects."""
        stream_task = asyncio.create_task(self._stream(send))
        disconnect_task = asyncio.create_task(wait_for_disconnect(receive))
        final_task = None if self._final_result is None else asyncio.create_task(self._final_result())
        tasks: list[asyncio.Task[Any]] = [
            each for each in (stream_task, disconnect_task, final_task) if each is not None
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in tasks:
                each.cancel()
            # The operation has ended only when it has released its resources.
            await asyncio.gather(*tasks, return_exceptions=True)
        if not stream_task.cancelled():
            stream_task.result()
        elif final_task is not None and not final_task.cancelled():
            await self._start(send)
            await send({"type": "http.response.body", "body": _event(final_task.result()) + COMPLETE_EVENT})

    async def _start(self, send: Send) -> None:
        if not self._is_started:
            self._is_started = True
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    async def _stream(self, send: Send) -> None:
        opened = await self._open_results()
        await self._start(send)
        write = partial(send_body, send, more=True)
        keep_alive_task = asyncio.create_task(self._send_keep_alives(write))
        try:
            async with aclosing(opened) as results:
                async for result in results:
                    await write(_event(result))
        finally:
            keep_alive_task.cancel()
        await send_body(send, b"" if self._is_interrupted() else COMPLETE_EVENT, more=False)

    async def _send_keep_alives(self, write: Callable[[bytes], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(self._keep_alive_seconds)
            await write(KEEP_ALIVE_COMMENT)


def _event(result: bytes) -> bytes:
    return b"event: next\ndata: " + result + b"\n\n"

"""Answers over HTTP: large ones are sent in parts, as fast as their client reads, and hold until then the room they take."""

from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PART_BYTES = 256 * 1024


async def send_body(send: Send, body: bytes, *, more: bool) -> None:
    """Send this much of a body, and return when a large one is on its way: nothing is sent before what came before it."""
    if len(body) > PART_BYTES:
        for start in range(0, len(body), PART_BYTES):
            part = body[start : start + PART_BYTES]
            await send({"type": "http.response.body", "body": part, "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body, "more_body": more})


class Answer(Response):
    """An answer to an operation."""

    held: Any = None
    """What is let go of when the answer is sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send_body(send, bytes(self.body), more=False)

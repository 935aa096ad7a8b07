"""Answers over HTTP: large ones are sent in parts, as fast as their client reads, and hold until then the room they take."""

from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PART_BYTES = 256 * 1024


class Answer(Response):
    """An answer to an operation."""

    held: Any = None
    """What is let go of when the answer is sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self.body) <= PART_BYTES:
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(self.body), PART_BYTES):
            end = start + PART_BYTES
            part = bytes(self.body[start:end])
            await send({"type": "http.response.body", "body": part, "more_body": end < len(self.body)})

"""Answers over HTTP: large ones are sent in parts, as fast as their client reads, and hold until then the room they take."""

from typing import Any

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


class Answer:
    """An answer to an operation: what Starlette's `Response` would send, without what it does for others."""

    def __init__(self, body: bytes, status: int, headers: dict[str, str], media_type: str, held: Any) -> None:
        """`held` is what is let go of when the answer is sent."""
        self._body = body
        self._held = held
        given = headers | {"content-length": str(len(body)), "content-type": media_type}
        self._start = {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given.items()],
        }

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send(self._start)
        await send_body(send, self._body, more=False)

"""HTTP responses.

Large responses are sent in chunks, as fast as the client reads, and count in the memory budget until they are sent.
"""

from typing import Any

from starlette.types import Receive, Scope, Send

CHUNK_BYTES = 256 * 1024


async def send_body(send: Send, body: bytes, *, more: bool) -> None:
    """Send a body or a part of one, in chunks if it is large.

    Each chunk waits until the client has read enough of the previous ones. On return, at most the end of a large body
    is still buffered.
    """
    if len(body) > CHUNK_BYTES:
        for start in range(0, len(body), CHUNK_BYTES):
            chunk = body[start : start + CHUNK_BYTES]
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body, "more_body": more})


class GraphQLResponse:
    """Response to an operation. Sends what Starlette's `Response` sends, without its other features."""

    def __init__(self, body: bytes, status: int, headers: dict[str, str], media_type: str, retained: Any) -> None:
        """Create a response. `retained`, which holds the memory reservation, is kept until the response is sent."""
        self._body = body
        self._retained = retained
        all_headers = headers | {"content-length": str(len(body)), "content-type": media_type}
        self._start = {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in all_headers.items()
            ],
        }

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send(self._start)
        await send_body(send, self._body, more=False)

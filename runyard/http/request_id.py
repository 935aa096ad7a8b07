"""Request id and trace context of a request, available to all layers. The id connects log lines and responses."""

import os
import re
from typing import TYPE_CHECKING

from resolvers.trace_context import is_trace_parent, trace_parent
from runyard.logs import request_id

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID_HEADER = b"x-request-id"
TRACE_PARENT_HEADER = b"traceparent"

SECURITY_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
"""Make browsers use the declared media type of each response and send no Referer header."""

_VALID_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
"""Request ids that are safe in logs and in response headers without escaping."""


class RequestIdMiddleware:
    """Middleware that sets the request id and the trace context, and adds the id and security headers to responses.

    The id is that of the `x-request-id` header if it is valid, otherwise a random one. The trace context is that of the
    `traceparent` header. A WebSocket is one request with all its operations. It belongs to no trace, because the
    operations would outlast the trace.
    """

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> "Awaitable[None]":
        if scope["type"] == "lifespan":
            return self._app(scope, receive, send)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        received = headers.get(REQUEST_ID_HEADER, b"")
        id = received if _VALID_REQUEST_ID.fullmatch(received) else os.urandom(8).hex().encode()
        # Each request has its own task, so the values end with it; log lines of uvicorn until then also contain the id.
        request_id.set(id.decode())
        if TRACE_PARENT_HEADER in headers and scope["type"] == "http":
            parent = headers[TRACE_PARENT_HEADER].decode("latin-1")
            trace_parent.set(parent if is_trace_parent(parent) else None)

        async def send_with_id(message: "Message") -> None:
            if message["type"] in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID_HEADER, id), *SECURITY_HEADERS]
            await send(message)

        return self._app(scope, receive, send_with_id)

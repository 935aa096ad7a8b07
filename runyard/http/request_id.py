"""What goes with a request through all layers: its id, by which log and answer are brought together, and its trace."""

import os
import re
from typing import TYPE_CHECKING

from resolvers.trace_context import is_trace_parent, trace_parent
from runyard.logs import request_id

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = b"x-request-id"
TRACE_PARENT = b"traceparent"

SAFE = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
"""Browsers are to take each answer for what it says it is, and to tell nobody where they were."""

_SANE = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
"""What may go into a log and back into a header as it came."""


class RequestContext:
    """Middleware: takes the id from the header `x-request-id` where a proxy or client has given a sane one, else makes one;
    and the trace from `traceparent`. Every answer gets the id, and the headers that keep browsers safe.

    A WebSocket is one request, however many operations go over it, and belongs to no trace: these would outlast it.
    """

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> "Awaitable[None]":
        if scope["type"] == "lifespan":
            return self._app(scope, receive, send)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        given = headers.get(REQUEST_ID, b"")
        id = given if _SANE.fullmatch(given) else os.urandom(8).hex().encode()
        # Every request has a task of its own, so these are undone by its end; what uvicorn says of it until then is marked.
        request_id.set(id.decode())
        if TRACE_PARENT in headers and scope["type"] == "http":
            parent = headers[TRACE_PARENT].decode("latin-1")
            trace_parent.set(parent if is_trace_parent(parent) else None)

        async def send_with_id(message: "Message") -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID, id), *SAFE]
            await send(message)

        return self._app(scope, receive, send_with_id)

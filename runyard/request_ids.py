"""Gives every request an id, which its log lines carry and its answer shows, so that the two can be brought together."""

import os
import re
from typing import TYPE_CHECKING

from runyard.logs import request_id

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-request-id"

_SANE = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
"""What may go into a log and back into a header as it came."""


class RequestIds:
    """Middleware: takes the id from the header `x-request-id` where a proxy or client has given a sane one, else makes one.

    A WebSocket is one request, however many operations go over it.
    """

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        id = given if _SANE.fullmatch(given) else os.urandom(8).hex().encode()
        # Every request has a task of its own, so this is undone by its end; what uvicorn says of it until then is marked.
        request_id.set(id.decode())

        async def send_with_id(message: "Message") -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message["headers"] = [*message.get("headers", ()), (HEADER, id)]
            await send(message)

        await self._app(scope, receive, send_with_id)

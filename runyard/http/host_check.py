"""Where requests are for: names that the server does not go by are refused.

A page from anywhere can have its own name lead to a loopback address (DNS rebinding) and then ask the server there as if it
came from it. The name in the header `Host` gives it away.
"""

from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import ASGIApp, Receive, Scope, Send

OPEN_PATHS = {"/healthz", "/readyz"}
"""What machines ask by address, and what tells nothing else."""


class KnownHosts:
    """Middleware: lets requests through that are for one of `hosts`, in lower case and without ports; others get 421.

    Who names no host at all is no browser, and passes.
    """

    def __init__(self, app: "ASGIApp", hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> "Awaitable[None]":
        if scope["type"] != "lifespan" and scope["path"] not in OPEN_PATHS:
            for name, value in scope["headers"]:
                if name == b"host" and (host := name_in(value)) not in self._hosts:
                    if scope["type"] == "websocket":
                        # Instead of the upgrade; the client gets 403.
                        return send({"type": "websocket.close"})
                    refusal = PlainTextResponse(
                        f"This server does not go by the name {host!r}. RUNYARD_ALLOWED_HOSTS lists its names.\n", 421
                    )
                    return refusal(scope, receive, send)
        return self._app(scope, receive, send)


def name_in(header: bytes) -> str:
    """The name or address in a header `Host`, without its port."""
    name, _, port = header.rpartition(b":")
    return (name if port.isdigit() else header).decode("latin-1").lower()

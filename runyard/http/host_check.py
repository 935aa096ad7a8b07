"""Host check: requests for unknown host names are rejected.

With DNS rebinding, a web page makes its own host name resolve to a loopback address and then sends same-origin requests
to the server there. The `Host` header of these requests contains the name of the page.
"""

from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import ASGIApp, Receive, Scope, Send

EXEMPT_PATHS = {"/healthz", "/readyz"}
"""Health checks, which probes request by IP address. Their responses contain no data."""


class HostCheck:
    """Middleware that rejects requests with 421, and WebSockets with 403, unless they are for one of `hosts`.

    Hosts are in lower case and without ports.

    Requests without a `Host` header are accepted: browsers always send one.
    """

    def __init__(self, app: "ASGIApp", hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> "Awaitable[None]":
        if scope["type"] != "lifespan" and scope["path"].rstrip("/") not in EXEMPT_PATHS:
            for name, value in scope["headers"]:
                if name == b"host" and (host := host_name(value)) not in self._hosts:
                    refusal = PlainTextResponse(
                        f"The host {host!r} is not allowed. Allowed hosts are listed in RUNYARD_ALLOWED_HOSTS.\n",
                        403 if scope["type"] == "websocket" else 421,
                    )
                    return refusal(scope, receive, send)
        return self._app(scope, receive, send)


def host_name(header: bytes) -> str:
    """Return the host name or address in a `Host` header, without the port."""
    name, _, port = header.rpartition(b":")
    return (name if port.isdigit() else header).decode("latin-1").lower()

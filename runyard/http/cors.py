"""Cross-origin resource sharing (CORS): which pages of other origins may use the API, and with which headers."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

ALLOWED_HEADERS = ("Authorization", "Content-Type", "X-Request-Id", "Traceparent", "Tracestate", "Baggage")
"""Request headers that are always allowed. Pages that trace their requests send the last three."""


class CORS(CORSMiddleware):
    """Starlette's middleware for CORS. The response to a rejected preflight request names what is not allowed."""

    def __init__(self, app: ASGIApp, allowed_origins: Sequence[str], allowed_headers: Sequence[str]) -> None:
        """Allow requests of these origins, with these headers in addition to the built-in ones. `*` allows all."""
        super().__init__(
            app,
            allow_origins=allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=[*ALLOWED_HEADERS, *allowed_headers],
            expose_headers=["X-Request-Id"],
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        explanation = None if response.status_code == 200 else self._explain_refusal(request_headers)
        if explanation is None:
            return response
        headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        return PlainTextResponse(explanation, response.status_code, headers)

    def _explain_refusal(self, request_headers: Headers) -> str | None:
        origin, method = request_headers["origin"], request_headers["access-control-request-method"]
        if not self.is_allowed_origin(origin):
            return f"The origin {origin!r} is not allowed. Allowed origins are listed in RUNYARD_ALLOWED_ORIGINS.\n"
        if method not in self.allow_methods:
            return f"The method {method!r} is not allowed for cross-origin requests. Use GET or POST.\n"
        requested = [each.strip() for each in request_headers.get("access-control-request-headers", "").split(",")]
        refused = [repr(name) for name in requested if name and name.lower() not in self.allow_headers]
        if refused and not self.allow_all_headers:
            return f"Headers that are not allowed: {', '.join(refused)}. Allow them with RUNYARD_ALLOWED_HEADERS.\n"
        return None

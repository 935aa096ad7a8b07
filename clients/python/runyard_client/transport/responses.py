"""Turns responses of the server into values and errors of this client."""

from collections.abc import Mapping
from typing import Any, cast

import orjson

from runyard_client.errors import (
    NotAllowed,
    QueueFull,
    Refused,
    RequestTooLarge,
    RunyardError,
    ServerUnavailable,
)

UNAVAILABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses of responses without a GraphQL error after which the same request can succeed later."""
TOO_MANY_REQUESTS_SECONDS = 5.0
"""Delay after a status 429 whose response does not have the header Retry-After."""
_MAX_TEXT = 300


class InvalidDocument(RunyardError):
    """The server refused the document, or a field of an input object that it does not know."""


def read_response(status: int, headers: Mapping[str, str], body: bytes, url: str) -> Any:
    """Return the value of the only root field of the operation. Raises the error that the response contains."""
    result = _parse(body)
    if result is None:
        raise _status_error(status, headers, body, url)
    errors = result.get("errors")
    if errors:
        raise _graphql_error(errors[0], status, headers)
    data = result.get("data")
    if not isinstance(data, dict) or not data:
        raise _status_error(status, headers, body, url)
    return next(iter(cast("dict[str, Any]", data).values()))


def _parse(body: bytes) -> dict[str, Any] | None:
    """Return the GraphQL response, or None when the body is something else, such as the error page of a proxy."""
    try:
        result = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(result, dict):
        return None
    errors = cast("dict[str, Any]", result).get("errors")
    if errors is not None and not (isinstance(errors, list) and errors and isinstance(errors[0], dict)):
        return None
    return cast("dict[str, Any]", result)


def _graphql_error(error: dict[str, Any], status: int, headers: Mapping[str, str]) -> RunyardError:
    extensions: dict[str, Any] = error.get("extensions") or {}
    code = str(extensions.get("code", "UNKNOWN"))
    message = str(error.get("message", "The server returned an error without a message."))
    found: RunyardError
    if code in ("UNAUTHENTICATED", "FORBIDDEN"):
        found = NotAllowed(message, code=code)
    elif code == "QUEUE_FULL":
        found = QueueFull(message)
    elif extensions.get("retryable") or status in (408, 429, 503):
        found = ServerUnavailable(message, retry_after=_retry_after(status, headers))
    elif code == "RESPONSE_TOO_LARGE" or status == 413:
        found = RequestTooLarge(message, code=code)
    elif code == "BAD_USER_INPUT" and "path" not in error and _concerns_schema(message):
        found = InvalidDocument(message)
    else:
        found = Refused(message, code=code, argument=extensions.get("argument"))
    return found


def _concerns_schema(message: str) -> bool:
    """Return whether an error that was found before execution is about the document rather than a value.

    The server has no code for it. Errors of values begin with the name of their variable.
    """
    return "$" not in message.partition(" has invalid value")[0] or "unknown field" in message


def _status_error(status: int, headers: Mapping[str, str], body: bytes, url: str) -> RunyardError:
    message = f"{url} responds with the HTTP status {status}{_excerpt(headers, body)}"
    if status in UNAVAILABLE_STATUSES:
        return ServerUnavailable(message, retry_after=_retry_after(status, headers))
    if status in (401, 403):
        return NotAllowed(message, code="UNAUTHENTICATED" if status == 401 else "FORBIDDEN")
    if status == 413:
        return RequestTooLarge(message, code="413")
    if location := headers.get("Location"):
        message = f"{url} redirects to {location}"
    return Refused(f"{message}. Set the URL to that of a Runyard server.", code=f"HTTP_{status}")


def _excerpt(headers: Mapping[str, str], body: bytes) -> str:
    """Return the text of a short plain response after a colon, such as the reason why a host name is refused."""
    text = body[: _MAX_TEXT + 1].decode(errors="replace").strip()
    is_plain = headers.get("Content-Type", "").startswith("text/plain")
    return f": {text.rstrip('.')}" if is_plain and 0 < len(text) <= _MAX_TEXT else ""


def _retry_after(status: int, headers: Mapping[str, str]) -> float | None:
    """Return the delay of the header Retry-After in seconds. A date in the header is ignored."""
    try:
        return max(float(headers["Retry-After"]), 0.0)
    except (KeyError, ValueError):
        return TOO_MANY_REQUESTS_SECONDS if status == 429 else None

"""Client of the API: documents of `queries/` over HTTP, and subscriptions as event streams (graphql-sse)."""

import http.client
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import urlsplit

from queries import document
from resolvers.errors import ErrorCode

REQUEST_SECONDS = 90.0
"""Time limit for data to arrive. Longer than the server's own limit for a request, and than its keep-alive interval."""

KEEP_ALIVE = None
"""Yielded by a subscription for a comment, with which the server keeps the connection alive."""


class RequestFailed(Exception):
    """The server refused a request, or cannot be used. The message is one line for the user."""


class ConnectionFailed(RequestFailed):
    """The server cannot be reached now, or the connection was lost. The same request can succeed later."""


class Client:
    """Sends operations to a server. Each request uses its own connection."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """Create a client. `url` is the URL of the server or of its path `/graphql`.

        Raises RequestFailed when it is not an HTTP URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise RequestFailed(f"The URL of the server must start with http:// or https://; got {url!r}.")
        path = parts.path.rstrip("/")
        self.url = f"{parts.scheme}://{parts.netloc}{path if path.endswith('/graphql') else f'{path}/graphql'}"
        self._token = token
        # A redirect could lead to a server that must not receive the token.
        self._opener = urllib.request.build_opener(_WithoutRedirects)

    def execute(self, operation: str, **variables: Any) -> Any:
        """Execute an operation and return the value of its only root field. Raises RequestFailed for an error."""
        with self._open(operation, variables, "application/json") as response:
            try:
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                raise self._connection_failed(error) from None
        return _value(self._parse(body))

    def subscribe(self, operation: str, **variables: Any) -> Iterator[Any]:
        """Execute a subscription. Yield the value of its only root field for each event, and KEEP_ALIVE for comments.

        Raises ConnectionFailed when the stream ends before the subscription, and RequestFailed for an error.
        """
        with self._open(operation, variables, "text/event-stream") as response:
            name = ""
            try:
                for line in response:
                    field, separator, text = line.decode().rstrip("\n").partition(":")
                    if field == "event":
                        name = text.strip()
                    elif field == "data" and name == "next":
                        yield _value(self._parse(text))
                    elif name == "complete":
                        return
                    elif separator and not field:
                        yield KEEP_ALIVE
            except (OSError, http.client.HTTPException) as error:
                raise self._connection_failed(error) from None
        raise ConnectionFailed("The server has ended the connection.")

    def _open(self, operation: str, variables: dict[str, Any], accept: str) -> http.client.HTTPResponse:
        body = json.dumps({"query": document(operation)[0], "operationName": operation, "variables": variables})
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self.url, body.encode(), {"Content-Type": "application/json", "Accept": accept}
        )
        if self._token is not None:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            return self._opener.open(request, timeout=REQUEST_SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                raise self._status_error(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._connection_failed(error) from None

    def _parse(self, text: str | bytes) -> dict[str, Any]:
        try:
            result: Any = json.loads(text)
        except ValueError:
            result = None
        if not isinstance(result, dict):
            raise RequestFailed(f"{self.url} is not the API of a Runyard server. Check --url or RUNYARD_URL.")
        return cast("dict[str, Any]", result)

    def _status_error(self, error: urllib.error.HTTPError) -> RequestFailed:
        """Return the error for a response with a status other than 200."""
        body = error.read()
        if location := error.headers.get("Location"):
            return RequestFailed(
                f"{self.url} redirects to {location}. Set --url or RUNYARD_URL to the URL of the server."
            )
        try:
            errors = json.loads(body)["errors"]
        except (ValueError, KeyError, TypeError):
            text = body.decode(errors="replace").strip()
            is_message = error.headers.get_content_type() == "text/plain" and 0 < len(text) < 300
            message = f"{self.url} responds with the HTTP status {error.code}{f': {text}' if is_message else '.'}"
            return (ConnectionFailed if error.code >= 500 else RequestFailed)(message)
        if error.code == 401 and self._token is None:
            return RequestFailed("The server requires an API token. Set it with --token or RUNYARD_TOKEN.")
        return _error(errors)

    def _connection_failed(self, error: Exception) -> ConnectionFailed:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, TimeoutError):
            text = "no response"
        elif isinstance(reason, OSError) and not isinstance(reason, socket.gaierror) and reason.strerror:
            text = reason.strerror
        else:
            text = str(reason) or type(reason).__name__
        return ConnectionFailed(
            f"Cannot reach the server at {self.url}: {text}. Start it with `runyard serve`, or set --url or RUNYARD_URL."
        )


class _WithoutRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        return None


def _value(result: dict[str, Any]) -> Any:
    """Return the value of the only root field. Raises RequestFailed when the result has errors."""
    if result.get("errors"):
        raise _error(result["errors"])
    (value,) = result["data"].values()
    return value


def _error(errors: list[dict[str, Any]]) -> RequestFailed:
    """Return the first of the errors of a response, as one line."""
    first, *others = errors
    extensions: dict[str, Any] = first.get("extensions") or {}
    message = " ".join(first["message"].split())
    argument, code = extensions.get("argument"), extensions.get("code")
    if argument and not message.startswith(f"{argument}:"):
        message += f" (argument {argument})"
    if code in (ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN, ErrorCode.TOO_MANY_WRONG_TOKENS):
        message += " Set another token with --token or RUNYARD_TOKEN."
    if others:
        message += f" ({len(others)} more {'error' if len(others) == 1 else 'errors'})"
    return (ConnectionFailed if code == ErrorCode.UNAVAILABLE else RequestFailed)(message)

"""Parsing of HTTP requests: headers, and the body or query string. The body is read in bounded time and memory."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from json import JSONDecodeError
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from db.runtime.deadlines import Deadline, SharedTimer
from resolvers.errors import ErrorCode
from runyard.json_input import TooManyContainers, parse_json
from runyard.persisted_documents import DocumentRefused, TrustedDocuments
from runyard.request_memory import RequestMemory

MAX_CACHED_HEADERS = 200
MAX_CACHED_HEADER_LENGTH = 500
"""Headers up to this number and length are parsed once, because clients of one kind send equal headers."""

Parsed = TypeVar("Parsed")

_ZERO_QUALITY = re.compile(r"q=0(\.0*)?")
_ANY_TYPE = frozenset({"*/*"})
_REFUSAL_STATUSES: Mapping[str, int] = {ErrorCode.FORBIDDEN: 403, ErrorCode.PERSISTED_QUERY_NOT_SUPPORTED: 200}
"""Status of each refusal of a document, if it is not 400. Apollo clients expect 200 before they send the document."""


class BadRequest(Exception):
    """The HTTP request is rejected before its operation is executed."""

    def __init__(
        self,
        status: int,
        message: str,
        headers: dict[str, str] | None = None,
        *,
        code: ErrorCode = ErrorCode.BAD_USER_INPUT,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.extensions: dict[str, Any] = {"code": code}


def header_values(request: Request, name: bytes) -> Sequence[str]:
    """Return all values of a header."""
    return [value.decode("latin-1") for key, value in request.scope["headers"] if key == name]


def _first_header(request: Request, name: bytes) -> str:
    return next(iter(header_values(request, name)), "")


def cached_header_parser(parse: Callable[[str], Parsed]) -> Callable[[str], Parsed]:
    """Cache the results of a header parser, except for very long headers."""
    cached_parse = lru_cache(MAX_CACHED_HEADERS)(parse)
    return lambda text: cached_parse(text) if len(text) <= MAX_CACHED_HEADER_LENGTH else parse(text)


@cached_header_parser
def accepted_media_types(accept: str) -> frozenset[str]:
    """Return the media types that an Accept header allows; every type when it is empty."""
    accepted: set[str] = set()
    for each in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in each.split(";"))
        if media_type and not any(_ZERO_QUALITY.fullmatch(parameter) for parameter in parameters):
            accepted.add(media_type)
    return frozenset(accepted) if accept.strip() else _ANY_TYPE


def reject_websocket_without_upgrade(request: Request) -> None:
    """Raise BadRequest for the handshake of a WebSocket whose headers `Upgrade` and `Connection` have been dropped."""
    if header_values(request, b"sec-websocket-key") or header_values(request, b"sec-websocket-protocol"):
        raise BadRequest(
            426,
            "The WebSocket handshake arrived without the headers Upgrade: websocket and Connection: Upgrade. Proxies "
            "between client and server must forward both.",
            {"Upgrade": "websocket", "Connection": "Upgrade"},
        )


def parse_body(request: Request, body: bytes) -> dict[str, Any]:
    """Parse the JSON body of a POST request. Raises BadRequest."""
    media_type = _first_header(request, b"content-type").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise BadRequest(415, f"Content-Type must be application/json; got {media_type or 'none'}.")
    encoding = ", ".join(header_values(request, b"content-encoding"))
    if encoding.strip().lower() not in ("", "identity"):
        message = f"Content-Encoding must be identity; got {encoding:.60}. Send the body uncompressed."
        raise BadRequest(415, message, {"Accept-Encoding": "identity"})
    try:
        parameters = parse_json(body)
    except TooManyContainers as error:
        raise BadRequest(413, error.msg) from None
    except JSONDecodeError as error:
        raise BadRequest(400, f"The body is not valid JSON: {error}.") from None
    if isinstance(parameters, list):
        raise BadRequest(400, "Batched requests are not supported. Send the operations one at a time.")
    if not isinstance(parameters, dict):
        raise BadRequest(400, "The body must be a JSON object with a query.")
    return parameters  # pyright: ignore[reportUnknownVariableType]


def parse_query_string(request: Request) -> dict[str, Any]:
    """Parse the query string of a GET request. Raises BadRequest for invalid JSON."""
    parameters: dict[str, Any] = dict(request.query_params)
    for name in ("variables", "extensions"):
        if name in parameters:
            try:
                parameters[name] = parse_json(parameters[name])
            except JSONDecodeError as error:
                raise BadRequest(400, f"{name} is not valid JSON: {error}.") from None
    return parameters


def validate_parameters(
    trusted_documents: TrustedDocuments, parameters: dict[str, Any]
) -> tuple[str, dict[str, Any] | None, str | None, dict[str, Any] | None]:
    """Return the document, variables, operation name and extensions. Raises BadRequest if one of them is invalid."""
    try:
        query = trusted_documents.resolve(parameters)
    except DocumentRefused as refused:
        raise _to_bad_request(refused) from None
    variables, name, extensions = map(parameters.get, ("variables", "operationName", "extensions"))
    if not isinstance(query, str):
        raise BadRequest(400, "query is required and must be a string.")
    if variables is not None and not isinstance(variables, dict):
        raise BadRequest(400, "variables must be a JSON object.")
    if name is not None and not isinstance(name, str):
        raise BadRequest(400, "operationName must be a string.")
    if extensions is not None and not isinstance(extensions, dict):
        raise BadRequest(400, "extensions must be a JSON object.")
    return query, variables, name or None, extensions  # pyright: ignore[reportUnknownVariableType]


def _to_bad_request(refused: DocumentRefused) -> BadRequest:
    refusal = BadRequest(_REFUSAL_STATUSES.get(refused.extensions["code"], 400), str(refused))
    refusal.extensions = refused.extensions
    return refusal


async def read_body(request: Request, max_bytes: int, timer: SharedTimer, memory: RequestMemory) -> bytes:
    """Read the request body. The memory counts what has arrived; release it when the body is parsed.

    Raises BadRequest with 413 as soon as the body is too large, with 503 when large requests use the whole memory
    budget, with 408 if the body is incomplete when the timer expires, and ClientDisconnect.
    """
    deadline = Deadline(timer)
    try:
        return await _receive_body(request, max_bytes, memory)
    except asyncio.CancelledError:
        if not deadline.uncancel():
            raise
        message = f"The body must be sent within {timer.seconds:g} seconds."
        raise BadRequest(408, message, {"Connection": "close"}) from None
    finally:
        deadline.end()


async def _receive_body(request: Request, max_bytes: int, memory: RequestMemory) -> bytes:
    # Content-Length can be wrong or missing, so the chunks are counted as well.
    length = _first_header(request, b"content-length")
    size = int(length) if length.isdecimal() else 0
    _check_size(size, max_bytes)
    chunks: list[bytes] = []
    size, has_more = 0, True
    while has_more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        _check_size(size, max_bytes)
        if not memory.hold(size):
            raise _out_of_memory()
        chunks.append(chunk)
        has_more = message.get("more_body", False)
    return b"".join(chunks)


def _out_of_memory() -> BadRequest:
    message = "Large requests of other clients use the memory for requests. Retry the request."
    refusal = BadRequest(503, message, {"Connection": "close"}, code=ErrorCode.UNAVAILABLE)
    refusal.extensions["retryable"] = True
    return refusal


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise BadRequest(413, f"The body must not exceed {max_bytes:,} bytes.")

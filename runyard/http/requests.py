"""What an HTTP request asks: its headers, and its body or query string, read in bounded time and memory."""

import asyncio
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import orjson
from starlette.requests import ClientDisconnect, Request

from resolvers.storage import Alarms, Deadline
from runyard.json_input import TooManyLists, read_json
from runyard.persisted_documents import DocumentRefused, TrustedDocuments

MOST_KEPT_HEADERS = 200
LONGEST_KEPT_HEADER = 500
"""What the headers are that are read once, since clients of one kind all send the same."""

Read = TypeVar("Read")

_REFUSES = re.compile(r"q=0(\.0*)?")
_ANYTHING = frozenset({"*/*"})


class BadRequest(Exception):
    """The request is none that GraphQL could look at."""

    def __init__(
        self, status: int, message: str, headers: dict[str, str] | None = None, *, code: str = "BAD_USER_INPUT"
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.extensions: dict[str, Any] = {"code": code}


def header(request: Request, name: bytes) -> Sequence[str]:
    """What a header says, as often as it comes."""
    return [value.decode("latin-1") for key, value in request.scope["headers"] if key == name]


def _first_header(request: Request, name: bytes) -> str:
    return next(iter(header(request, name)), "")


def read_once(read: Callable[[str], Read]) -> Callable[[str], Read]:
    """The function, which reads each header once, but for very long ones."""
    kept = lru_cache(MOST_KEPT_HEADERS)(read)
    return lambda text: kept(text) if len(text) <= LONGEST_KEPT_HEADER else read(text)


@read_once
def types_in(accept: str) -> frozenset[str]:
    """The types that the client takes; anything, where it does not say."""
    accepted: set[str] = set()
    for each in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in each.split(";"))
        if media_type and not any(_REFUSES.fullmatch(parameter) for parameter in parameters):
            accepted.add(media_type)
    return frozenset(accepted) if accept.strip() else _ANYTHING


def parameters_in_body(request: Request, body: bytes) -> dict[str, Any]:
    """What the JSON of a POST names. BadRequest where it is none."""
    media_type = _first_header(request, b"content-type").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise BadRequest(415, f"The body has to be application/json, not {media_type or 'of no type'}.")
    try:
        parameters = read_json(body)
    except TooManyLists as error:
        raise BadRequest(413, error.msg) from None
    except orjson.JSONDecodeError as error:
        raise BadRequest(400, f"The body is not valid JSON: {error}.") from None
    if not isinstance(parameters, dict):
        raise BadRequest(400, "The body has to be a JSON object with a query.")
    return parameters  # pyright: ignore[reportUnknownVariableType]


def parameters_in_query_string(request: Request) -> dict[str, Any]:
    """What the address of a GET names. BadRequest where JSON in it is none."""
    parameters: dict[str, Any] = dict(request.query_params)
    for name in ("variables", "extensions"):
        if name in parameters:
            try:
                parameters[name] = orjson.loads(parameters[name])
            except orjson.JSONDecodeError as error:
                raise BadRequest(400, f"{name} is not valid JSON: {error}.") from None
    return parameters


def checked_parameters(
    trusted: TrustedDocuments, parameters: dict[str, Any]
) -> tuple[str, dict[str, Any] | None, str | None, dict[str, Any] | None]:
    """The document, its variables, which operation of it, and extensions. BadRequest where one is not as it has to be."""
    try:
        query = trusted.query(parameters)
    except DocumentRefused as refused:
        raise _refusal_of(refused) from None
    variables, name, extensions = map(parameters.get, ("variables", "operationName", "extensions"))
    if not isinstance(query, str):
        raise BadRequest(400, "query is missing, or is no text.")
    if variables is not None and not isinstance(variables, dict):
        raise BadRequest(400, "variables has to be a JSON object.")
    if name is not None and not isinstance(name, str):
        raise BadRequest(400, "operationName has to be a text.")
    if extensions is not None and not isinstance(extensions, dict):
        raise BadRequest(400, "extensions has to be a JSON object.")
    return query, variables, name or None, extensions  # pyright: ignore[reportUnknownVariableType]


def _refusal_of(refused: DocumentRefused) -> BadRequest:
    refusal = BadRequest(403 if refused.extensions["code"] == "FORBIDDEN" else 400, str(refused))
    refusal.extensions = refused.extensions
    return refusal


async def read_body(request: Request, most_bytes: int, timeouts: Alarms) -> bytes:
    """The body. BadRequest with 413 as soon as it is too large, with 408 where it takes its client too long, which may never
    mean to end it; ClientDisconnect."""
    deadline = Deadline(timeouts)
    try:
        return await _receive_body(request, most_bytes)
    except asyncio.CancelledError:
        if not deadline.has_cancelled():
            raise
        message = f"The body has to be sent within {timeouts.seconds:g} seconds."
        raise BadRequest(408, message, {"Connection": "close"}) from None
    finally:
        deadline.end()


async def _receive_body(request: Request, most_bytes: int) -> bytes:
    # What the head says is not to be trusted, and need not be there.
    length = _first_header(request, b"content-length")
    size = int(length) if length.isdecimal() else 0
    _refuse_too_large(size, most_bytes)
    parts: list[bytes] = []
    size, has_more = 0, True
    while has_more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        size += len(part)
        _refuse_too_large(size, most_bytes)
        parts.append(part)
        has_more = message.get("more_body", False)
    return b"".join(parts)


def _refuse_too_large(size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise BadRequest(413, f"The body may have at most {most_bytes:,} bytes.")

"""GraphQL over HTTP: POST for everything, GET for queries, streams for who takes them, and the page for browsers.

Follows the GraphQL-over-HTTP specification: `application/graphql-response+json` says by its status whether a request could
be run at all; `application/json`, for older clients, is 200 for whatever GraphQL could look at.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from strawberry.http.websocket_origin import is_same_origin
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType

from resolvers.storage import DatabaseUnavailable, Deadline
from resolvers.tokens import Caller
from runyard.access import Access, TooManyWrongTokens, Unauthenticated, address_of
from runyard.answers import Answer
from runyard.compression import compressed
from runyard.graphiql import Page
from runyard.json_input import TooManyLists, read_json
from runyard.presence import Presence
from runyard.sse import EVENT_STREAM, EventStream
from runyard.trusted import DocumentRefused, TrustedDocuments
from schema.context import Context
from schema.execution import RunyardSchema, Weighed

ENDPOINT = "/graphql"
RESPONSE_TYPE = "application/graphql-response+json"
OLDER_TYPE = "application/json"
VARY = {"Vary": "Accept"}
"""Browsers get a page at the same address."""

MOST_KEPT_HEADERS = 200
LONGEST_KEPT_HEADER = 500
"""What the headers are that are read once, since clients of one kind all send the same."""

_AS_JSON = {RESPONSE_TYPE, OLDER_TYPE, "*/*", "application/*"}
_REFUSES = re.compile(r"q=0(\.0*)?")
_ANYTHING = frozenset({"*/*"})
_EVERYTHING = (OperationType.QUERY, OperationType.MUTATION)


class BadRequest(Exception):
    """The request is none that GraphQL could look at."""

    def __init__(
        self, status: int, message: str, headers: dict[str, str] | None = None, *, code: str = "BAD_USER_INPUT"
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.extensions: dict[str, Any] = {"code": code}


@dataclass(slots=True)
class _Asked:
    """An operation, and what it is to be run with."""

    query: str
    variables: dict[str, Any] | None
    operation_name: str | None
    extensions: dict[str, Any] | None
    type: OperationType | None
    """None where the document has no such operation, as running it will tell."""


class GraphQLOverHTTP:
    """The endpoint."""

    def __init__(
        self,
        schema: RunyardSchema,
        context: Context,
        page: Page,
        trusted: TrustedDocuments,
        access: Access | None,
        *,
        max_body_bytes: int,
        body_seconds: float,
        compress_above_bytes: int,
        keep_alive_seconds: float,
        allowed_origins: Sequence[str],
    ) -> None:
        self._schema = schema
        self._context = context
        self._page = page
        self._trusted = trusted
        self._access = access
        self._max_body_bytes = max_body_bytes
        self._body_seconds = body_seconds
        self._compress_above_bytes = compress_above_bytes
        self._keep_alive_seconds = keep_alive_seconds
        self._allowed_origins = frozenset(allowed_origins)
        self._large_answers = asyncio.Lock()

    async def __call__(self, request: Request) -> Response | Answer:
        """Answer one request. Whatever is wrong with it is told as JSON, with a code."""
        accepted = _types_in(",".join(_header(request, b"accept")))
        if request.method == "GET" and "text/html" in accepted:
            return self._page(request)
        media_type = RESPONSE_TYPE if RESPONSE_TYPE in accepted else OLDER_TYPE
        takes_json = not accepted.isdisjoint(_AS_JSON)
        try:
            if not takes_json and EVENT_STREAM not in accepted:
                raise BadRequest(406, f"Answers are {RESPONSE_TYPE} or {OLDER_TYPE}, or {EVENT_STREAM}.")
            context = self._context if self._access is None else await self._admitted(self._access, request)
            asked = self._asked(request, await self._parameters(request))
            if EVENT_STREAM in accepted and (asked.type is OperationType.SUBSCRIPTION or not takes_json):
                last_words = None if context.caller is None else partial(self._last_words, context.caller)
                return EventStream(self._stream(asked, context), VARY, self._keep_alive_seconds, last_words)
            if asked.type is OperationType.SUBSCRIPTION:
                raise BadRequest(
                    400,
                    "Subscriptions are sent over WebSocket, by the protocol graphql-transport-ws, or by POST with "
                    f"Accept: {EVENT_STREAM}.",
                )
            presence = Presence(request.receive)
            try:
                result = await self._execute(asked, context)
            except asyncio.CancelledError:
                if presence.has_cancelled():
                    raise ClientDisconnect from None
                raise
            finally:
                presence.end()
        except BadRequest as refusal:
            return _told(refusal, media_type)
        except asyncio.CancelledError:
            # By uvicorn, which stops and waits no longer: nobody else cancels a request that is not told of it above.
            return _stopping(media_type)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        headers = VARY.copy()
        status = _status_of(result) if media_type == RESPONSE_TYPE else 200
        held = result.weight if isinstance(result, Weighed) else None
        if held is None or held.is_small:
            body = orjson.dumps(_body_of(result))
        else:
            body = await self._written_in_turn(_body_of(result))
        # What it was made of can take as much memory again.
        del result
        sent = await compressed(request, body, self._compress_above_bytes, headers)
        return Answer(sent, status, headers, media_type, held)

    async def _written_in_turn(self, body: dict[str, Any]) -> bytes:
        """A large answer as JSON: one at a time, and others are let through in between, since each holds them up."""
        async with self._large_answers:
            await asyncio.sleep(0)
            return orjson.dumps(body)

    async def _parameters(self, request: Request) -> dict[str, Any]:
        if request.method == "GET":
            self._refuse_other_sites(request)
            return _from_query_string(request)
        if request.method == "POST":
            return _from_body(request, await self._read_body(request))
        message = "GraphQL is asked by GET or POST."
        if request.method == "PUT":
            message += " Of graphql-sse, the mode of distinct connections is served."
        raise BadRequest(405, message, {"Allow": "GET, POST"})

    def _refuse_other_sites(self, request: Request) -> None:
        """Answer no page of another site: browsers send a GET for any page. For a POST of JSON they ask first (CORS)."""
        headers = request.headers
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and not self._allowed_origins.isdisjoint({origin, "*"}):
            return
        is_own = origin is None or is_same_origin(origin, headers.get("host"))
        if site not in ("same-origin", "none") if site is not None else not is_own:
            raise BadRequest(403, "Pages of other sites can not ask by GET.", code="FORBIDDEN")

    def _asked(self, request: Request, parameters: dict[str, Any]) -> _Asked:
        query, variables, operation_name, extensions = _checked(self._trusted, parameters)
        operation = self._schema.documents.find(query, operation_name)
        type_ = operation and operation.type
        if type_ is not None and type_ is not OperationType.QUERY and request.method == "GET":
            raise BadRequest(405, f"{type_.value.capitalize()}s are sent by POST.", {"Allow": "POST"})
        return _Asked(query, variables, operation_name, extensions, type_)

    async def _admitted(self, access: Access, request: Request) -> Context:
        try:
            caller = await access.caller(request.headers.get("authorization"), address_of(request))
        except Unauthenticated as error:
            raise BadRequest(401, str(error), {"WWW-Authenticate": "Bearer"}, code="UNAUTHENTICATED") from None
        except TooManyWrongTokens as error:
            refusal = BadRequest(429, str(error), {"Retry-After": str(error.seconds)}, code="TOO_MANY_WRONG_TOKENS")
        except DatabaseUnavailable:
            refusal = BadRequest(503, "The database is busy or away; try again.", code="UNAVAILABLE")
        else:
            return self._context.for_caller(caller)
        refusal.extensions["retryable"] = True
        raise refusal

    async def _last_words(self, caller: Caller) -> bytes:
        """Why a stream is over, when the caller's token is valid no more."""
        assert self._access is not None
        await self._access.end_of(caller)
        error = {"message": "The token is valid no more.", "extensions": {"code": "UNAUTHENTICATED"}}
        return orjson.dumps({"errors": [error]})

    def _execute(self, asked: _Asked, context: Context) -> Awaitable[ExecutionResult]:
        return self._schema.execute(
            asked.query,
            asked.variables,
            context,
            None,
            asked.operation_name,
            _EVERYTHING,
            asked.extensions,
        )

    async def _stream(self, asked: _Asked, context: Context) -> AsyncGenerator[bytes, None]:
        results = await self._schema.stream(asked.query, asked.variables, context, None, asked.operation_name)
        async with aclosing(results):
            async for result in results:
                yield orjson.dumps(_body_of(result))

    async def _read_body(self, request: Request) -> bytes:
        """The body; 408 where it takes its client too long, which may never mean to end it."""
        deadline = Deadline(self._body_seconds)
        try:
            return await self._receive_body(request)
        except asyncio.CancelledError:
            if not deadline.has_cancelled():
                raise
            message = f"The body has to be sent within {self._body_seconds:g} seconds."
            raise BadRequest(408, message, {"Connection": "close"}) from None
        finally:
            deadline.end()

    async def _receive_body(self, request: Request) -> bytes:
        """The body; 413 as soon as it is too large, however it is sent."""
        length = _first_header(request, b"content-length")
        size = int(length) if length.isdecimal() else 0
        self._refuse_too_large(size)
        parts: list[bytes] = []
        size, has_more = 0, True
        while has_more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part: bytes = message.get("body", b"")
            size += len(part)
            self._refuse_too_large(size)
            parts.append(part)
            has_more = message.get("more_body", False)
        return b"".join(parts)

    def _refuse_too_large(self, size: int) -> None:
        if size > self._max_body_bytes:
            raise BadRequest(413, f"The body may have at most {self._max_body_bytes:,} bytes.")


def _told(refusal: BadRequest, media_type: str) -> Response:
    error = {"message": str(refusal), "extensions": refusal.extensions}
    return Response(orjson.dumps({"errors": [error]}), refusal.status, VARY | refusal.headers, media_type)


def _stopping(media_type: str) -> Response:
    message = "The server stops, and has given this up; what it had begun to write may be written. Ask again."
    refusal = BadRequest(503, message, {"Connection": "close"}, code="UNAVAILABLE")
    refusal.extensions["retryable"] = True
    return _told(refusal, media_type)


def _header(request: Request, name: bytes) -> Sequence[str]:
    """What a header says, as often as it comes."""
    return [value.decode("latin-1") for key, value in request.scope["headers"] if key == name]


def _first_header(request: Request, name: bytes) -> str:
    return next(iter(_header(request, name)), "")


def _types_in(accept: str) -> frozenset[str]:
    """The types that the client takes; anything, where it does not say."""
    if not accept:
        return _ANYTHING
    return _read_types(accept) if len(accept) <= LONGEST_KEPT_HEADER else _read_types.__wrapped__(accept)


@lru_cache(MOST_KEPT_HEADERS)
def _read_types(accept: str) -> frozenset[str]:
    accepted: set[str] = set()
    for each in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in each.split(";"))
        if media_type and not any(_REFUSES.fullmatch(parameter) for parameter in parameters):
            accepted.add(media_type)
    return frozenset(accepted) if accept.strip() else _ANYTHING


def _from_body(request: Request, body: bytes) -> dict[str, Any]:
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


def _from_query_string(request: Request) -> dict[str, Any]:
    parameters: dict[str, Any] = dict(request.query_params)
    for name in ("variables", "extensions"):
        if name in parameters:
            try:
                parameters[name] = orjson.loads(parameters[name])
            except orjson.JSONDecodeError as error:
                raise BadRequest(400, f"{name} is not valid JSON: {error}.") from None
    return parameters


def _checked(
    trusted: TrustedDocuments, parameters: dict[str, Any]
) -> tuple[str, dict[str, Any] | None, str | None, dict[str, Any] | None]:
    try:
        query = trusted.query(parameters)
    except DocumentRefused as refused:
        raise _refusal_of(refused) from None
    variables, name, extensions = (parameters.get(each) for each in ("variables", "operationName", "extensions"))
    if not isinstance(query, str):
        raise BadRequest(400, "query is missing, or is no text.")
    if not isinstance(variables, dict | None):
        raise BadRequest(400, "variables has to be a JSON object.")
    if not isinstance(name, str | None):
        raise BadRequest(400, "operationName has to be a text.")
    if not isinstance(extensions, dict | None):
        raise BadRequest(400, "extensions has to be a JSON object.")
    return query, variables, name or None, extensions  # pyright: ignore[reportUnknownVariableType]


def _refusal_of(refused: DocumentRefused) -> BadRequest:
    refusal = BadRequest(403 if refused.extensions["code"] == "FORBIDDEN" else 400, str(refused))
    refusal.extensions = refused.extensions
    return refusal


def _status_of(result: ExecutionResult) -> int:
    if not isinstance(result, PreExecutionError):
        return 200
    codes = {(error.extensions or {}).get("code") for error in result.errors or ()}
    (code,) = codes if len(codes) == 1 else (None,)
    return {"UNAVAILABLE": 503, "FORBIDDEN": 403}.get(code or "", 400)


def _body_of(result: ExecutionResult) -> dict[str, Any]:
    if not result.errors:
        body: dict[str, Any] = {"data": result.data}
    else:
        errors = [error.formatted for error in result.errors]
        body = {"errors": errors} if isinstance(result, PreExecutionError) else {"errors": errors, "data": result.data}
    if result.extensions:
        body["extensions"] = result.extensions
    return body

"""GraphQL over HTTP: POST for everything, GET for queries, streams for who takes them, and the page for browsers.

Follows the GraphQL-over-HTTP specification: `application/graphql-response+json` says by its status whether a request could
be run at all; `application/json`, for older clients, is 200 for whatever GraphQL could look at.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from strawberry.http.websocket_origin import is_same_origin
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType

from resolvers.api_tokens import Caller
from resolvers.storage import Alarms, DatabaseUnavailable
from runyard.auth.authenticator import Access, TooManyWrongTokens, Unauthenticated, address_of
from runyard.graphiql import Page
from runyard.http.compression import compressed
from runyard.http.disconnects import AT_ONCE_SECONDS, Presence
from runyard.http.requests import (
    BadRequest,
    checked_parameters,
    header,
    parameters_in_body,
    parameters_in_query_string,
    read_body,
    types_in,
)
from runyard.http.responses import Answer
from runyard.http.sse import EVENT_STREAM, EventStream
from runyard.persisted_documents import TrustedDocuments
from schema.context import Context
from schema.execution.engine import RunyardSchema, Weighed

ENDPOINT = "/graphql"
RESPONSE_TYPE = "application/graphql-response+json"
OLDER_TYPE = "application/json"
VARY = {"Vary": "Accept"}
"""Browsers get a page at the same address."""

_AS_JSON = {RESPONSE_TYPE, OLDER_TYPE, "*/*", "application/*"}
_EVERYTHING = (OperationType.QUERY, OperationType.MUTATION)


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
        self._body_timeouts = Alarms(body_seconds)
        self._not_at_once = Alarms(AT_ONCE_SECONDS)
        self._compress_above_bytes = compress_above_bytes
        self._keep_alive_seconds = keep_alive_seconds
        self._allowed_origins = frozenset(allowed_origins)
        self._large_answers = asyncio.Lock()

    async def __call__(self, request: Request) -> Response | Answer:
        """Answer one request. Whatever is wrong with it is told as JSON, with a code."""
        accepted = types_in(",".join(header(request, b"accept")))
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
            presence = Presence(self._not_at_once, request.receive)
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
            return parameters_in_query_string(request)
        if request.method == "POST":
            return parameters_in_body(request, await read_body(request, self._max_body_bytes, self._body_timeouts))
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
        query, variables, operation_name, extensions = checked_parameters(self._trusted, parameters)
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


def _told(refusal: BadRequest, media_type: str) -> Response:
    error = {"message": str(refusal), "extensions": refusal.extensions}
    return Response(orjson.dumps({"errors": [error]}), refusal.status, VARY | refusal.headers, media_type)


def _stopping(media_type: str) -> Response:
    message = "The server stops, and has given this up; what it had begun to write may be written. Ask again."
    refusal = BadRequest(503, message, {"Connection": "close"}, code="UNAVAILABLE")
    refusal.extensions["retryable"] = True
    return _told(refusal, media_type)


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

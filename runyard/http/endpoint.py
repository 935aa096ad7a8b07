"""GraphQL over HTTP: POST for all operations, GET for those that change nothing, event streams, and GraphiQL.

Follows the GraphQL-over-HTTP specification. With `application/graphql-response+json`, the status shows whether the
operation was executed; with `application/json`, for older clients, it is 200 for every well-formed GraphQL request.
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

from db.errors import DatabaseUnavailable
from db.runtime.deadlines import SharedTimer
from db.runtime.memory_budget import SharedMemoryBudget
from resolvers.actor import request_actor
from resolvers.api_tokens import Caller
from resolvers.errors import ErrorCode
from runyard.auth.authenticator import Authenticator, TooManyFailedAttempts, Unauthenticated, client_address
from runyard.graphiql import GraphiQLPage
from runyard.http.compression import compress_body
from runyard.http.disconnects import WATCH_DELAY_SECONDS, DisconnectWatcher
from runyard.http.requests import (
    BadRequest,
    accepted_media_types,
    header_values,
    parse_body,
    parse_query_string,
    read_body,
    reject_websocket_without_upgrade,
    validate_parameters,
)
from runyard.http.responses import GraphQLResponse
from runyard.http.sse import EVENT_STREAM, EventStream
from runyard.persisted_documents import TrustedDocuments
from runyard.request_memory import RequestMemory
from schema.context import Context
from schema.execution.engine import RunyardSchema, SizedResult
from schema.execution.operation import Operation

ENDPOINT = "/graphql"
ENDPOINT_PATHS = frozenset({"/", "/graphql", "/graphql/"})
"""Paths that serve GraphQL and GraphiQL. They do not redirect: many GraphQL clients do not follow redirects."""
GRAPHQL_RESPONSE_TYPE = "application/graphql-response+json"
JSON_TYPE = "application/json"
VARY = {"Vary": "Accept"}
"""The response depends on Accept: browsers get GraphiQL at the same URL."""

_JSON_TYPES = {GRAPHQL_RESPONSE_TYPE, JSON_TYPE, "*/*", "application/*"}
_QUERY_OR_MUTATION = (OperationType.QUERY, OperationType.MUTATION)


@dataclass(slots=True)
class _OperationRequest:
    """An operation with the parameters for its execution."""

    query: str
    variables: dict[str, Any] | None
    operation_name: str | None
    extensions: dict[str, Any] | None
    type: OperationType | None
    """None when the document has no such operation; executing it returns the error."""


class GraphQLOverHTTP:
    """The HTTP endpoint."""

    def __init__(
        self,
        schema: RunyardSchema,
        context: Context,
        page: GraphiQLPage,
        trusted_documents: TrustedDocuments,
        authenticator: Authenticator | None,
        request_budget: SharedMemoryBudget,
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
        self._trusted_documents = trusted_documents
        self._authenticator = authenticator
        self._request_budget = request_budget
        self._max_body_bytes = max_body_bytes
        self._body_timer = SharedTimer(body_seconds)
        self._disconnect_timer = SharedTimer(WATCH_DELAY_SECONDS)
        self._compress_above_bytes = compress_above_bytes
        self._keep_alive_seconds = keep_alive_seconds
        self._allowed_origins = frozenset(allowed_origins)
        self._large_response_lock = asyncio.Lock()
        self._is_stopping = False

    async def stop(self, timeout_seconds: float) -> None:
        """End event streams without `complete` from now on. Other requests are still served."""
        self._is_stopping = True

    def _is_interrupted(self, operation_request: _OperationRequest) -> bool:
        return self._is_stopping and operation_request.type is OperationType.SUBSCRIPTION

    async def __call__(self, request: Request) -> Response | GraphQLResponse:
        """Handle one request. Request errors are returned as JSON with a code."""
        accepted = accepted_media_types(",".join(header_values(request, b"accept")))
        if request.method == "GET" and "text/html" in accepted:
            return self._page(request)
        media_type = GRAPHQL_RESPONSE_TYPE if GRAPHQL_RESPONSE_TYPE in accepted else JSON_TYPE
        takes_json = not accepted.isdisjoint(_JSON_TYPES)
        try:
            if request.method == "GET":
                reject_websocket_without_upgrade(request)
            _check_accepted(accepted)
            context = (
                self._context if self._authenticator is None else await self._authenticate(self._authenticator, request)
            )
            operation_request = self._parse_operation(request, await self._read_parameters(request))
            if EVENT_STREAM in accepted and (operation_request.type is OperationType.SUBSCRIPTION or not takes_json):
                final_result = None if context.caller is None else partial(self._wait_for_token_expiry, context.caller)
                return EventStream(
                    partial(self._stream, operation_request, context),
                    VARY,
                    self._keep_alive_seconds,
                    partial(self._is_interrupted, operation_request),
                    final_result,
                )
            if operation_request.type is OperationType.SUBSCRIPTION:
                raise BadRequest(
                    400,
                    "Subscriptions must be sent over WebSocket (graphql-transport-ws), or with the header "
                    f"Accept: {EVENT_STREAM}.",
                )
            disconnect_watcher = DisconnectWatcher(self._disconnect_timer, request.receive)
            try:
                result = await self._execute(operation_request, context)
            except asyncio.CancelledError:
                if disconnect_watcher.uncancel():
                    raise ClientDisconnect from None
                raise
            finally:
                disconnect_watcher.end()
        except BadRequest as refusal:
            return _error_response(refusal, media_type)
        except asyncio.CancelledError:
            # Cancelled by uvicorn at the end of its shutdown timeout; other cancellations are handled above.
            return _shutdown_response(media_type)
        except ClientDisconnect:
            return Response(status_code=400)  # not received: the client has disconnected
        headers = VARY.copy()
        status = _status_code(result) if media_type == GRAPHQL_RESPONSE_TYPE else 200
        response_size = result.response_size if isinstance(result, SizedResult) else None
        if response_size is None or response_size.is_small:
            body = orjson.dumps(_response_body(result))
        else:
            body = await self._serialize_large_response(_response_body(result))
        # The result can take as much memory as the body.
        del result
        payload = await compress_body(request, body, self._compress_above_bytes, headers)
        return GraphQLResponse(payload, status, headers, media_type, response_size)

    async def _serialize_large_response(self, body: dict[str, Any]) -> bytes:
        """Serialize a large response: one at a time, after other tasks have run, because it blocks the event loop."""
        async with self._large_response_lock:
            await asyncio.sleep(0)
            return orjson.dumps(body)

    async def _read_parameters(self, request: Request) -> dict[str, Any]:
        if request.method == "GET":
            self._reject_cross_origin(request)
            return parse_query_string(request)
        if request.method == "POST":
            memory = RequestMemory(self._request_budget)
            try:
                return parse_body(request, await read_body(request, self._max_body_bytes, self._body_timer, memory))
            finally:
                memory.release()
        message = "GraphQL requests must use GET or POST."
        if request.method == "PUT":
            message += " The single connection mode of graphql-sse is not supported."
        raise BadRequest(405, message, {"Allow": "GET, POST"})

    def _reject_cross_origin(self, request: Request) -> None:
        """Reject GET requests from pages of other origins.

        Browsers send a GET for any page, but a POST of JSON only after a preflight request (CORS).
        """
        headers = request.headers
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and not self._allowed_origins.isdisjoint({origin, "*"}):
            return
        is_own = origin is None or is_same_origin(origin, headers.get("host"))
        if site not in ("same-origin", "none") if site is not None else not is_own:
            message = "Cross-origin GET requests are rejected unless RUNYARD_ALLOWED_ORIGINS lists the origin."
            raise BadRequest(403, message, code=ErrorCode.FORBIDDEN)

    def _parse_operation(self, request: Request, parameters: dict[str, Any]) -> _OperationRequest:
        query, variables, operation_name, extensions = validate_parameters(self._trusted_documents, parameters)
        operation = self._schema.documents.find_operation(query, operation_name)
        if operation is not None and request.method == "GET":
            self._reject_write(query, operation)
        return _OperationRequest(query, variables, operation_name, extensions, operation and operation.type)

    def _reject_write(self, query: str, operation: Operation) -> None:
        """Reject mutations, and subscriptions that deliver task runs. Browsers send a GET for any page."""
        if operation.type is OperationType.MUTATION:
            raise BadRequest(405, "Mutations must be sent by POST.", {"Allow": "POST"})
        if operation.type is OperationType.SUBSCRIPTION:
            analysis = self._schema.documents.get(query).analysis
            assert analysis is not None
            if not analysis.is_read_only(operation.node):
                raise BadRequest(405, "Subscriptions that deliver task runs must be sent by POST.", {"Allow": "POST"})

    async def _authenticate(self, authenticator: Authenticator, request: Request) -> Context:
        try:
            caller = await authenticator.authenticate(request.headers.get("authorization"), client_address(request))
        except Unauthenticated as error:
            raise BadRequest(401, str(error), {"WWW-Authenticate": "Bearer"}, code=ErrorCode.UNAUTHENTICATED) from None
        except TooManyFailedAttempts as error:
            refusal = BadRequest(
                429, str(error), {"Retry-After": str(error.retry_after_seconds)}, code=ErrorCode.TOO_MANY_WRONG_TOKENS
            )
        except DatabaseUnavailable:
            message = "The database is busy or unavailable. Retry the request."
            refusal = BadRequest(503, message, code=ErrorCode.UNAVAILABLE)
        else:
            # Each request has its own task, so the value ends with it.
            request_actor.set(caller.actor)
            return self._context.for_caller(caller)
        refusal.extensions["retryable"] = True
        raise refusal

    async def _wait_for_token_expiry(self, caller: Caller) -> bytes:
        """Return the last result of a stream when the caller's token has expired or been revoked."""
        assert self._authenticator is not None
        await self._authenticator.wait_until_invalid(caller)
        error = {"message": "The token has expired or been revoked.", "extensions": {"code": ErrorCode.UNAUTHENTICATED}}
        return orjson.dumps({"errors": [error]})

    def _execute(self, operation_request: _OperationRequest, context: Context) -> Awaitable[ExecutionResult]:
        return self._schema.execute(
            operation_request.query,
            operation_request.variables,
            context,
            None,
            operation_request.operation_name,
            _QUERY_OR_MUTATION,
            operation_request.extensions,
        )

    async def _stream(self, operation_request: _OperationRequest, context: Context) -> AsyncGenerator[bytes, None]:
        results = await self._schema.stream(
            operation_request.query, operation_request.variables, context, None, operation_request.operation_name
        )
        return _serialize_results(results)


async def _serialize_results(results: AsyncGenerator[ExecutionResult, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(results):
        async for result in results:
            yield orjson.dumps(_response_body(result))


def _check_accepted(accepted: frozenset[str]) -> None:
    """Raise BadRequest when the client accepts no media type of this endpoint."""
    if EVENT_STREAM not in accepted and accepted.isdisjoint(_JSON_TYPES):
        raise BadRequest(406, f"Accept must include {GRAPHQL_RESPONSE_TYPE}, {JSON_TYPE} or {EVENT_STREAM}.")


def _error_response(refusal: BadRequest, media_type: str) -> Response:
    error = {"message": str(refusal), "extensions": refusal.extensions}
    return Response(orjson.dumps({"errors": [error]}), refusal.status, VARY | refusal.headers, media_type)


def _shutdown_response(media_type: str) -> Response:
    message = "The server is stopping and cancelled the request. A mutation may have been committed. Retry the request."
    refusal = BadRequest(503, message, {"Connection": "close"}, code=ErrorCode.UNAVAILABLE)
    refusal.extensions["retryable"] = True
    return _error_response(refusal, media_type)


def _status_code(result: ExecutionResult) -> int:
    if not isinstance(result, PreExecutionError):
        return 200
    codes = {(error.extensions or {}).get("code") for error in result.errors or ()}
    if codes == {ErrorCode.UNAVAILABLE}:
        return 503
    return 403 if codes == {ErrorCode.FORBIDDEN} else 400


def _response_body(result: ExecutionResult) -> dict[str, Any]:
    if not result.errors:
        body: dict[str, Any] = {"data": result.data}
    else:
        errors = [error.formatted for error in result.errors]
        body = {"errors": errors} if isinstance(result, PreExecutionError) else {"errors": errors, "data": result.data}
    if result.extensions:
        body["extensions"] = result.extensions
    return body

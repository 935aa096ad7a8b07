"""GraphQL over HTTP: POST for everything, GET for queries, and the page for browsers.

Follows the GraphQL-over-HTTP specification: `application/graphql-response+json` says by its status whether a request could
be run at all; `application/json`, for older clients, is 200 for whatever GraphQL could look at.
"""

import re
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType

from runyard.graphiql import Page
from schema.context import Context
from schema.execution import RunyardSchema

RESPONSE_TYPE = "application/graphql-response+json"
OLDER_TYPE = "application/json"
VARY = {"Vary": "Accept"}
"""Browsers get a page at the same address."""

_ANSWERED = {RESPONSE_TYPE, OLDER_TYPE, "*/*", "application/*"}
_REFUSES = re.compile(r"q=0(\.0*)?")
_EVERYTHING = (OperationType.QUERY, OperationType.MUTATION)


class BadRequest(Exception):
    """The request is none that GraphQL could look at."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class GraphQLOverHTTP:
    """The endpoint."""

    def __init__(self, schema: RunyardSchema, context: Context, page: Page, max_body_bytes: int) -> None:
        self._schema = schema
        self._context = context
        self._page = page
        self._max_body_bytes = max_body_bytes

    async def __call__(self, request: Request) -> Response:
        """Answer one request. Whatever is wrong with it is told as JSON, with a code."""
        accepted = _accepted(request)
        if request.method == "GET" and "text/html" in accepted:
            return self._page(request)
        media_type = RESPONSE_TYPE if RESPONSE_TYPE in accepted else OLDER_TYPE
        try:
            if accepted.isdisjoint(_ANSWERED):
                raise BadRequest(406, f"Answers are {RESPONSE_TYPE} or {OLDER_TYPE}.")
            result = await self._execute(request)
        except BadRequest as refusal:
            error = {"message": str(refusal), "extensions": {"code": "BAD_USER_INPUT"}}
            headers = VARY | (refusal.headers or {})
            return Response(orjson.dumps({"errors": [error]}), refusal.status, headers, media_type)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        status = 400 if isinstance(result, PreExecutionError) and media_type == RESPONSE_TYPE else 200
        return Response(orjson.dumps(_body_of(result)), status, VARY, media_type)

    async def _execute(self, request: Request) -> ExecutionResult:
        if request.method == "GET":
            parameters = _from_query_string(request)
        elif request.method == "POST":
            parameters = _from_body(request, await self._read_body(request))
        else:
            raise BadRequest(405, "GraphQL is asked by GET or POST.", {"Allow": "GET, POST"})
        query, variables, operation_name = _checked(parameters)
        document = self._schema.document(query)
        operation = self._schema.operation(document, operation_name)
        kind = None if isinstance(operation, PreExecutionError) else operation.operation.value
        if kind == "subscription":
            raise BadRequest(400, "Subscriptions are sent over WebSocket, by the protocol graphql-transport-ws.")
        if kind == "mutation" and request.method == "GET":
            raise BadRequest(405, "Mutations are sent by POST.", {"Allow": "POST"})
        context = (
            replace(self._context, client_left=partial(_leaving, request)) if kind == "mutation" else self._context
        )
        return await self._schema.execute(query, variables, context, None, operation_name, _EVERYTHING)

    async def _read_body(self, request: Request) -> bytes:
        """The body; 413 as soon as it is too large, however it is sent."""
        too_large = BadRequest(413, f"The body may have at most {self._max_body_bytes:,} bytes.")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_body_bytes:
            raise too_large
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > self._max_body_bytes:
                raise too_large
            parts.append(part)
        return b"".join(parts)


async def _leaving(request: Request) -> None:
    """Return once the client of a request whose body has been read has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _accepted(request: Request) -> set[str]:
    """The types that the client takes; anything, where it does not say."""
    header = ",".join(request.headers.getlist("accept"))
    if not header.strip():
        return {"*/*"}
    accepted: set[str] = set()
    for each in header.split(","):
        media_type, *parameters = (part.strip().lower() for part in each.split(";"))
        if media_type and not any(_REFUSES.fullmatch(parameter) for parameter in parameters):
            accepted.add(media_type)
    return accepted


def _from_body(request: Request, body: bytes) -> dict[str, Any]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise BadRequest(415, f"The body has to be application/json, not {media_type or 'of no type'}.")
    try:
        parameters = orjson.loads(body)
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


def _checked(parameters: dict[str, Any]) -> tuple[str, dict[str, Any] | None, str | None]:
    query, variables, name = (parameters.get(each) for each in ("query", "variables", "operationName"))
    if not isinstance(query, str):
        raise BadRequest(400, "query is missing, or is no text.")
    if not isinstance(variables, dict | None):
        raise BadRequest(400, "variables has to be a JSON object.")
    if not isinstance(name, str | None):
        raise BadRequest(400, "operationName has to be a text.")
    if not isinstance(parameters.get("extensions"), dict | None):
        raise BadRequest(400, "extensions has to be a JSON object.")
    return query, variables, name or None  # pyright: ignore[reportUnknownVariableType]


def _body_of(result: ExecutionResult) -> dict[str, Any]:
    if not result.errors:
        return {"data": result.data}
    errors = [error.formatted for error in result.errors]
    return {"errors": errors} if isinstance(result, PreExecutionError) else {"errors": errors, "data": result.data}

"""GraphQL over WebSocket: the protocol graphql-transport-ws.

Strawberry's handler implements the protocol. This module closes its gaps: frames are text, malformed messages close the
socket with 4400 instead of raising, and a document with a syntax error ends only its own operation. Only the current
protocol is offered, because clients that list the legacy protocol first would get that one.

With authentication, the token is sent as `Authorization` in the payload of `connection_init`, or as a header of the
upgrade request. The socket is closed with 4403 if the token is invalid, and when it expires or is revoked. Clients can
then reconnect with another token.

A socket that exceeds the connection limit of its client is closed with 4429. It counts for its IP address until
`connection_init` with a token identifies the client.

A message above the message limit fails alone: its operation gets an error. uvicorn closes the socket with 1009 when a
message exceeds the limit for HTTP bodies, too.

A stopping server closes its sockets with 1012, each when its last query or mutation has ended. It does not complete
subscriptions: to clients, `complete` means that there is nothing to reconnect for.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from json import JSONDecodeError
from typing import Any, cast

import orjson
from graphql import GraphQLError
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter, GraphQL
from strawberry.http.exceptions import NonJsonMessageReceived, NonTextMessageReceived, WebSocketDisconnected
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import Message
from strawberry.types.graphql import OperationType

from db.errors import DatabaseUnavailable
from resolvers.actor import request_actor
from resolvers.errors import ErrorCode
from runyard.auth.authenticator import Authenticator, TooManyFailedAttempts, Unauthenticated, client_address
from runyard.json_input import parse_json
from runyard.persisted_documents import DocumentRefused, TrustedDocuments, has_persisted_query
from runyard.websocket.connection_limit import ConnectionLimit, ConnectionSlot
from schema.context import Context
from schema.execution.engine import RunyardSchema

SEND_TIMEOUT_SECONDS = 20.0
"""Time for which a client may leave a message unread once the buffers are full. After it, the operation ends."""

MAX_CLOSE_REASON_BYTES = 120
"""Size limit of a close reason in bytes. The WebSocket protocol allows 123."""


CLOSE_MESSAGE_TOO_LARGE = 1009, "The message is too large"
CLOSE_SERVER_STOPPING = 1012, "The server is stopping"
CLOSE_FORBIDDEN = 4403, "Forbidden"
CLOSE_TOO_MANY_FAILED_ATTEMPTS = 4403, "Too many invalid tokens from this address"
CLOSE_TOO_MANY_CONNECTIONS = 4429, "Too many connections from this client"
CLOSE_TRY_AGAIN_LATER = 1013, "The database is unavailable"


@dataclass(frozen=True, slots=True)
class _OversizedMessage:
    """A message above the message limit."""

    size: int
    """Size in bytes."""
    content: object
    """The parsed message; None when it is not valid JSON."""


class _Handler(BaseGraphQLTransportWSHandler[Context, None]):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._token_expiry_task: asyncio.Task[None] | None = None
        """Waits until the token expires or is revoked."""
        self._subscription_ids: set[str] = set()
        """Ids of the operations that are subscriptions, in progress or ended."""
        self._operation_tasks: set[asyncio.Task[Any]] = set()
        """Tasks of the operations in progress. A task ends after its last message is sent."""

    async def handle(self) -> None:
        """Serve the socket until it is closed."""
        handlers = self._endpoint.handlers
        handlers.add(self)
        try:
            await super().handle()
        finally:
            handlers.discard(self)

    @property
    def _endpoint(self) -> "GraphQLOverWebSocket":
        return cast("GraphQLOverWebSocket", self.view)

    async def close_when_idle(self) -> None:
        """Close the socket of a stopping server when its operations have ended.

        Does nothing before `connection_init`: it is acknowledged and then the socket is closed, because gql cannot
        reconnect after a close in between.
        """
        while self._operation_tasks:
            await asyncio.wait(self._operation_tasks)
        if self.connection_acknowledged:
            # The client may have disconnected in the meantime.
            with suppress(RuntimeError, WebSocketDisconnect):
                await self.websocket.close(*CLOSE_SERVER_STOPPING)

    async def handle_connection_init(self, message: Any) -> None:
        await self._initialize_connection(message)
        if self.connection_acknowledged and self._endpoint.is_stopping:
            await self.close_when_idle()

    async def _initialize_connection(self, message: Any) -> None:
        authenticator = self._endpoint.authenticator
        if authenticator is None or self.connection_init_received or not isinstance(message.get("payload", {}), dict):
            await super().handle_connection_init(message)
            return
        if (refusal := await self._authenticate(authenticator, message.get("payload", {}))) is not None:
            code, reason = refusal
            await self.websocket.close(code, reason)
            return
        await super().handle_connection_init(message)
        self._token_expiry_task = asyncio.create_task(self._close_on_token_expiry(authenticator), name="token")

    async def _authenticate(self, authenticator: Authenticator, payload: dict[str, Any]) -> tuple[int, str] | None:
        """Authenticate the client. Returns the close code and reason when it is rejected, otherwise None."""
        socket: WebSocket = cast("_Adapter", self.websocket).ws
        authorization = payload.get("Authorization", payload.get("authorization", socket.headers.get("authorization")))
        try:
            caller = await authenticator.authenticate(
                authorization if isinstance(authorization, str) else None, client_address(socket)
            )
        except Unauthenticated:
            return CLOSE_FORBIDDEN
        except TooManyFailedAttempts:
            return CLOSE_TOO_MANY_FAILED_ATTEMPTS
        except DatabaseUnavailable:
            return CLOSE_TRY_AGAIN_LATER
        slot: ConnectionSlot = socket.state.slot
        if not slot.transfer_to(f"token {caller.token_id}"):
            return CLOSE_TOO_MANY_CONNECTIONS
        self.context.caller = caller
        # The tasks of the connection's operations inherit it.
        request_actor.set(caller.actor)
        return None

    async def _close_on_token_expiry(self, authenticator: Authenticator) -> None:
        assert self.context.caller is not None
        await authenticator.wait_until_invalid(self.context.caller)
        self.connection_acknowledged = False
        # Not `self.shutdown`, which marks the peer as lost: an expired token does not mean that the worker crashed.
        await super().shutdown()
        # The client may have disconnected in the meantime.
        with suppress(RuntimeError, WebSocketDisconnect):
            await self.websocket.close(*CLOSE_FORBIDDEN)

    async def handle_message(self, message: Message | _OversizedMessage) -> None:
        if isinstance(message, _OversizedMessage):
            await self._refuse_oversized_message(message)
        elif (message_error := _find_message_error(message)) is not None:
            await self.handle_invalid_message(message_error)
        elif message["type"] == "connection_init" and message.get("payload") is None:
            await super().handle_message({"type": "connection_init"})
        elif message["type"] == "subscribe" and self._is_at_operation_limit and message["id"] not in self.operations:
            extensions = {"code": ErrorCode.BAD_USER_INPUT}
            limit = self.max_subscriptions_per_connection
            message_text = f"The connection has reached its limit of {limit} concurrent operations."
            error = {"message": message_text, "extensions": extensions}
            await self._send_error(message["id"], error)
        elif message["type"] == "subscribe" and self.connection_acknowledged and message["id"] not in self.operations:
            await self._handle_subscribe_message(message)
        else:
            await super().handle_message(message)

    async def _refuse_oversized_message(self, oversized: _OversizedMessage) -> None:
        """Refuse the operation of the message. Close the socket if the message contains no operation."""
        message: Any = oversized.content
        if _find_message_error(message) is not None or message["type"] != "subscribe":
            await self.websocket.close(*CLOSE_MESSAGE_TOO_LARGE)
        elif not self.connection_acknowledged or message["id"] in self.operations:
            # Closes the socket: an error would end the operation that has this id.
            await super().handle_message(message)
        else:
            text = (
                f"The message must not exceed {self._endpoint.max_message_bytes:,} bytes; got {oversized.size:,}. Send "
                "the operation over HTTP."
            )
            await self._send_error(message["id"], {"message": text, "extensions": {"code": ErrorCode.BAD_USER_INPUT}})

    async def send_message(self, message: Message) -> None:
        if self._is_interrupted(message):
            return
        try:
            await super().send_message(message)
        except WebSocketDisconnected as error:
            # A client that is connected but does not read is not lost.
            self.context.peer.is_lost |= not isinstance(error.__cause__, TimeoutError)
            raise

    async def handle_task_exception(self, error: Exception) -> None:
        # An operation that sends after its socket was closed is not an internal error; it ends without a log line.
        if not isinstance(error, WebSocketDisconnected):
            await super().handle_task_exception(error)

    async def shutdown(self) -> None:
        """End all operations: the client disconnected without completing them."""
        if self._token_expiry_task is not None:
            self._token_expiry_task.cancel()
        self.context.peer.is_lost = True
        await super().shutdown()

    def _is_interrupted(self, message: Any) -> bool:
        """Return whether the message ends a subscription only because the server is stopping."""
        return (
            self._endpoint.is_stopping
            and message["type"] in ("complete", "error")
            and message["id"] in self._subscription_ids
        )

    async def _handle_subscribe_message(self, message: Any) -> None:
        id, payload = message["id"], message["payload"]
        try:
            payload["query"] = self._endpoint.trusted_documents.resolve(payload)
        except DocumentRefused as refused:
            await self._send_error(id, {"message": str(refused), "extensions": refused.extensions})
            return
        payload["operationName"] = payload.get("operationName") or None
        if self._endpoint.is_subscription(payload["query"], payload["operationName"]):
            if self._endpoint.is_stopping:
                return  # The socket is about to be closed. The client subscribes again after it has reconnected.
            self._subscription_ids.add(id)
        else:
            self._subscription_ids.discard(id)
        await super().handle_message(message)
        self._track_operation(id)

    def _track_operation(self, id: str) -> None:
        operation = self.operations.get(id)
        task = None if operation is None else cast("asyncio.Task[Any] | None", operation.task)
        if task is not None:
            self._operation_tasks.add(task)
            task.add_done_callback(partial(self._forget_operation, id))

    def _forget_operation(self, id: str, task: asyncio.Task[Any]) -> None:
        self._operation_tasks.discard(task)
        # The client may already have reused the id.
        if id not in self.operations:
            self._subscription_ids.discard(id)

    async def _send_error(self, id: str, error: dict[str, Any]) -> None:
        await self.websocket.send_json({"id": id, "type": "error", "payload": [error]})

    @property
    def _is_at_operation_limit(self) -> bool:
        max_operations = self.max_subscriptions_per_connection
        return self.connection_acknowledged and max_operations is not None and len(self.operations) >= max_operations

    @staticmethod
    def _get_pre_execution_close_reason(error: GraphQLError) -> str | None:
        return None


class _Adapter(ASGIWebSocketAdapter):
    async def iter_json(self, *, ignore_parsing_errors: bool = False) -> AsyncGenerator[object, None]:
        """Yield the parsed messages, and those above the message limit as `_OversizedMessage`."""
        view = cast("GraphQLOverWebSocket", self.view)
        try:
            while self.ws.application_state != WebSocketState.DISCONNECTED:
                text = await self.ws.receive_text()
                size = _find_excess_size(text, view.max_message_bytes)
                try:
                    content = view.decode_json(text)
                except JSONDecodeError as error:
                    if size is None:
                        raise NonJsonMessageReceived from error
                    content = None
                del text
                yield content if size is None else _OversizedMessage(size, content)
        except KeyError as error:
            raise NonTextMessageReceived from error
        except WebSocketDisconnect:
            return

    async def send_json(self, message: Any) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await self.ws.send_text(orjson.dumps(message).decode())
        except (WebSocketDisconnect, RuntimeError, TimeoutError) as error:
            # Starlette raises RuntimeError for a send after the close.
            raise WebSocketDisconnected from error

    async def close(self, code: int, reason: str) -> None:
        await super().close(code, reason.encode()[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore"))


class GraphQLOverWebSocket(GraphQL[Context, None]):
    """The WebSocket endpoint, an ASGI application."""

    websocket_adapter_class = _Adapter  # pyright: ignore[reportAssignmentType]
    graphql_transport_ws_handler_class = _Handler

    def __init__(
        self,
        schema: RunyardSchema,
        context: Context,
        trusted_documents: TrustedDocuments,
        authenticator: Authenticator | None,
        *,
        max_message_bytes: int,
        max_operations: int,
        max_connections: int,
        connection_init_seconds: float,
        allowed_origins: Sequence[str],
    ) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
            connection_init_wait_timeout=timedelta(seconds=connection_init_seconds),
            max_subscriptions_per_connection=max_operations,
            allowed_origins=allowed_origins,
        )
        self._context = context
        self._documents = schema.documents
        self._connection_limit = ConnectionLimit(max_connections)
        self.max_message_bytes = max_message_bytes
        self.trusted_documents = trusted_documents
        self.authenticator = authenticator
        self.handlers: set[_Handler] = set()
        """The handlers of the open sockets."""
        self.is_stopping = False
        """Whether the server is stopping: subscriptions end without `complete`, and new ones are ignored."""

    async def stop(self, timeout_seconds: float) -> None:
        """Close each socket with 1012 when its operations have ended. Sockets that are opened later are closed, too.

        Returns when the sockets are closed, at the latest after the timeout. uvicorn then closes the remaining ones,
        whose clients do not read.
        """
        self.is_stopping = True
        closing = [asyncio.create_task(handler.close_when_idle()) for handler in self.handlers]
        if closing:
            _, unfinished = await asyncio.wait(closing, timeout=timeout_seconds)
            for task in unfinished:
                task.cancel()

    def is_subscription(self, query: str, operation_name: str | None) -> bool:
        """Return whether the document's operation with this name is a subscription."""
        operation = self._documents.find_operation(query, operation_name)
        return operation is not None and operation.type is OperationType.SUBSCRIPTION

    async def get_context(self, request: object, response: object) -> Context:
        return self._context.for_socket()

    async def reject_websocket(self, request: WebSocket) -> WebSocket:
        message = (
            f"The origin {request.headers.get('origin')!r} is not allowed. Allowed origins are listed in "
            "RUNYARD_ALLOWED_ORIGINS.\n"
        )
        await request.send_denial_response(PlainTextResponse(message, 403))
        return request

    def decode_json(self, data: str | bytes) -> object:
        return parse_json(data)

    async def endpoint(self, socket: WebSocket) -> None:
        """Serve one socket until it is closed."""
        slot = self._connection_limit.acquire(f"address {client_address(socket)}")
        if slot is None:
            await socket.accept(await self.pick_websocket_subprotocol(socket))
            await socket.close(*CLOSE_TOO_MANY_CONNECTIONS)
            return
        socket.state.slot = slot
        try:
            await self.run(socket)
        finally:
            slot.release()


def _find_excess_size(text: str, max_bytes: int) -> int | None:
    """Return the size of the text in bytes if it exceeds the limit, otherwise None."""
    if 4 * len(text) <= max_bytes:
        return None
    size = len(text.encode())
    return size if size > max_bytes else None


def _find_message_error(message: object) -> str | None:
    """Return what is malformed about a client's message; None when it is well-formed."""
    if not isinstance(message, dict):
        return "The message must be a JSON object."
    message = cast("dict[str, Any]", message)
    if not isinstance(message.get("type"), str):
        return "The message must have a type."
    if message["type"] in ("subscribe", "complete") and not (isinstance(message.get("id"), str) and message["id"]):
        return "The message must have an id, which is a non-empty string."
    if message["type"] == "subscribe":
        return _find_payload_error(message.get("payload"))
    if message["type"] in ("ping", "pong") and not isinstance(message.get("payload"), dict | None):
        return "The payload must be a JSON object."
    return None


def _find_payload_error(payload: object) -> str | None:
    if not isinstance(payload, dict):
        return "The payload must be a JSON object."
    payload = cast("dict[str, Any]", payload)
    for name, kind, required in (
        ("query", str, payload.get("documentId") is None and not has_persisted_query(payload)),
        ("documentId", str, False),
        ("variables", dict, False),
        ("operationName", str, False),
        ("extensions", dict, False),
    ):
        value = payload.get(name)
        if not (isinstance(value, kind) or (value is None and not required)):
            return f"The payload's {name} is missing or has the wrong type."
    return None

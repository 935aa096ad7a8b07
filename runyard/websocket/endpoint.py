"""GraphQL over WebSocket, by the protocol graphql-transport-ws.

Strawberry's handler keeps the protocol; here its gaps are closed: frames are text, malformed messages close the socket
with 4400 instead of a traceback, a document with a syntax error ends its own operation and no other, and only the current
protocol is offered, since clients that list the legacy one first would get it.

Where access is by tokens, one comes in the payload of the introduction, under `Authorization`, or with the upgrade, where
a client can set headers. Without a valid one the socket is closed with 4403, and so it is when its token is valid no more:
clients may come again with another one.

A socket that is one too many of its client is closed with 4429. Sockets count for their address, until an introduction with
a token says whose they are.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

import orjson
from graphql import GraphQLError
from starlette.websockets import WebSocket, WebSocketDisconnect
from strawberry.asgi import ASGIWebSocketAdapter, GraphQL
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import Message

from resolvers.storage import DatabaseUnavailable
from runyard.auth.authenticator import Access, TooManyWrongTokens, Unauthenticated, address_of
from runyard.json_input import read_json
from runyard.persisted_documents import DocumentRefused, TrustedDocuments
from runyard.websocket.connection_limit import Place, SocketPlaces
from schema.context import Context
from schema.execution.engine import RunyardSchema

SEND_SECONDS = 20.0
"""How long a client may leave a message unread, once the buffers are full, before its operation ends."""

LONGEST_REASON = 120
"""Bytes of a close frame's reason; the protocol has room for 123."""


FORBIDDEN = 4403, "Forbidden"
TOO_MANY_WRONG = 4403, "Too many wrong tokens from this address"
TOO_MANY = 4429, "Too many sockets of this client"
TRY_AGAIN = 1013, "The database is away"


class _Handler(BaseGraphQLTransportWSHandler[Context, None]):
    _ending: "asyncio.Task[None] | None" = None
    """Waits for the end of the token."""

    async def handle_connection_init(self, message: Any) -> None:
        access = cast("GraphQLOverWebSocket", self.view).access
        if access is None or self.connection_init_received or not isinstance(message.get("payload", {}), dict):
            await super().handle_connection_init(message)
            return
        if (refusal := await self._admit(access, message.get("payload", {}))) is not None:
            code, reason = refusal
            await self.websocket.close(code, reason)
            return
        await super().handle_connection_init(message)
        self._ending = asyncio.create_task(self._end_with_token(access), name="token")

    async def _admit(self, access: Access, payload: dict[str, Any]) -> tuple[int, str] | None:
        """Learn who is there; the code and reason to close the socket with where it is not to be let in."""
        socket: WebSocket = cast("_Adapter", self.websocket).ws
        given = payload.get("Authorization", payload.get("authorization", socket.headers.get("authorization")))
        try:
            caller = await access.caller(given if isinstance(given, str) else None, address_of(socket))
        except Unauthenticated:
            return FORBIDDEN
        except TooManyWrongTokens:
            return TOO_MANY_WRONG
        except DatabaseUnavailable:
            return TRY_AGAIN
        place: Place = socket.state.place
        if not place.move_to(f"token {caller.token_id}"):
            return TOO_MANY
        self.context.caller = caller
        return None

    async def _end_with_token(self, access: Access) -> None:
        assert self.context.caller is not None
        await access.end_of(self.context.caller)
        self.connection_acknowledged = False
        # The operations end while the peer is there: whoever has lost the right to be served has not died of a run.
        await super().shutdown()
        # Nobody need be told who has gone meanwhile.
        with suppress(RuntimeError, WebSocketDisconnect):
            await self.websocket.close(*FORBIDDEN)

    async def handle_message(self, message: Message) -> None:
        if (fault := _fault_of(message)) is not None:
            await self.handle_invalid_message(fault)
        elif message["type"] == "connection_init" and message.get("payload") is None:
            await super().handle_message({"type": "connection_init"})
        elif message["type"] == "subscribe" and self._is_full and message["id"] not in self.operations:
            extensions = {"code": "BAD_USER_INPUT"}
            error = {"message": "This socket has too many operations under way.", "extensions": extensions}
            await self._refuse(message["id"], error)
        elif message["type"] == "subscribe" and self.connection_acknowledged and message["id"] not in self.operations:
            await self._run_trusted(message)
        else:
            await super().handle_message(message)

    async def send_message(self, message: Message) -> None:
        try:
            await super().send_message(message)
        except WebSocketDisconnected as error:
            # Who is there and does not read is not lost.
            self.context.peer.is_lost |= not isinstance(error.__cause__, TimeoutError)
            raise

    async def handle_task_exception(self, error: Exception) -> None:
        # An operation that has something to say once its socket is closed is no fault: it ends, and says nothing.
        if not isinstance(error, WebSocketDisconnected):
            await super().handle_task_exception(error)

    async def shutdown(self) -> None:
        """End what is under way: the client has gone without ending it."""
        if self._ending is not None:
            self._ending.cancel()
        self.context.peer.is_lost = True
        await super().shutdown()

    async def _run_trusted(self, message: Any) -> None:
        view = cast("GraphQLOverWebSocket", self.view)
        try:
            message["payload"]["query"] = view.trusted.query(message["payload"])
        except DocumentRefused as refused:
            await self._refuse(message["id"], {"message": str(refused), "extensions": refused.extensions})
        else:
            await super().handle_message(message)

    async def _refuse(self, id: str, error: dict[str, Any]) -> None:
        await self.websocket.send_json({"id": id, "type": "error", "payload": [error]})

    @property
    def _is_full(self) -> bool:
        most = self.max_subscriptions_per_connection
        return self.connection_acknowledged and most is not None and len(self.operations) >= most

    @staticmethod
    def _get_pre_execution_close_reason(error: GraphQLError) -> str | None:
        return None


class _Adapter(ASGIWebSocketAdapter):
    async def send_json(self, message: Any) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self.ws.send_text(orjson.dumps(message).decode())
        except (WebSocketDisconnect, RuntimeError, TimeoutError) as error:
            # RuntimeError is Starlette's answer to a send after the close.
            raise WebSocketDisconnected from error

    async def close(self, code: int, reason: str) -> None:
        await super().close(code, reason.encode()[:LONGEST_REASON].decode(errors="ignore"))


class GraphQLOverWebSocket(GraphQL[Context, None]):
    """The endpoint, as an ASGI application for WebSockets."""

    websocket_adapter_class = _Adapter  # pyright: ignore[reportAssignmentType]
    graphql_transport_ws_handler_class = _Handler

    def __init__(
        self,
        schema: RunyardSchema,
        context: Context,
        trusted: TrustedDocuments,
        access: Access | None,
        *,
        max_operations: int,
        max_sockets: int,
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
        self._places = SocketPlaces(max_sockets)
        self.trusted = trusted
        self.access = access

    async def get_context(self, request: object, response: object) -> Context:
        return self._context.for_socket()

    def decode_json(self, data: str | bytes) -> object:
        return read_json(data)

    async def endpoint(self, socket: WebSocket) -> None:
        """Serve one socket until it is closed."""
        place = self._places.take(f"address {address_of(socket)}")
        if place is None:
            await socket.accept(await self.pick_websocket_subprotocol(socket))
            await socket.close(*TOO_MANY)
            return
        socket.state.place = place
        try:
            await self.run(socket)
        finally:
            place.leave()


def _fault_of(message: object) -> str | None:
    """What is wrong with the form of a client's message; None where nothing is."""
    if not isinstance(message, dict):
        return "A message has to be a JSON object."
    message = cast("dict[str, Any]", message)
    if not isinstance(message.get("type"), str):
        return "A message has to have a type."
    if message["type"] in ("subscribe", "complete") and not (isinstance(message.get("id"), str) and message["id"]):
        return "The message has to have an id, which is a text."
    if message["type"] == "subscribe":
        return _payload_fault_of(message.get("payload"))
    if message["type"] in ("ping", "pong") and not isinstance(message.get("payload"), dict | None):
        return "The payload has to be a JSON object."
    return None


def _payload_fault_of(payload: object) -> str | None:
    if not isinstance(payload, dict):
        return "The payload has to be a JSON object."
    payload = cast("dict[str, Any]", payload)
    for name, kind, required in (
        ("query", str, payload.get("documentId") is None),
        ("documentId", str, False),
        ("variables", dict, False),
        ("operationName", str, False),
        ("extensions", dict, False),
    ):
        value = payload.get(name)
        if not (isinstance(value, kind) or (value is None and not required)):
            return f"The payload's {name} is missing or of the wrong type."
    return None

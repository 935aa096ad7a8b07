"""Puts the layers together: the schema and the routes, over a database and a queue that live from start to stop."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from db.runtime.clock import Clock
from db.runtime.timestamps import instant
from queries import MAIN_JOB, document
from resolvers.queue.capacity import QueueBounds
from resolvers.storage import DatabaseUnavailable
from resolvers.write_operations import BoundedWrites
from runyard import __version__
from runyard.auth.authenticator import Access, TooManyWrongTokens, Unauthenticated, address_of
from runyard.auth.failed_attempts import WrongTokens
from runyard.graphiql import Tab, graphiql_page, graphiql_static
from runyard.http.endpoint import ENDPOINT, GraphQLOverHTTP
from runyard.http.health import healthz, readyz
from runyard.http.host_check import KnownHosts
from runyard.http.request_id import RequestContext
from runyard.observability.metrics import Measured, Meter
from runyard.observability.prometheus import Metrics
from runyard.observability.tracing import TracedRequests, TracedSchema, Tracing, traced_database
from runyard.persisted_documents import TrustedDocuments
from runyard.services import Life
from runyard.settings import Settings
from runyard.websocket.endpoint import GraphQLOverWebSocket
from schema.context import Context
from schema.permissions import READ
from schema.root import build_schema


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What `server` in a query tells."""

    version: str
    database: str
    started_at: str


def build_app(settings: Settings, clock: Clock | None = None, chance: Callable[[], float] = random.random) -> Starlette:
    """The application. Its lifespan opens the database and closes it. A test may own the `clock`, and `chance`.

    TrustedDocumentsUnusable where the documents that the settings name can not be run.
    """
    schema = build_schema(settings.rules)
    trusted = TrustedDocuments.read(settings.trusted_documents, only=settings.only_trusted_documents)
    trusted.check(schema)
    meter = Meter()
    if settings.metrics:
        schema = Measured(schema, meter).as_schema
    tracing = Tracing.from_environment()
    if tracing is not None:
        schema = TracedSchema(schema, tracing).as_schema
    tabs = [Tab(*document(operation)) for operation in MAIN_JOB]
    page = graphiql_page(endpoint=ENDPOINT, tabs=tabs, title="Runyard")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        life = await Life.start(settings, clock, chance)
        facts = ServerFacts(__version__, life.database.name, instant(life.database.clock.now()))
        bounds = QueueBounds(
            max_scheduled=settings.max_scheduled_per_key,
            max_retry=settings.max_retry_per_key,
            is_shared=life.database.is_shared,
        )
        database = life.database if tracing is None else traced_database(life.database, tracing)
        context = Context.of(database, life.dispatcher, life.feed, BoundedWrites(bounds), facts, settings.rules.limits)
        app.state.life = life
        app.state.meter = meter
        app.state.metrics = Metrics(meter, life)
        watching = asyncio.create_task(meter.watch_event_loop(), name="meter") if settings.metrics else None
        wrong_tokens = WrongTokens(settings.max_wrong_tokens, settings.wrong_tokens_seconds)
        access = Access(life.database, wrong_tokens) if settings.needs_tokens else None
        app.state.access = access
        app.state.http = GraphQLOverHTTP(
            schema,
            context,
            page,
            trusted,
            access,
            max_body_bytes=settings.max_body_bytes,
            body_seconds=settings.body_seconds,
            compress_above_bytes=settings.compress_above_bytes,
            keep_alive_seconds=settings.keep_alive_seconds,
            allowed_origins=settings.allowed_origins,
        )
        app.state.sockets = GraphQLOverWebSocket(
            schema,
            context,
            trusted,
            access,
            max_operations=settings.max_operations_per_socket,
            max_sockets=settings.max_sockets_per_client,
            connection_init_seconds=settings.connection_init_seconds,
            allowed_origins=settings.allowed_origins,
        )
        try:
            yield
        finally:
            if watching is not None:
                watching.cancel()
            await life.end()
            if tracing is not None:
                await asyncio.to_thread(tracing.close)

    middleware = [Middleware(RequestContext)]
    if settings.hosts is not None:
        middleware.append(Middleware(KnownHosts, settings.hosts))
    if settings.allowed_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.allowed_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["Authorization", "Content-Type", "X-Request-Id", "Traceparent"],
                expose_headers=["X-Request-Id"],
            )
        )
    if tracing is not None:
        middleware.append(Middleware(TracedRequests, tracing))
    over_http = _OverHTTP()
    middleware.append(Middleware(_Shortcut, over_http))
    return Starlette(
        routes=[
            Route("/", _to_graphiql, methods=["GET"]),
            Route(ENDPOINT, over_http),  # for who asks with a slash at the end and is led here
            WebSocketRoute(ENDPOINT, _over_websocket),
            Mount("/graphiql", graphiql_static()),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/readyz", readyz, methods=["GET"]),
            *([Route("/metrics", _metrics, methods=["GET"])] if settings.metrics else []),
        ],
        middleware=middleware,
        lifespan=lifespan,
    )


async def _to_graphiql(_request: Request) -> Response:
    return RedirectResponse(ENDPOINT)


class _OverHTTP:
    """GraphQL's endpoint as an application of its own, for any method: what Starlette puts around functions takes longer
    than some operations."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: ASGIApp = await scope["app"].state.http(Request(scope, receive, send))
        await answer(scope, receive, send)


class _Shortcut:
    """Middleware: leads what is for the endpoint there at once, since nearly everything is. Starlette's routing would look
    at each route in turn, and twice put something around what is sent; nothing there raises what it would answer."""

    def __init__(self, app: ASGIApp, over_http: ASGIApp) -> None:
        self._app = app
        self._over_http = over_http

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        is_for_it = scope["type"] == "http" and scope["path"] == ENDPOINT
        return (self._over_http if is_for_it else self._app)(scope, receive, send)


async def _over_websocket(socket: WebSocket) -> None:
    state = socket.app.state
    state.meter.sockets += 1
    try:
        await state.sockets.endpoint(socket)
    finally:
        state.meter.sockets -= 1


async def _metrics(request: Request) -> Response:
    access: Access | None = request.app.state.access
    if access is not None:
        try:
            caller = await access.caller(request.headers.get("authorization"), address_of(request))
        except Unauthenticated as error:
            return PlainTextResponse(f"{error}\n", 401, {"WWW-Authenticate": "Bearer"})
        except TooManyWrongTokens as error:
            return PlainTextResponse(f"{error}\n", 429, {"Retry-After": str(error.seconds)})
        except DatabaseUnavailable:
            return PlainTextResponse("The database is busy or away; try again.\n", 503)
        if READ.isdisjoint(caller.scopes):
            return PlainTextResponse("This needs a token with the scope read.\n", 403)
    return await request.app.state.metrics(request)

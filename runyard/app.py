"""The ASGI application: the schema, routes and middleware, and a lifespan that starts and stops the services."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from db.errors import DatabaseUnavailable
from db.runtime.chance import Chance
from db.runtime.clock import Clock
from db.runtime.memory_budget import SharedMemoryBudget
from db.runtime.timestamps import format_timestamp
from queries import FOLDERS, MAIN_JOB, document, in_folder
from resolvers.queue.capacity import QueueCapacity
from resolvers.write_operations import CapacityCheckedWrites
from runyard import __version__
from runyard.auth.authenticator import Authenticator, TooManyFailedAttempts, Unauthenticated, client_address
from runyard.auth.failed_attempts import FailedAttempts
from runyard.graphiql import Documents, ExampleDocument, graphiql_page, graphiql_static
from runyard.http.cors import CORS
from runyard.http.endpoint import ENDPOINT, ENDPOINT_PATHS, GraphQLOverHTTP
from runyard.http.health import healthz, readyz
from runyard.http.host_check import HostCheck
from runyard.http.request_id import RequestIdMiddleware
from runyard.observability.metrics import MeasuredSchema, OperationMetrics
from runyard.observability.prometheus import PrometheusMetrics
from runyard.observability.tracing import TracedRequests, TracedSchema, Tracing, traced_database
from runyard.persisted_documents import TrustedDocuments
from runyard.services import Services
from runyard.settings import Settings
from runyard.websocket.endpoint import GraphQLOverWebSocket
from schema.context import Context
from schema.inputs.arguments import MAX_TASK_KEYS
from schema.limits.options import MAX_BATCH_SIZE
from schema.permissions import READ_SCOPES
from schema.root import build_schema

MAX_GRAPHQL_INT = 2**31 - 1
"""Maximum of the GraphQL type `Int`."""


@dataclass(frozen=True, slots=True)
class AppLimits:
    """Values of the query field `server.limits`. A limit above `MAX_GRAPHQL_INT` is returned as `MAX_GRAPHQL_INT`."""

    max_body_bytes: int
    max_message_bytes: int
    max_response_bytes: int
    max_page_size: int
    max_task_keys: int = MAX_TASK_KEYS
    max_batch: int = MAX_BATCH_SIZE

    @classmethod
    def from_settings(cls, settings: Settings) -> "AppLimits":
        return cls(
            min(settings.max_body_bytes, MAX_GRAPHQL_INT),
            min(settings.max_message_bytes, MAX_GRAPHQL_INT),
            min(settings.max_response_bytes, MAX_GRAPHQL_INT),
            settings.engine_options.limits.page_size,
        )


@dataclass(frozen=True, slots=True)
class AppMetadata:
    """Values of the query field `server`."""

    version: str
    database: str
    started_at: str
    limits: AppLimits


def build_app(settings: Settings, clock: Clock | None = None, chance: Chance = random.random) -> Starlette:
    """Build the application. Its lifespan opens and closes the database.

    Tests can replace `clock` and `chance` (random numbers from 0 to 1). Raises TrustedDocumentsUnusable when
    the trusted documents of the settings are missing or invalid.
    """
    schema = build_schema(settings.engine_options)
    trusted_documents = TrustedDocuments.load(settings.trusted_documents, is_exclusive=settings.only_trusted_documents)
    trusted_documents.pin(schema)
    operation_metrics = OperationMetrics()
    if settings.metrics:
        schema = MeasuredSchema(schema, operation_metrics).as_schema
    tracing = Tracing.from_environment()
    if tracing is not None:
        schema = TracedSchema(schema, tracing).as_schema
    page = graphiql_page(endpoint=ENDPOINT, documents=_graphiql_documents(), title="Runyard")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        services = await Services.start(settings, clock, chance)
        metadata = AppMetadata(
            __version__,
            services.database.name,
            format_timestamp(services.database.clock.now()),
            AppLimits.from_settings(settings),
        )
        capacity = QueueCapacity(
            max_scheduled=settings.max_scheduled_per_key,
            max_retry=settings.max_retry_per_key,
            is_shared=services.database.is_shared,
        )
        database = services.database if tracing is None else traced_database(services.database, tracing)
        context = Context.create(
            database,
            services.dispatcher,
            services.feed,
            services.waits,
            CapacityCheckedWrites(capacity),
            metadata,
            settings.engine_options.limits,
        )
        app.state.services = services
        app.state.request_budget = SharedMemoryBudget(settings.max_responses_bytes)
        app.state.operation_metrics = operation_metrics
        app.state.prometheus = PrometheusMetrics(operation_metrics, services)
        loop_monitor = (
            asyncio.create_task(operation_metrics.monitor_event_loop(), name="meter") if settings.metrics else None
        )
        failed_attempts = FailedAttempts(settings.max_wrong_tokens, settings.wrong_tokens_seconds)
        authenticator = Authenticator(services.database, failed_attempts) if settings.needs_tokens else None
        app.state.authenticator = authenticator
        app.state.http = GraphQLOverHTTP(
            schema,
            context,
            page,
            trusted_documents,
            authenticator,
            app.state.request_budget,
            max_body_bytes=settings.max_body_bytes,
            body_seconds=settings.body_seconds,
            compress_above_bytes=settings.compress_above_bytes,
            keep_alive_seconds=settings.keep_alive_seconds,
            allowed_origins=settings.allowed_origins,
        )
        app.state.sockets = GraphQLOverWebSocket(
            schema,
            context,
            trusted_documents,
            authenticator,
            max_message_bytes=settings.max_message_bytes,
            max_operations=settings.max_operations_per_socket,
            max_connections=settings.max_sockets_per_client,
            connection_init_seconds=settings.connection_init_seconds,
            allowed_origins=settings.allowed_origins,
        )
        services.stop_transports += [app.state.http.stop, app.state.sockets.stop]
        try:
            yield
        finally:
            if loop_monitor is not None:
                loop_monitor.cancel()
            await services.close()
            if tracing is not None:
                await asyncio.to_thread(tracing.close)

    middleware = [Middleware(RequestIdMiddleware)]
    if settings.hosts is not None:
        middleware.append(Middleware(HostCheck, settings.hosts))
    if settings.allowed_origins:
        middleware.append(Middleware(CORS, settings.allowed_origins, settings.allowed_headers))
    if tracing is not None:
        middleware.append(Middleware(TracedRequests, tracing))
    middleware.append(Middleware(_RouterBypass, _GraphQLApp()))
    app = Starlette(
        routes=[
            *(WebSocketRoute(path, _serve_websocket) for path in ENDPOINT_PATHS),
            Mount("/graphiql", graphiql_static()),
            *_page_routes("/healthz", healthz),
            *_page_routes("/readyz", readyz),
            *(_page_routes("/metrics", _serve_metrics) if settings.metrics else ()),
        ],
        middleware=middleware,
        lifespan=lifespan,
    )
    # Starlette redirects to absolute URLs, which lack the path prefix that a proxy has removed.
    app.router.redirect_slashes = False
    return app


def _page_routes(path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> list[Route]:
    """Return the routes of a page, with and without a trailing slash."""
    return [Route(each, endpoint, methods=["GET"]) for each in (path, f"{path}/")]


def _graphiql_documents() -> Documents:
    def read(operations: Iterable[str]) -> list[ExampleDocument]:
        return [ExampleDocument(*document(operation)) for operation in operations]

    menu = {folder.replace("_", " ").capitalize(): read(in_folder(folder)) for folder in FOLDERS}
    return Documents(read(MAIN_JOB), menu)


class _GraphQLApp:
    """The GraphQL endpoint as an ASGI application, for every method.

    Starlette's wrapper for endpoint functions takes longer than some operations.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response: ASGIApp = await scope["app"].state.http(Request(scope, receive, send))
        await response(scope, receive, send)


class _RouterBypass:
    """Middleware that passes requests for the GraphQL endpoint to it directly, because nearly all requests are for it.

    Starlette's router tries each route in turn and wraps `send` twice to handle exceptions. The endpoint does not raise
    the exceptions that these wrappers convert into responses.
    """

    def __init__(self, app: ASGIApp, graphql_app: ASGIApp) -> None:
        self._app = app
        self._graphql_app = graphql_app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        is_graphql_request = scope["type"] == "http" and scope["path"] in ENDPOINT_PATHS
        return (self._graphql_app if is_graphql_request else self._app)(scope, receive, send)


async def _serve_websocket(socket: WebSocket) -> None:
    state = socket.app.state
    state.operation_metrics.open_websockets += 1
    try:
        await state.sockets.endpoint(socket)
    finally:
        state.operation_metrics.open_websockets -= 1


async def _serve_metrics(request: Request) -> Response:
    authenticator: Authenticator | None = request.app.state.authenticator
    if authenticator is not None:
        try:
            caller = await authenticator.authenticate(request.headers.get("authorization"), client_address(request))
        except Unauthenticated as error:
            return PlainTextResponse(f"{error}\n", 401, {"WWW-Authenticate": "Bearer"})
        except TooManyFailedAttempts as error:
            return PlainTextResponse(f"{error}\n", 429, {"Retry-After": str(error.retry_after_seconds)})
        except DatabaseUnavailable:
            return PlainTextResponse("The database is busy or unavailable. Retry the request.\n", 503)
        if READ_SCOPES.isdisjoint(caller.scopes):
            return PlainTextResponse("Metrics require a token with the scope read or write.\n", 403)
    return await request.app.state.prometheus(request)

"""Puts the layers together: the schema and the routes, over a database and a queue that live from start to stop."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from db.clock import Clock
from db.instants import instant
from queries import MAIN_JOB, document
from runyard import __version__
from runyard.graphiql import Tab, graphiql_page, graphiql_static
from runyard.health import healthz, readyz
from runyard.http import GraphQLOverHTTP
from runyard.life import Life
from runyard.settings import Settings
from runyard.sockets import GraphQLOverWebSocket
from runyard.trusted import TrustedDocuments
from schema.context import Context
from schema.root import build_schema

ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What `server` in a query tells."""

    version: str
    database: str
    started_at: str


def build_app(settings: Settings, clock: Clock | None = None) -> Starlette:
    """The application. Its lifespan opens the database and closes it; A test may own the `clock`.

    TrustedDocumentsUnusable where the documents that the settings name can not be run.
    """
    schema = build_schema(settings.rules)
    trusted = TrustedDocuments.read(settings.trusted_documents, only=settings.only_trusted_documents)
    trusted.check(schema)
    tabs = [Tab(*document(operation)) for operation in MAIN_JOB]
    page = graphiql_page(endpoint="/graphql", tabs=tabs, title="Runyard")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        life = await Life.start(settings, clock)
        facts = ServerFacts(__version__, life.database.name, instant(life.database.clock.now()))
        context = Context.of(life.database, life.dispatcher, facts)
        app.state.life = life
        app.state.http = GraphQLOverHTTP(
            schema,
            context,
            page,
            trusted,
            max_body_bytes=settings.max_body_bytes,
            compress_above_bytes=settings.compress_above_bytes,
            keep_alive_seconds=settings.keep_alive_seconds,
        )
        app.state.sockets = GraphQLOverWebSocket(
            schema,
            context,
            trusted,
            max_operations=settings.max_operations_per_socket,
            connection_init_seconds=settings.connection_init_seconds,
        )
        try:
            yield
        finally:
            await life.end()

    return Starlette(
        routes=[
            Route("/", _to_graphiql, methods=["GET"]),
            Route("/graphql", _over_http, methods=ALL_METHODS),
            WebSocketRoute("/graphql", _over_websocket),
            Mount("/graphiql", graphiql_static()),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/readyz", readyz, methods=["GET"]),
        ],
        lifespan=lifespan,
    )


async def _to_graphiql(_request: Request) -> Response:
    return RedirectResponse("/graphql")


async def _over_http(request: Request) -> Response:
    return await request.app.state.http(request)


async def _over_websocket(socket: WebSocket) -> None:
    await socket.app.state.sockets.endpoint(socket)

"""OpenTelemetry: a span for each request to the API, for each operation, and for each transaction that it asks for.

Spans are made where the extra `otel` is installed and its variables name where they go (`OTEL_EXPORTER_OTLP_ENDPOINT`).
Otherwise nothing here is put in anybody's way, and the packages are not loaded.
"""

import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar, cast

from strawberry.types.execution import ExecutionResult

from resolvers.storage import Connection, Database
from resolvers.trace_context import trace_parent
from runyard.http.endpoint import ENDPOINT
from runyard.observability.schema_wrapper import Around
from schema.execution.engine import RunyardSchema

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("runyard.observability.tracing")

Answer = TypeVar("Answer")

WHERE_TO = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_FAULTS = {"INTERNAL", "UNAVAILABLE"}


class Tracing:
    """Makes spans and sends them off."""

    def __init__(self) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - only where it is asked for
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        name = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "runyard"}
        # A provider of its own: others in the process keep theirs.
        self._provider = TracerProvider(resource=Resource.create(name))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("runyard")
        self._propagator = TraceContextTextMapPropagator()
        self._trace: Any = trace

    @classmethod
    def from_environment(cls) -> "Tracing | None":
        """What the environment asks for; None where it asks for nothing, or the extra is not installed."""
        if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(map(os.environ.get, WHERE_TO)):
            return None
        try:
            return cls()
        except ModuleNotFoundError as error:
            log.warning("No traces are sent, since %s is not installed: pip install 'runyard[otel]'.", error.name)
            return None

    def close(self) -> None:
        """Send what has not been sent. Waits for that."""
        self._provider.shutdown()

    @contextmanager
    def request(self, method: str, headers: dict[str, str]) -> Generator[Any]:
        """A span around a request to the API."""
        with self._tracer.start_as_current_span(
            f"{method} {ENDPOINT}",
            context=self._propagator.extract(headers),
            kind=self._trace.SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": ENDPOINT, "url.path": ENDPOINT},
        ) as span:
            yield span

    @contextmanager
    def operation(self, kind: str, name: str | None, query: str) -> Generator[Any]:
        """A span around a query or mutation; what it creates belongs to it."""
        attributes = {"graphql.operation.type": kind, "graphql.document.sha256": sha256(query.encode()).hexdigest()}
        if name:
            attributes["graphql.operation.name"] = name
        with self._tracer.start_as_current_span(f"GraphQL {kind}", attributes=attributes) as span:
            carrier: dict[str, str] = {}
            self._propagator.inject(carrier)
            token = trace_parent.set(carrier.get("traceparent"))
            try:
                yield span
            finally:
                trace_parent.reset(token)

    @contextmanager
    def transaction(self, work: str) -> Generator[Any]:
        """A span around a transaction, where it belongs to a trace."""
        if not self._trace.get_current_span().get_span_context().is_valid:
            yield None
            return
        with self._tracer.start_as_current_span(work, kind=self._trace.SpanKind.CLIENT) as span:
            yield span

    def tell(self, span: Any, result: ExecutionResult) -> None:
        """Put what came of an operation on its span."""
        codes = sorted({str((error.extensions or {}).get("code")) for error in result.errors or ()})
        if codes:
            span.set_attribute("graphql.error.codes", codes)
            if not _FAULTS.isdisjoint(codes):
                span.set_status(self._trace.StatusCode.ERROR)


class TracedRequests:
    """Middleware: each request to the API over HTTP is a span, part of the trace that its client names."""

    def __init__(self, app: "ASGIApp", tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http" or scope["path"] != ENDPOINT:
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with self._tracing.request(scope["method"], headers) as span:

            async def send_and_tell(message: "Message") -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            await self._app(scope, receive, send_and_tell)


class TracedSchema(Around):
    """A schema, with a span around each query and mutation. Subscriptions have none: they would be as long as a worker
    lives."""

    def __init__(self, schema: RunyardSchema, tracing: Tracing) -> None:
        super().__init__(schema)
        self._tracing = tracing

    async def around_one(
        self, run: Callable[[], Awaitable[ExecutionResult]], query: str | None, operation_name: str | None
    ) -> ExecutionResult:
        kind, name = self._kind_and_name(query, operation_name)
        with self._tracing.operation(kind, name, query or "") as span:
            result = await run()
            self._tracing.tell(span, result)
            return result

    def around_stream(
        self, results: AsyncGenerator[ExecutionResult, None], query: str | None, operation_name: str | None
    ) -> AsyncGenerator[ExecutionResult, None]:
        kind, name = self._kind_and_name(query, operation_name)
        return results if kind == "subscription" else self._one(results, kind, name, query or "")

    async def _one(
        self, results: AsyncGenerator[ExecutionResult, None], kind: str, name: str | None, query: str
    ) -> AsyncGenerator[ExecutionResult, None]:
        # The span is over before the result goes out: a generator may be left in another task than it was entered in.
        with self._tracing.operation(kind, name, query) as span:
            done = [result async for result in results]
            for result in done:
                self._tracing.tell(span, result)
        for result in done:
            yield result

    def _kind_and_name(self, query: str | None, operation_name: str | None) -> tuple[str, str | None]:
        operation = self.documents.find(query, operation_name)
        if operation is None:
            return "document", operation_name
        return operation.type.value, operation.name


def traced_database(database: Database, tracing: Tracing) -> Database:
    """The database, with a span around each transaction that belongs to a trace."""
    return cast("Database", _TracedDatabase(database, tracing))


class _TracedDatabase:
    """Stands for the database. A span of a write lasts until its group of writes is on disk."""

    def __init__(self, database: Database, tracing: Tracing) -> None:
        self._database = database
        self._tracing = tracing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def read(self, work: Callable[[Connection], Answer]) -> Answer:
        with self._tracing.transaction("read"):
            return await self._database.read(work)

    async def write(self, operation: Any, item: Any) -> Any:
        with self._tracing.transaction(f"write {operation.__name__}"):
            return await self._database.write(operation, item)

    async def write_all(self, operation: Any, items: Sequence[Any]) -> Any:
        with self._tracing.transaction(f"write {operation.__name__}"):
            return await self._database.write_all(operation, items)

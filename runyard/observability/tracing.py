"""OpenTelemetry traces: a span for each request to the API, each operation and each of its transactions.

Tracing requires the extra `otel` and an exporter in the environment (`OTEL_EXPORTER_OTLP_ENDPOINT`). Otherwise nothing
is wrapped and the OpenTelemetry packages are not loaded.
"""

import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar, cast

from strawberry.types.execution import ExecutionResult

from db.connection import Connection
from db.database import Database
from resolvers.trace_context import trace_parent
from runyard.http.endpoint import ENDPOINT, ENDPOINT_PATHS
from runyard.observability.schema_wrapper import SchemaWrapper
from schema.errors import SERVER_ERROR_CODES
from schema.execution.engine import RunyardSchema

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("runyard.observability.tracing")

Result = TypeVar("Result")

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Tracing:
    """Creates spans and exports them."""

    def __init__(self) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - loaded only when configured
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        name = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "runyard"}
        # Not the global provider, which other code in the process may use.
        self._provider = TracerProvider(resource=Resource.create(name))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("runyard")
        self._propagator = TraceContextTextMapPropagator()
        self._trace: Any = trace

    @classmethod
    def from_environment(cls) -> "Tracing | None":
        """Return the tracing that the environment configures; None without configuration or without the extra."""
        if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(
            map(os.environ.get, ENDPOINT_VARIABLES)
        ):
            return None
        try:
            return cls()
        except ModuleNotFoundError as error:
            log.warning(
                "Tracing is disabled: %s is not installed. Install it with: pip install 'runyard[otel]'", error.name
            )
            return None

    def close(self) -> None:
        """Export the remaining spans. Blocks until they are sent."""
        self._provider.shutdown()

    @contextmanager
    def request_span(self, method: str, headers: dict[str, str]) -> Generator[Any]:
        """Create a span around a request to the API, as part of the trace in its headers."""
        with self._tracer.start_as_current_span(
            f"{method} {ENDPOINT}",
            context=self._propagator.extract(headers),
            kind=self._trace.SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": ENDPOINT, "url.path": ENDPOINT},
        ) as span:
            yield span

    @contextmanager
    def operation_span(self, kind: str, name: str | None, query: str) -> Generator[Any]:
        """Create a span around a query or mutation. Runs that it creates are stored with this trace context."""
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
    def transaction_span(self, work: str) -> Generator[Any]:
        """Create a span around a transaction if it belongs to a trace."""
        if not self._trace.get_current_span().get_span_context().is_valid:
            yield None
            return
        with self._tracer.start_as_current_span(work, kind=self._trace.SpanKind.CLIENT) as span:
            yield span

    def record_result(self, span: Any, result: ExecutionResult) -> None:
        """Add the error codes of a result to the span of its operation."""
        codes = sorted({str((error.extensions or {}).get("code")) for error in result.errors or ()})
        if codes:
            span.set_attribute("graphql.error.codes", codes)
            if not SERVER_ERROR_CODES.isdisjoint(codes):
                span.set_status(self._trace.StatusCode.ERROR)


class TracedRequests:
    """Middleware that creates a span for each HTTP request to the API, as part of the client's trace."""

    def __init__(self, app: "ASGIApp", tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http" or scope["path"] not in ENDPOINT_PATHS:
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with self._tracing.request_span(scope["method"], headers) as span:

            async def send_with_status(message: "Message") -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            await self._app(scope, receive, send_with_status)


class TracedSchema(SchemaWrapper):
    """Schema that creates a span for each query and mutation, but not for subscriptions.

    The span of a subscription would last as long as its worker.
    """

    def __init__(self, schema: RunyardSchema, tracing: Tracing) -> None:
        super().__init__(schema)
        self._tracing = tracing

    async def wrap_execution(
        self, run: Callable[[], Awaitable[ExecutionResult]], query: str | None, operation_name: str | None
    ) -> ExecutionResult:
        kind, name = self._kind_and_name(query, operation_name)
        with self._tracing.operation_span(kind, name, query or "") as span:
            result = await run()
            self._tracing.record_result(span, result)
            return result

    def wrap_stream(
        self, results: AsyncGenerator[ExecutionResult, None], query: str | None, operation_name: str | None
    ) -> AsyncGenerator[ExecutionResult, None]:
        kind, name = self._kind_and_name(query, operation_name)
        return results if kind == "subscription" else self._trace_stream(results, kind, name, query or "")

    async def _trace_stream(
        self, results: AsyncGenerator[ExecutionResult, None], kind: str, name: str | None, query: str
    ) -> AsyncGenerator[ExecutionResult, None]:
        # The span ends before the results are yielded: a generator can be closed in a different task than started.
        with self._tracing.operation_span(kind, name, query) as span:
            completed = [result async for result in results]
            for result in completed:
                self._tracing.record_result(span, result)
        for result in completed:
            yield result

    def _kind_and_name(self, query: str | None, operation_name: str | None) -> tuple[str, str | None]:
        operation = self.documents.find_operation(query, operation_name)
        if operation is None:
            return "document", operation_name
        return operation.type.value, operation.name


def traced_database(database: Database, tracing: Tracing) -> Database:
    """Return a proxy of the database that creates a span for each transaction that belongs to a trace."""
    return cast("Database", _TracedDatabase(database, tracing))


class _TracedDatabase:
    """Proxy of a database. The span of a write ends when its group commit is durable."""

    def __init__(self, database: Database, tracing: Tracing) -> None:
        self._database = database
        self._tracing = tracing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        with self._tracing.transaction_span("read"):
            return await self._database.read(work)

    async def write(self, operation: Any, item: Any) -> Any:
        with self._tracing.transaction_span(f"write {operation.__name__}"):
            return await self._database.write(operation, item)

    async def write_all(self, operation: Any, items: Sequence[Any]) -> Any:
        with self._tracing.transaction_span(f"write {operation.__name__}"):
            return await self._database.write_all(operation, items)

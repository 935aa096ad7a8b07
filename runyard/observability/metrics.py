"""Metrics of operations by name and outcome, of subscriptions and WebSockets, and of the event loop.

They are plain numbers, because every request updates them. `runyard.observability.prometheus` converts them into the
Prometheus format.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from strawberry.types.execution import ExecutionResult
from strawberry.types.graphql import OperationType

from db.runtime.histograms import SECONDS_BUCKETS, Histogram
from queries import document, paths
from resolvers.errors import ErrorCode
from runyard.observability.schema_wrapper import SchemaWrapper
from schema.errors import SERVER_ERROR_CODES
from schema.execution.engine import RunyardSchema

OTHER_OPERATION = "other"
"""Label of all operations with unknown documents: clients can choose an unlimited number of names."""

EVENT_LOOP_CHECK_SECONDS = 2.0
"""Interval of measuring the event loop. An idle server must rarely wake up."""


class OperationMetrics:
    """Measurements since the start of the server."""

    def __init__(self) -> None:
        self.operations: Counter[tuple[str, str]] = Counter()
        """Number of completed operations by name and outcome.

        `ok`: no errors. `refused`: the client must change the request. `failed`: internal error, or the server was
        unavailable. `cancelled`: the client disconnected first.
        """
        self.durations: dict[str, Histogram] = {}
        """Durations of queries and mutations by name, in seconds."""
        self.errors: Counter[str] = Counter()
        """Number of errors returned to clients, by code."""
        self.active_subscriptions = 0
        """Number of active subscriptions."""
        self.open_websockets = 0
        """Number of open WebSockets."""
        self.event_loop_lag = Histogram(SECONDS_BUCKETS)
        """Delay of the event loop in seconds."""
        texts = {name: document(name)[0] for name in paths()}
        self._names_by_document = {form: name for name, text in texts.items() for form in (text, text.strip())}

    def label_for(self, query: str | None) -> str:
        """Return the name that an operation with this document is counted by."""
        return self._names_by_document.get(query or "", OTHER_OPERATION)

    def record(self, name: str, seconds: float | None, outcome: str) -> None:
        """Count a completed operation. `seconds` is None for subscriptions."""
        self.operations[name, outcome] += 1
        if seconds is not None:
            histogram = self.durations.get(name)
            if histogram is None:
                histogram = self.durations[name] = Histogram(SECONDS_BUCKETS)
            histogram.add(seconds)

    def record_result(self, result: ExecutionResult) -> str:
        """Count the errors of a result and return its outcome."""
        if not result.errors:
            return "ok"
        codes = [(error.extensions or {}).get("code", ErrorCode.INTERNAL) for error in result.errors]
        self.errors.update(codes)
        return "refused" if SERVER_ERROR_CODES.isdisjoint(codes) else "failed"

    async def monitor_event_loop(self) -> None:
        """Measure the delay of the event loop until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVENT_LOOP_CHECK_SECONDS
            await asyncio.sleep(EVENT_LOOP_CHECK_SECONDS)
            self.event_loop_lag.add(max(0.0, loop.time() - due))


class MeasuredSchema(SchemaWrapper):
    """Schema that measures the operations it executes."""

    def __init__(self, schema: RunyardSchema, operation_metrics: OperationMetrics) -> None:
        super().__init__(schema)
        self._operation_metrics = operation_metrics

    async def wrap_execution(
        self, run: Callable[[], Awaitable[ExecutionResult]], query: str | None, operation_name: str | None
    ) -> ExecutionResult:
        outcome, started_at = "cancelled", time.perf_counter()
        try:
            result = await run()
            outcome = self._operation_metrics.record_result(result)
            return result
        finally:
            self._operation_metrics.record(
                self._operation_metrics.label_for(query), time.perf_counter() - started_at, outcome
            )

    async def wrap_stream(
        self, results: AsyncGenerator[ExecutionResult, None], query: str | None, operation_name: str | None
    ) -> AsyncGenerator[ExecutionResult, None]:
        operation = self.documents.find_operation(query, operation_name)
        is_subscription = operation is not None and operation.type is OperationType.SUBSCRIPTION
        operation_metrics, outcome, started_at = self._operation_metrics, "cancelled", time.perf_counter()
        operation_metrics.active_subscriptions += is_subscription
        try:
            async with aclosing(results):
                outcome = "ok"
                async for result in results:
                    outcome = operation_metrics.record_result(result)
                    yield result
        finally:
            operation_metrics.active_subscriptions -= is_subscription
            operation_metrics.record(
                operation_metrics.label_for(query),
                None if is_subscription else time.perf_counter() - started_at,
                outcome,
            )

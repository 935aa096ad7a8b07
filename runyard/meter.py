"""Measures what the server does: operations by name and outcome, streams and sockets, how late the event loop is.

It keeps plain numbers, since they are added to on every request; `runyard.metrics` words them for Prometheus.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any, cast

from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType

from db.figures import SECONDS, Distribution
from queries import document, paths
from schema.context import Context
from schema.execution import RunyardSchema

OTHER = "other"
"""The name of every operation whose document is not known: clients can make up more names than anybody has room for."""

BEAT_SECONDS = 2.0
"""How often it is looked how late the event loop is. An idle server is to sleep."""

_FAULTS = {"INTERNAL", "UNAVAILABLE"}


class Meter:
    """What has been measured since the start."""

    def __init__(self) -> None:
        self.operations: Counter[tuple[str, str]] = Counter()
        """Operations that are over, by name and outcome: `ok`; `refused`, the client has to change something; `failed`,
        the server was at fault or could not; `cancelled`, the client did not wait for it."""
        self.seconds: dict[str, Distribution] = {}
        """How long queries and mutations took, by name."""
        self.errors: Counter[str] = Counter()
        """Errors that clients were told, by code."""
        self.streams = 0
        """Subscriptions under way."""
        self.sockets = 0
        """Open WebSockets."""
        self.lateness = Distribution(SECONDS)
        """How late the event loop was."""
        texts = {name: document(name)[0] for name in paths()}
        self._names = {form: name for name, text in texts.items() for form in (text, text.strip())}

    def name_of(self, query: str | None) -> str:
        """What an operation with this document is counted as."""
        return self._names.get(query or "", OTHER)

    def count(self, name: str, seconds: float | None, outcome: str) -> None:
        """Count an operation that is over."""
        self.operations[name, outcome] += 1
        if seconds is not None:
            distribution = self.seconds.get(name)
            if distribution is None:
                distribution = self.seconds[name] = Distribution(SECONDS)
            distribution.add(seconds)

    def outcome(self, result: ExecutionResult) -> str:
        """What came of an operation; its errors are counted."""
        if not result.errors:
            return "ok"
        codes = [(error.extensions or {}).get("code", "INTERNAL") for error in result.errors]
        self.errors.update(codes)
        return "refused" if _FAULTS.isdisjoint(codes) else "failed"

    async def watch_event_loop(self) -> None:
        """Measure how late the event loop is, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self.lateness.add(max(0.0, loop.time() - due))


def measured(schema: RunyardSchema, meter: Meter) -> RunyardSchema:
    """The schema, with what is run through it measured."""
    return cast("RunyardSchema", _MeasuredSchema(schema, meter))


class _MeasuredSchema:
    """Stands for the schema, of which every server in a process uses the same one. All else is the schema's own."""

    def __init__(self, schema: RunyardSchema, meter: Meter) -> None:
        self._schema = schema
        self._meter = meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._schema, name)

    async def execute(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Context | None = None,
        root_value: Any = None,
        operation_name: str | None = None,
        allowed_operation_types: Iterable[OperationType] = (OperationType.QUERY, OperationType.MUTATION),
        operation_extensions: dict[str, Any] | None = None,
    ) -> ExecutionResult:
        """As `RunyardSchema.execute`."""
        outcome, began = "cancelled", time.perf_counter()
        try:
            result = await self._schema.execute(
                query,
                variable_values,
                context_value,
                root_value,
                operation_name,
                allowed_operation_types,
                operation_extensions,
            )
            outcome = self._meter.outcome(result)
            return result
        finally:
            self._meter.count(self._meter.name_of(query), time.perf_counter() - began, outcome)

    async def stream(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Context | None = None,
        root_value: Any = None,
        operation_name: str | None = None,
        operation_extensions: dict[str, Any] | None = None,
        allowed_operation_types: Iterable[OperationType] | None = None,
    ) -> AsyncGenerator[ExecutionResult, None]:
        """As `RunyardSchema.stream`."""
        operation = self._schema.operation(self._schema.document(query), operation_name)
        is_subscription = not isinstance(operation, PreExecutionError) and operation.operation.value == "subscription"
        results = await self._schema.stream(query, variable_values, context_value, root_value, operation_name)
        return self._measured(results, self._meter.name_of(query), is_subscription=is_subscription)

    async def _measured(
        self, results: AsyncGenerator[ExecutionResult, None], name: str, *, is_subscription: bool
    ) -> AsyncGenerator[ExecutionResult, None]:
        meter, outcome, began = self._meter, "cancelled", time.perf_counter()
        meter.streams += is_subscription
        try:
            async with aclosing(results):
                outcome = "ok"
                async for result in results:
                    outcome = meter.outcome(result)
                    yield result
        finally:
            meter.streams -= is_subscription
            meter.count(name, None if is_subscription else time.perf_counter() - began, outcome)

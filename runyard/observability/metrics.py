"""Measures what the server does: operations by name and outcome, streams and sockets, how late the event loop is.

It keeps plain numbers, since they are added to on every request; `runyard.observability.prometheus` words them for Prometheus.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from strawberry.types.execution import ExecutionResult
from strawberry.types.graphql import OperationType

from db.runtime.histograms import SECONDS, Distribution
from queries import document, paths
from runyard.observability.schema_wrapper import Around
from schema.execution.engine import RunyardSchema

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


class Measured(Around):
    """A schema, with what is run through it measured."""

    def __init__(self, schema: RunyardSchema, meter: Meter) -> None:
        super().__init__(schema)
        self._meter = meter

    async def around_one(
        self, run: Callable[[], Awaitable[ExecutionResult]], query: str | None, operation_name: str | None
    ) -> ExecutionResult:
        outcome, began = "cancelled", time.perf_counter()
        try:
            result = await run()
            outcome = self._meter.outcome(result)
            return result
        finally:
            self._meter.count(self._meter.name_of(query), time.perf_counter() - began, outcome)

    async def around_stream(
        self, results: AsyncGenerator[ExecutionResult, None], query: str | None, operation_name: str | None
    ) -> AsyncGenerator[ExecutionResult, None]:
        operation = self.documents.find(query, operation_name)
        is_subscription = operation is not None and operation.type is OperationType.SUBSCRIPTION
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
            meter.count(meter.name_of(query), None if is_subscription else time.perf_counter() - began, outcome)

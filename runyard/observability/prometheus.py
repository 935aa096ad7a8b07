"""`/metrics`: the measurements of the server and the depths of its queues, in the Prometheus format.

The numbers are kept where the work is done and read at each scrape. prometheus_client is loaded at the first scrape:
without scrapes it costs nothing.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from db.connection import Connection
from db.database import Database
from db.errors import DatabaseUnavailable
from db.runtime.histograms import Histogram
from db.statements.gauges import count_running_and_paused
from resolvers.feed_lag import read_feed_lag
from resolvers.queue.depth import QueueDepth, read_depths
from runyard import __version__
from runyard.observability.metrics import OperationMetrics
from runyard.services import Services

if TYPE_CHECKING:
    from prometheus_client.core import Metric

log = logging.getLogger("runyard.observability.prometheus")

MAX_TASK_KEY_LABELS = 50
"""Number of task keys with their own label: those with the most runs. The others are added up as `other`."""

READ_CACHE_SECONDS = 1.0
"""How long queue depths and the lag of the feed are cached, because several scrapers can request them at the same time."""


class PrometheusMetrics:
    """The `/metrics` endpoint. Has its own registry, because a process can run several servers."""

    def __init__(self, operation_metrics: OperationMetrics, services: Services) -> None:
        self._operation_metrics = operation_metrics
        self._services = services
        self._registry: Any = None
        self._read_lock = asyncio.Lock()
        self._depths: Mapping[str, QueueDepth] | None = None
        self._feed_lag_seconds: float | None = None
        self._running_and_paused: tuple[int, int] | None = None
        """Numbers of running task runs and of paused queues."""
        self._fresh_until = 0.0

    async def __call__(self, request: Request) -> Response:
        """Respond to a scrape."""
        from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

        await self._read_database()
        if self._registry is None:
            self._registry = CollectorRegistry(auto_describe=False)
            self._registry.register(self)
            ProcessCollector(registry=self._registry)
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), headers={"content-type": content_type, "cache-control": "no-store"})

    async def _read_database(self) -> None:
        """Read what is not cached. All of it is None when the database is unavailable."""
        async with self._read_lock:
            if time.monotonic() < self._fresh_until:
                return
            try:
                self._depths, self._feed_lag_seconds, self._running_and_paused = await self._services.database.read(
                    self._read_gauges
                )
            except DatabaseUnavailable as error:
                log.warning("Could not read the queue depths: %s", error)
                self._depths = self._feed_lag_seconds = self._running_and_paused = None
            self._fresh_until = time.monotonic() + READ_CACHE_SECONDS

    def _read_gauges(self, connection: Connection) -> tuple[Mapping[str, QueueDepth], float, tuple[int, int]]:
        depths = read_depths(connection, limit=MAX_TASK_KEY_LABELS)
        feed_lag = read_feed_lag(connection) if self._database.is_shared else 0.0
        return depths, feed_lag, count_running_and_paused(connection)

    def collect(self) -> Iterator["Metric"]:
        """Yield every metric. Called by prometheus_client."""
        yield _gauge(
            "runyard_info",
            "Version and database of the server.",
            ["version", "database"],
            {(__version__, self._database.name): 1},
        )
        yield from self._collect_operations()
        yield from self._collect_task_runs()
        yield from self._collect_queue()
        yield from self._collect_deliveries()
        yield from self._collect_storage()

    @property
    def _database(self) -> Database:
        return self._services.database

    def _collect_operations(self) -> Iterator["Metric"]:
        operation_metrics = self._operation_metrics
        yield _counter(
            "runyard_operations",
            "Completed operations by name and outcome.",
            ["operation", "outcome"],
            operation_metrics.operations,
        )
        yield _histogram(
            "runyard_operation_seconds",
            "Duration of queries and mutations.",
            ["operation"],
            operation_metrics.durations.items(),
        )
        yield _counter(
            "runyard_errors",
            "Errors returned to clients, by code.",
            ["code"],
            _to_label_values(operation_metrics.errors),
        )
        yield _gauge("runyard_subscriptions", "Active subscriptions.", [], {(): operation_metrics.active_subscriptions})
        yield _gauge("runyard_websockets", "Open WebSockets.", [], {(): operation_metrics.open_websockets})
        yield _histogram(
            "runyard_event_loop_lateness_seconds",
            "Delay of the event loop.",
            [],
            [("", operation_metrics.event_loop_lag)],
        )

    def _collect_task_runs(self) -> Iterator["Metric"]:
        task_runs = self._services.task_run_metrics
        yield _counter(
            "runyard_task_runs",
            "Task runs that have ended, by task key and type of their terminal state.",
            ["task_key", "state"],
            task_runs.ended,
        )
        yield _histogram(
            "runyard_task_run_wait_seconds",
            "Delay between the expected and the actual start of task runs that have started.",
            [],
            [("", task_runs.wait_seconds)],
        )
        yield _histogram(
            "runyard_task_run_seconds",
            "Time in RUNNING of task runs that have ended.",
            [],
            [("", task_runs.run_seconds)],
        )
        running_and_paused = self._running_and_paused
        yield _gauge(
            "runyard_task_runs_running",
            "Task runs that are RUNNING.",
            [],
            {} if running_and_paused is None else {(): running_and_paused[0]},
        )

    def _collect_queue(self) -> Iterator["Metric"]:
        yield _gauge(
            "runyard_database_up",
            "Whether the database is available: 1 if the queue depths could be read, otherwise 0.",
            [],
            {(): int(self._depths is not None)},
        )
        depths = self._depths or {}
        yield _gauge(
            "runyard_queue_runs",
            "Runs in the queue of a task key: due on the scheduled or retry side, delayed, or leased to a worker.",
            ["task_key", "place"],
            {
                (key, side): getattr(depth, side)
                for key, depth in depths.items()
                for side in ("scheduled", "retry", "delayed", "leased")
            },
        )
        yield _gauge(
            "runyard_queue_oldest_wait_seconds",
            "How long the oldest due run of a task key has waited.",
            ["task_key"],
            {(key,): depth.oldest_wait_seconds for key, depth in depths.items()},
        )

        yield _gauge(
            "runyard_queues_paused",
            "Paused queues.",
            [],
            {} if self._running_and_paused is None else {(): self._running_and_paused[1]},
        )
        yield _gauge(
            "runyard_feed_lag_seconds",
            "How long the oldest committed state change has waited to become readable in the feed.",
            [],
            {} if self._feed_lag_seconds is None else {(): self._feed_lag_seconds},
        )

    def _collect_deliveries(self) -> Iterator["Metric"]:
        counts = self._services.dispatcher.metrics
        yield _counter(
            "runyard_deliveries",
            "Runs delivered by this server, for the first time or again.",
            ["attempt"],
            {("first",): counts.first_deliveries, ("again",): counts.redeliveries},
        )
        yield _counter(
            "runyard_leases_lost",
            "Expired leases by outcome: not acknowledged, run requeued, retried or cancelled (lapsed), or run crashed.",
            ["outcome"],
            _to_label_values({kind: counts.recovered[kind] for kind in ("unacknowledged", "lapsed", "crashed")}),
        )
        yield _counter(
            "runyard_task_runs_expired",
            "Runs that this server has cancelled because they had expired.",
            [],
            {(): counts.expired},
        )
        yield _counter(
            "runyard_task_runs_timed_out",
            "Runs that this server has ended because they had exceeded their time limits.",
            [],
            {(): counts.timed_out},
        )
        yield _histogram("runyard_claim_seconds", "Duration of claims of due runs.", [], [("", counts.claim_seconds)])

    def _collect_storage(self) -> Iterator["Metric"]:
        commits = self._database.commit_stats
        yield _histogram(
            "runyard_commit_seconds", "Duration of write transactions.", [], [("", commits.duration_seconds)]
        )
        yield _histogram("runyard_commit_items", "Items written per transaction.", [], [("", commits.items)])
        yield _gauge(
            "runyard_writes_waiting", "Writes waiting for a transaction.", [], {(): self._database.pending_writes}
        )
        yield _histogram(
            "runyard_write_wait_seconds",
            "How long writes waited for a transaction to begin.",
            [],
            [("", commits.wait_seconds)],
        )
        pool = self._database.connection_stats
        yield _gauge(
            "runyard_database_connections",
            "Connections to the database. On SQLite, the read connections.",
            ["state"],
            {("used",): pool.used, ("idle",): pool.idle},
        )
        yield _gauge("runyard_database_connections_most", "Limit on database connections.", [], {(): pool.max_size})
        yield _gauge(
            "runyard_database_connections_awaited", "Callers waiting for a database connection.", [], {(): pool.waiting}
        )
        yield _histogram(
            "runyard_database_connection_wait_seconds",
            "How long callers waited for a database connection.",
            [],
            [("", pool.wait_seconds)],
        )


def _to_label_values(counts: Mapping[str, int]) -> dict[tuple[str], int]:
    return {(label,): count for label, count in counts.items()}


Values = Mapping[tuple[str, ...], float] | Mapping[tuple[str], int] | Mapping[tuple[str, str], int]


def _counter(name: str, description: str, labels: list[str], values: Values) -> "Metric":
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415

    family = CounterMetricFamily(name, description, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


def _gauge(name: str, description: str, labels: list[str], values: Values) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

    family = GaugeMetricFamily(name, description, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


def _histogram(name: str, description: str, labels: list[str], histograms: Iterable[tuple[str, Histogram]]) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415

    family = HistogramMetricFamily(name, description, labels=labels)
    for label, each in histograms:
        total, buckets = 0, list[tuple[str, float]]()
        for bound, count in zip([*map(str, each.bounds), "+Inf"], each.counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric([label] if labels else [], buckets, each.sum)
    return family

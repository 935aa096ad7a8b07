"""`/metrics`: what the server has measured, and how deep its queues are, in the words of Prometheus.

The numbers are kept by whoever does the work; here they are read when somebody asks. So prometheus_client is loaded at the
first scrape, and costs a server that nobody scrapes nothing.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from db.runtime.histograms import Distribution
from resolvers.queue.depth import QueueDepth, read_depths
from resolvers.storage import Database, DatabaseUnavailable
from runyard import __version__
from runyard.observability.metrics import Meter
from runyard.services import Life

if TYPE_CHECKING:
    from prometheus_client.core import Metric

log = logging.getLogger("runyard.observability.prometheus")

MOST_TASK_KEYS = 50
"""Task keys that are told apart, those with the most runs; the rest are added up as `other`."""

FRESH_SECONDS = 1.0
"""How long the depths of the queues are good for: many scrapers read them from the database once."""


class Metrics:
    """What a server tells Prometheus. Each has a registry of its own, so that several in one process stay apart."""

    def __init__(self, meter: Meter, life: Life) -> None:
        self._meter = meter
        self._life = life
        self._registry: Any = None
        self._reading = asyncio.Lock()
        self._depths: Mapping[str, QueueDepth] | None = None
        self._fresh_until = 0.0

    async def __call__(self, request: Request) -> Response:
        """Answer a scrape."""
        from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

        await self._read_depths()
        if self._registry is None:
            self._registry = CollectorRegistry(auto_describe=False)
            self._registry.register(self)
            ProcessCollector(registry=self._registry)
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), headers={"content-type": content_type, "cache-control": "no-store"})

    async def _read_depths(self) -> None:
        """Read how deep the queues are, unless that is known; None where the database is away."""
        async with self._reading:
            if time.monotonic() < self._fresh_until:
                return
            try:
                self._depths = await self._life.database.read(partial(read_depths, most=MOST_TASK_KEYS))
            except DatabaseUnavailable as error:
                log.warning("The queues could not be read: %s", error)
                self._depths = None
            self._fresh_until = time.monotonic() + FRESH_SECONDS

    def collect(self) -> Iterator["Metric"]:
        """Every metric, as prometheus_client asks for them."""
        yield _gauge("runyard_info", "The server.", ["version", "database"], {(__version__, self._database.name): 1})
        yield from self._operations()
        yield from self._queue()
        yield from self._deliveries()
        yield from self._storage()

    @property
    def _database(self) -> Database:
        return self._life.database

    def _operations(self) -> Iterator["Metric"]:
        meter = self._meter
        yield _counter(
            "runyard_operations",
            "Operations that are over, by name and by what came of them.",
            ["operation", "outcome"],
            meter.operations,
        )
        yield _histogram(
            "runyard_operation_seconds", "How long queries and mutations took.", ["operation"], meter.seconds.items()
        )
        yield _counter("runyard_errors", "Errors that clients were told, by code.", ["code"], _labelled(meter.errors))
        yield _gauge("runyard_subscriptions", "Subscriptions under way.", [], {(): meter.streams})
        yield _gauge("runyard_websockets", "Open WebSockets.", [], {(): meter.sockets})
        yield _histogram(
            "runyard_event_loop_lateness_seconds", "How late the event loop was.", [], [("", meter.lateness)]
        )

    def _queue(self) -> Iterator["Metric"]:
        yield _gauge(
            "runyard_database_up", "Whether the queues could be read.", [], {(): int(self._depths is not None)}
        )
        depths = self._depths or {}
        yield _gauge(
            "runyard_queue_runs",
            "Runs in the queue of a task key: due (scheduled, or a retry), due later, or leased to a worker.",
            ["task_key", "place"],
            {
                (key, place): getattr(depth, place)
                for key, depth in depths.items()
                for place in ("scheduled", "retry", "delayed", "leased")
            },
        )
        yield _gauge(
            "runyard_queue_oldest_wait_seconds",
            "How long the run of a task key that has been due for longest has waited.",
            ["task_key"],
            {(key,): depth.oldest_wait_seconds for key, depth in depths.items()},
        )

    def _deliveries(self) -> Iterator["Metric"]:
        counts = self._life.dispatcher.counts
        yield _counter(
            "runyard_deliveries",
            "Runs that this server has delivered, for the first time or again.",
            ["attempt"],
            {("first",): counts.first_deliveries, ("again",): counts.redeliveries},
        )
        yield _counter(
            "runyard_leases_lost",
            "Leases that ran out: the run was never taken over, goes on elsewhere (lapsed), or has crashed.",
            ["outcome"],
            _labelled({kind: counts.taken_back[kind] for kind in ("unacknowledged", "lapsed", "crashed")}),
        )
        yield _histogram("runyard_claim_seconds", "How long claims of due runs took.", [], [("", counts.claim_seconds)])

    def _storage(self) -> Iterator["Metric"]:
        commits = self._database.commits
        yield _histogram("runyard_commit_seconds", "How long writing transactions took.", [], [("", commits.seconds)])
        yield _histogram("runyard_commit_items", "Items written in one transaction.", [], [("", commits.items)])
        yield _gauge(
            "runyard_writes_waiting", "Writes that wait for a transaction.", [], {(): self._database.writes_waiting}
        )
        yield _histogram(
            "runyard_write_wait_seconds",
            "How long writes waited until a transaction was begun for them.",
            [],
            [("", commits.waits)],
        )
        pool = self._database.connections
        yield _gauge(
            "runyard_database_connections",
            "Connections to the database; of a SQLite file, those that read.",
            ["state"],
            {("used",): pool.used, ("idle",): pool.idle},
        )
        yield _gauge("runyard_database_connections_most", "How many may be open.", [], {(): pool.most})
        yield _gauge("runyard_database_connections_awaited", "How many wait for a connection.", [], {(): pool.waiting})
        yield _histogram(
            "runyard_database_connection_wait_seconds",
            "How long was waited for a connection.",
            [],
            [("", pool.waits)],
        )


def _labelled(counts: Mapping[str, int]) -> dict[tuple[str], int]:
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


def _histogram(
    name: str, description: str, labels: list[str], distributions: Iterable[tuple[str, Distribution]]
) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415

    family = HistogramMetricFamily(name, description, labels=labels)
    for label, each in distributions:
        total, buckets = 0, list[tuple[str, float]]()
        for bound, count in zip([*map(str, each.bounds), "+Inf"], each.counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric([label] if labels else [], buckets, each.sum)
    return family

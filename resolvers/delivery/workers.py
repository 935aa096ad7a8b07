"""The workers of all servers: which are connected, which leases they hold, and whether waiting runs have one."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

from db.connection import Connection
from db.records import QueueEntryRecord, to_json
from db.statements import queue_pauses, workers
from db.statements.workers import WorkerConnection
from resolvers.delivery.connected_workers import ConnectedWorkers, keys_of_connections
from resolvers.queue.wait_reasons import WaitReason, wait_reason

MAX_WORKERS = 1000
"""Maximum number of workers in one result: the first ones by name."""

MAX_LEASE_GROUPS = 10_000
"""Maximum number of pairs of worker and task key that are read from the leases."""


@dataclass(slots=True)
class WorkerSummary:
    """Everything that is known of the workers with one name, or of all workers without a name."""

    name: str | None
    keys: set[str] = field(default_factory=set[str])
    """Task keys of its connections and of its leases."""
    lease_count: int = 0
    oldest_lease_expires_at: str | None = None
    """When the first of its leases expires."""
    server_ids: set[str] = field(default_factory=set[str])
    """Servers that it is connected to."""

    @property
    def id(self) -> str:
        return base64.urlsafe_b64encode(f"Worker:{to_json(self.name)}".encode()).decode().rstrip("=")

    @property
    def task_keys(self) -> list[str]:
        return sorted(self.keys)

    @property
    def is_connected(self) -> bool:
        return bool(self.server_ids)

    @property
    def server_id(self) -> str | None:
        """The server that it is connected to; None when it is connected to none, or to several."""
        return next(iter(self.server_ids)) if len(self.server_ids) == 1 else None


@dataclass(frozen=True, slots=True)
class WorkerConnections:
    """The workers that are connected to this server at one moment, and how to find those of other servers."""

    server_id: str
    max_age_seconds: float
    own: Sequence[WorkerConnection]
    is_shared: bool
    """Whether other servers may use the database."""

    @classmethod
    def of(cls, connected: ConnectedWorkers, *, is_shared: bool) -> "WorkerConnections":
        """Take a copy, because the database is read in another thread."""
        return cls(connected.server_id, connected.max_age_seconds, connected.connections(), is_shared)

    def read_others(self, connection: Connection) -> list[tuple[str, list[WorkerConnection]]]:
        """Return the connections of the other servers, with the id of each, as of their last heartbeats."""
        if not self.is_shared:
            return []
        return workers.workers_of_other_servers(connection, self.server_id, self.max_age_seconds)


def read_workers(
    connection: Connection, task_keys: Sequence[str] | None, connections: WorkerConnections
) -> list[WorkerSummary]:
    """Return the workers that are connected for these task keys or hold leases on their runs; for None, all workers.

    Sorted by name, those without a name last. Connections and leases of other task keys are ignored.
    """
    summaries: dict[str | None, WorkerSummary] = {}
    servers = [(connections.server_id, connections.own), *connections.read_others(connection)]
    for server_id, each in ((server_id, each) for server_id, own in servers for each in own):
        keys = each.task_keys if task_keys is None else each.task_keys.intersection(task_keys)
        if keys:
            summary = summaries.setdefault(each.name, WorkerSummary(each.name))
            summary.keys |= keys
            summary.server_ids.add(server_id)
    for leases in workers.leases_by_worker(connection, task_keys, MAX_LEASE_GROUPS):
        summary = summaries.setdefault(leases.name, WorkerSummary(leases.name))
        summary.keys.add(leases.task_key)
        summary.lease_count += leases.count
        expiries = filter(None, (summary.oldest_lease_expires_at, leases.oldest_expires_at))
        summary.oldest_lease_expires_at = min(expiries)
    return sorted(summaries.values(), key=lambda each: (each.name is None, each.name or ""))[:MAX_WORKERS]


def read_wait_reasons(
    connection: Connection, entries: Sequence[QueueEntryRecord], connections: WorkerConnections
) -> list[WaitReason | None]:
    """Return why each of these runs waits; None for one that is leased. Costs at most two statements."""
    waiting_keys = sorted({each.task_key for each in entries if each.lease_id is None})
    if not waiting_keys:
        return [None] * len(entries)
    paused = queue_pauses.paused_queues(connection, waiting_keys)
    served = keys_of_connections(connections.own)
    if not served.issuperset(waiting_keys):
        served = served.union(*(keys_of_connections(each) for _, each in connections.read_others(connection)))
    return [
        wait_reason(each, connection.now, is_paused=each.task_key in paused, has_worker=each.task_key in served)
        for each in entries
    ]

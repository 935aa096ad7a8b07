"""The workers that are connected to this server. Other servers of the database read what a heartbeat records of them."""

from collections import Counter
from collections.abc import Sequence
from uuid import uuid4

from db.records import JsonText
from db.runtime.clock import Clock
from db.statements.workers import WorkerConnection, serialize_connections

RECENT_SECONDS = 60.0
"""How long a worker that claims over HTTP counts as connected after its last claim."""

MAX_RECENT_WORKERS = 1000
MAX_RECENT_KEYS = 10_000
"""Limits on what is remembered of ended claims: workers, and the task keys of all together. The oldest are forgotten."""

MAX_RECORDED_KEYS = 10_000
"""Maximum number of task keys, of all workers together, that a heartbeat records. Other servers know of no more."""


class ConnectedWorkers:
    """The subscriptions and claims of this server by worker, open or recent."""

    def __init__(self, clock: Clock, *, heartbeat_seconds: float) -> None:
        self.server_id = str(uuid4())
        """Id of this server, chosen at its start."""
        self.max_age_seconds = 3 * heartbeat_seconds
        """Age at which what another server has recorded is no longer considered."""
        self._clock = clock
        self._open = Counter[WorkerConnection]()
        self._recent: dict[WorkerConnection, float] = {}
        """Elapsed time of the last claim, earliest first."""
        self._recent_keys = 0
        """Number of task keys in `_recent`."""

    def connect(self, connection: WorkerConnection) -> None:
        """Handle the start of a subscription, or of a claim that waits."""
        self._open[connection] += 1

    def disconnect(self, connection: WorkerConnection) -> None:
        """Handle the end of a subscription or of a waiting claim."""
        self._open[connection] -= 1
        if not self._open[connection]:
            del self._open[connection]

    def record_claim(self, connection: WorkerConnection) -> None:
        """Handle the end of a claim over HTTP."""
        self._forget(connection)
        self._recent[connection] = self._clock.elapsed()
        self._recent_keys += len(connection.task_keys)
        while len(self._recent) > MAX_RECENT_WORKERS or self._recent_keys > MAX_RECENT_KEYS:
            self._forget(next(iter(self._recent)))

    def connections(self) -> list[WorkerConnection]:
        """Return the open and the recent connections, each once."""
        since = self._clock.elapsed() - RECENT_SECONDS
        while self._recent and self._recent[oldest := next(iter(self._recent))] < since:
            self._forget(oldest)
        return list(dict.fromkeys([*self._open, *self._recent]))

    def serialize(self) -> JsonText:
        """Serialize the connections for other servers, up to MAX_RECORDED_KEYS."""
        recorded: list[WorkerConnection] = []
        keys = 0
        for each in self.connections():
            keys += len(each.task_keys)
            if keys > MAX_RECORDED_KEYS:
                break
            recorded.append(each)
        return serialize_connections(recorded)

    def _forget(self, connection: WorkerConnection) -> None:
        if self._recent.pop(connection, None) is not None:
            self._recent_keys -= len(connection.task_keys)


def keys_of_connections(connections: Sequence[WorkerConnection]) -> frozenset[str]:
    """Return the task keys of all these connections."""
    return frozenset[str]().union(*(each.task_keys for each in connections))

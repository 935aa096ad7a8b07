"""Statements for workers: the leases that they hold, and the workers that each server has recorded as connected."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, bindparam, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from db.connection import Connection
from db.records import JsonText, to_json
from db.runtime.timestamps import seconds_after
from db.sql.lists import is_among
from db.sql.statement import Statement
from db.tables import queue_entry, server_workers


def _leases_statement(*conditions: ColumnElement[bool]) -> Statement:
    entry = queue_entry.c
    return Statement(
        select(entry.worker_name, entry.task_key, func.count(), func.min(entry.lease_expires_at))
        .where(entry.lease_id.is_not(None), *conditions)
        .group_by(entry.worker_name, entry.task_key)
        .order_by(entry.worker_name.asc().nulls_last(), entry.task_key)
        .limit(bindparam("limit", required=True))
    )


_ALL_LEASES = _leases_statement()
_LEASES_BY_KEY = _leases_statement(is_among(queue_entry.c.task_key, "keys"))

_ROW = {
    name: bindparam(name, type_=server_workers.c[name].type, required=True)
    for name in ("server_id", "recorded_at", "workers")
}


def _insert_or_update(dialect: Any) -> Any:
    insert = dialect.insert(server_workers).values(_ROW)
    changed = {name: insert.excluded[name] for name in ("recorded_at", "workers")}
    return insert.on_conflict_do_update(index_elements=[server_workers.c.server_id], set_=changed)


_RECORD = Statement(_insert_or_update(sqlite), postgresql=_insert_or_update(postgresql))
_since = bindparam("since", type_=server_workers.c.recorded_at.type, required=True)
_server_id = bindparam("server_id", type_=server_workers.c.server_id.type, required=True)
_DELETE = Statement(delete(server_workers).where(server_workers.c.server_id == _server_id))
_DELETE_STALE = Statement(delete(server_workers).where(server_workers.c.recorded_at < _since))
_OF_OTHER_SERVERS = Statement(
    select(server_workers.c.server_id, server_workers.c.workers)
    .where(server_workers.c.recorded_at >= _since, server_workers.c.server_id != _server_id)
    .order_by(server_workers.c.server_id)
)


@dataclass(frozen=True, slots=True)
class WorkerConnection:
    """Subscriptions or claims of one worker: its name, None when it gave none, and the task keys."""

    name: str | None
    task_keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class WorkerLeases:
    """The leases that a worker holds on runs of one task key. An expired lease counts until it is swept."""

    name: str | None
    task_key: str
    count: int
    oldest_expires_at: str


def leases_by_worker(connection: Connection, task_keys: Sequence[str] | None, limit: int) -> list[WorkerLeases]:
    """Return the leases on runs of these task keys, or of all for None, by worker and key: the first `limit` by name."""
    if task_keys is None:
        rows = connection.fetch(_ALL_LEASES, {"limit": limit})
    else:
        rows = connection.fetch(_LEASES_BY_KEY, {"keys": list(task_keys), "limit": limit})
    return [WorkerLeases(*row) for row in rows]


def record_workers(connection: Connection, server_id: str, workers: JsonText) -> None:
    """Record the workers that are connected to a server: the result of `serialize_connections`."""
    connection.run(_RECORD, {"server_id": server_id, "recorded_at": connection.now, "workers": workers})


def forget_server(connection: Connection, server_id: str) -> None:
    """Delete the record of the workers that are connected to a server."""
    connection.run(_DELETE, {"server_id": server_id})


def forget_stale_servers(connection: Connection, max_age_seconds: float) -> None:
    """Delete what servers recorded more than `max_age_seconds` ago."""
    connection.run(_DELETE_STALE, {"since": seconds_after(connection.now, -max_age_seconds)})


def workers_of_other_servers(
    connection: Connection, server_id: str, max_age_seconds: float
) -> list[tuple[str, list[WorkerConnection]]]:
    """Return what the servers except `server_id` have recorded in the last `max_age_seconds`, with the id of each server."""
    parameters = {"server_id": server_id, "since": seconds_after(connection.now, -max_age_seconds)}
    return [
        (id, [WorkerConnection(name, frozenset(keys)) for name, keys in orjson.loads(workers)])
        for id, workers in connection.fetch(_OF_OTHER_SERVERS, parameters)
    ]


def serialize_connections(connections: Sequence[WorkerConnection]) -> JsonText:
    return to_json([[each.name, sorted(each.task_keys)] for each in connections])

"""Statements for paused queues: the task keys whose runs claims do not deliver."""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, bindparam, delete, func, literal_column, select
from sqlalchemy.dialects import postgresql, sqlite

from db.connection import Connection
from db.sql.lists import is_key_among
from db.sql.statement import Statement
from db.tables import paused_queue

_CLAIM_LOCK: ColumnElement[int] = literal_column("5281640917305412001")
"""Key of the advisory lock that claims share and that pausing a queue takes alone. Any number that nothing else uses."""

# SQLite has a single writer, and locks nothing.
_LOCK_FOR_CLAIM = Statement(select(func.pg_advisory_xact_lock_shared(_CLAIM_LOCK)))
_LOCK_OUT_CLAIMS = Statement(select(func.pg_advisory_xact_lock(_CLAIM_LOCK)))

_PAUSE = Statement(
    sqlite.insert(paused_queue).on_conflict_do_nothing(),
    ["task_key", "paused_at"],
    postgresql=postgresql.insert(paused_queue).on_conflict_do_nothing(),
)
_RESUME = Statement(delete(paused_queue).where(paused_queue.c.task_key == bindparam("key", required=True)))
_paused = select(paused_queue.c.task_key, paused_queue.c.paused_at)
_ALL = Statement(_paused)
_BY_KEY = Statement(_paused.where(is_key_among(paused_queue.c.task_key, "keys")))


def lock_for_claim(connection: Connection) -> None:
    """Prevent that a queue is paused before this transaction ends. Claims do not wait for each other.

    Call it before the claim reads due runs: they are then read after the commit of every pause that has returned.
    """
    connection.lock(_LOCK_FOR_CLAIM)


def lock_out_claims(connection: Connection) -> None:
    """Wait until the claims in flight have ended, and let new ones wait until this transaction ends."""
    connection.lock(_LOCK_OUT_CLAIMS)


def insert_paused_queues(connection: Connection, task_keys: Collection[str]) -> None:
    """Pause the queues of these task keys from now on. Those that are paused already do not change."""
    connection.run_many(_PAUSE, [{"task_key": key, "paused_at": connection.now} for key in sorted(set(task_keys))])


def delete_paused_queues(connection: Connection, task_keys: Collection[str]) -> None:
    """Resume the queues of these task keys."""
    connection.run_many(_RESUME, [{"key": key} for key in sorted(set(task_keys))])


def paused_queues(connection: Connection, task_keys: Sequence[str] | None) -> dict[str, str]:
    """Return when each of these queues was paused, by task key; of all queues for None. Others are omitted."""
    rows = connection.fetch(_ALL) if task_keys is None else connection.fetch(_BY_KEY, {"keys": list(task_keys)})
    return dict(rows)  # pyright: ignore[reportArgumentType]

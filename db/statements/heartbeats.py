"""Statements for the heartbeat: when a server last reported that it was running."""

from typing import Any

from sqlalchemy import Float, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from db.connection import Connection
from db.sql.statement import Statement
from db.sql.time_arithmetic import add_seconds
from db.tables import heartbeat

_THE_ROW = {"id": 1, "at": bindparam("now", type_=heartbeat.c.at.type, required=True)}


def _insert_or_update(dialect: Any, *, is_later_kept: bool) -> Any:
    insert = dialect.insert(heartbeat).values(_THE_ROW)
    at = insert.excluded.at
    where = heartbeat.c.at < at if is_later_kept else None
    return insert.on_conflict_do_update(index_elements=[heartbeat.c.id], set_={"at": at}, where=where)


def _upsert(*, is_later_kept: bool) -> Statement:
    sqlite_form, postgresql_form = (
        _insert_or_update(dialect, is_later_kept=is_later_kept) for dialect in (sqlite, postgresql)
    )
    return Statement(sqlite_form, postgresql=postgresql_form)


_LAST = Statement(select(heartbeat.c.at).with_for_update())
_RECORD = _upsert(is_later_kept=True)
_RESTART = _upsert(is_later_kept=False)
_SHIFT = Statement(
    update(heartbeat).values(at=add_seconds(heartbeat.c.at, bindparam("seconds", type_=Float(), required=True)))
)


def lock_last_heartbeat(connection: Connection) -> str | None:
    """Return when a server last recorded a heartbeat; None when none has. Other servers cannot record one meanwhile."""
    rows = connection.fetch_locked(_LAST)
    return rows[0][0] if rows else None


def record_heartbeat(connection: Connection) -> None:
    """Record that a server is running now. A later heartbeat is kept: this transaction may have been suspended."""
    connection.run(_RECORD, {"now": connection.now})


def restart_heartbeat(connection: Connection) -> None:
    """Record that a server is running now, also when the clock was set back since the last heartbeat."""
    connection.run(_RESTART, {"now": connection.now})


def shift_heartbeat(connection: Connection, seconds: float) -> None:
    """Record the last heartbeat as `seconds` later; earlier when negative."""
    connection.run(_SHIFT, {"seconds": seconds})

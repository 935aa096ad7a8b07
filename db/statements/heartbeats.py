"""Statements for the heartbeat: when a server last reported that it was running."""

from typing import Any

from sqlalchemy import Float, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from db.connection import Connection
from db.sql.statement import Statement
from db.sql.time_arithmetic import add_seconds
from db.tables import heartbeat

_THE_ROW = {"id": 1, "at": bindparam("now", type_=heartbeat.c.at.type, required=True)}


def _insert_or_update(dialect: Any) -> Any:
    insert = dialect.insert(heartbeat).values(_THE_ROW)
    return insert.on_conflict_do_update(index_elements=[heartbeat.c.id], set_={"at": insert.excluded.at})


_LAST = Statement(select(heartbeat.c.at).with_for_update())
_RECORD = Statement(_insert_or_update(sqlite), postgresql=_insert_or_update(postgresql))
_SHIFT = Statement(
    update(heartbeat).values(at=add_seconds(heartbeat.c.at, bindparam("seconds", type_=Float(), required=True)))
)


def lock_last_heartbeat(connection: Connection) -> str | None:
    """Return when a server last recorded a heartbeat; None when none has. Other servers cannot record one meanwhile."""
    rows = connection.fetch_locked(_LAST)
    return rows[0][0] if rows else None


def record_heartbeat(connection: Connection) -> None:
    """Record that a server is running now."""
    connection.run(_RECORD, {"now": connection.now})


def shift_heartbeat(connection: Connection, seconds: float) -> None:
    """Record the last heartbeat as `seconds` later; earlier when negative."""
    connection.run(_SHIFT, {"seconds": seconds})

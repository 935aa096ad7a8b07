"""The revision of the database schema: which one this version of Runyard needs, and whether a database has it."""

from sqlalchemy import String, column, select, table

from db.connection import Connection
from db.sql.statement import Statement

REVISIONS = ("0001", "0002", "0003", "0004")
"""The migrations in `db/migrations/versions`, oldest first. A test compares the two."""

HEAD = REVISIONS[-1]
"""The newest migration that this version of Runyard knows."""

_VERSION = table("alembic_version", column("version_num", String()))
_REVISION = Statement(select(_VERSION.c.version_num))


def is_current(connection: Connection) -> bool:
    """Return whether the database has exactly the migrations that this version of Runyard knows."""
    return connection.fetch(_REVISION) == [(HEAD,)]

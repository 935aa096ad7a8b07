"""The open transactions of a PostgreSQL cluster, of which the oldest blocks the feed: see db.statements.state_changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from db.connection import Connection
from db.sql.statement import Statement


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that has written, or may still write, and has not ended."""

    database: str
    process_id: int | None
    """Process of PostgreSQL that executes it; None for a prepared transaction, which has no connection."""
    application_name: str
    prepared_id: str | None
    """Identifier of a prepared transaction; None for other transactions."""
    open_seconds: float | None
    """Time since it began; None when this user may not see it."""

    @property
    def description(self) -> str:
        """Its database, how long it has been open, and what identifies it."""
        opened = "" if self.open_seconds is None else f", open for {self.open_seconds:.0f} seconds"
        if self.prepared_id is not None:
            return f"prepared transaction '{self.prepared_id}' in the database {self.database}{opened}"
        application = f" of the application {self.application_name}" if self.application_name else ""
        return f"transaction in the database {self.database}{opened}, process {self.process_id}{application}"

    @property
    def end_statement(self) -> str:
        """The SQL statement that ends it."""
        if self.prepared_id is None:
            return f"SELECT pg_terminate_backend({self.process_id})"
        return "ROLLBACK PREPARED '" + self.prepared_id.replace("'", "''") + "'"


# Ordered by transaction number: a transaction may be older than one that began before it and wrote later.
OLDEST_OPEN_TRANSACTION = """
    SELECT database, process_id, application_name, prepared_id, open_seconds FROM (
        SELECT datname AS database, pid AS process_id, application_name, NULL AS prepared_id,
            extract(epoch FROM clock_timestamp() - xact_start)::float8 AS open_seconds, age(backend_xid) AS age
        FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
        UNION ALL
        SELECT database, NULL, '', gid, extract(epoch FROM clock_timestamp() - prepared)::float8, age(transaction)
        FROM pg_prepared_xacts
    ) AS transactions ORDER BY age DESC LIMIT 1
"""

_OLDEST_OPEN_TRANSACTION = Statement(text(OLDEST_OPEN_TRANSACTION))


def oldest_open_transaction(connection: Connection) -> OpenTransaction | None:
    """Return the oldest writing transaction of the cluster except this one; None when none is open. PostgreSQL only."""
    return open_transaction_from(connection.fetch(_OLDEST_OPEN_TRANSACTION))


def open_transaction_from(rows: Sequence[Sequence[Any]]) -> OpenTransaction | None:
    """Return the transaction in the rows of OLDEST_OPEN_TRANSACTION."""
    return OpenTransaction(*rows[0]) if rows else None

"""Inspection of a database for `runyard doctor`. Changes nothing."""

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from db import migrations
from db.connection import SQLiteConnection
from db.errors import DatabaseUnavailable
from db.postgresql.driver import connect, is_pooled, pooled_begin, translate_errors
from db.runtime.timestamps import format_timestamp
from db.statements.api_tokens import valid_token_ids
from db.statements.open_transactions import OLDEST_OPEN_TRANSACTION, OpenTransaction, open_transaction_from
from db.statements.schema_version import HEAD

_DATABASE_IDENTITY = "SELECT pg_postmaster_start_time(), current_database()"

_VALID_TOKENS = (
    "SELECT count(*) FROM api_token WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())"
)


@dataclass(frozen=True, slots=True)
class SQLiteFileInfo:
    """Properties of a SQLite file."""

    bytes: int
    wal_bytes: int
    """Size of the write-ahead log, which a checkpoint moves into the file."""
    free_bytes: int
    """Space of deleted rows in the file, which SQLite reuses."""
    journal_mode: str
    revision: str | None
    """Newest migration of the database; None when it has no migrations."""
    valid_tokens: int = 0
    """Number of valid API tokens."""


@dataclass(frozen=True, slots=True)
class PostgreSQLServerInfo:
    """Properties of a PostgreSQL database and its server."""

    version: str
    major: int
    """Major version."""
    clock_offset: timedelta
    """How far its clock is ahead of this machine's; negative when it is behind."""
    revision: str | None
    max_connections: int
    """Connections that all users without superuser rights may open together."""
    open_connections: int
    valid_tokens: int = 0
    oldest_open_transaction: OpenTransaction | None = None
    """The oldest writing transaction of the cluster, in any database; None when none is open."""
    is_pooled: bool = False
    """Whether the connection goes through a connection pooler."""
    role: str = ""
    """Role of the session, quoted for a statement."""
    idle_in_transaction_seconds: float = 10.0
    """Time after which a transaction of a suspended server is ended; 0 when it never is."""
    lost_peer: "LostPeerSettings | None" = None
    """How the session notices that the pooler is lost; None when both use a Unix socket."""
    archiving: "ArchivingInfo | None" = None
    """Archiving of the write-ahead log; None when it is disabled."""


@dataclass(frozen=True, slots=True)
class ArchivingInfo:
    """Last results of `archive_command` or of an archive library; None when there was no such result."""

    archived_at: datetime | None
    failed_at: datetime | None

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed."""
        return self.failed_at is not None and (self.archived_at is None or self.failed_at > self.archived_at)


@dataclass(frozen=True, slots=True)
class LostPeerSettings:
    """Parameters of a session that determine when PostgreSQL notices that the other host is lost, in seconds.

    0 when the parameter is not set.
    """

    keepalives_idle: float
    user_timeout: float


@dataclass(frozen=True, slots=True)
class ListenConnectionInfo:
    """Properties of the connection that receives notifications."""

    is_pooled: bool
    is_same_database: bool
    """Whether it leads to the same database on the same server as the other connections."""


def inspect_sqlite_file(path: Path, busy_seconds: float) -> SQLiteFileInfo:
    """Inspect an existing file. Raises DatabaseUnavailable when it cannot be read or is not a database."""
    wal = path.with_name(f"{path.name}-wal")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=busy_seconds)) as raw:
            ((page_bytes,), (free_pages,), (journal_mode,)) = (
                raw.execute(f"PRAGMA {name}").fetchone() for name in ("page_size", "freelist_count", "journal_mode")
            )
            revision = migrations.sqlite_revision(path)
            # Other versions may store tokens in another way.
            tokens = valid_token_ids(SQLiteConnection(raw, _now())) if revision == HEAD else []
        return SQLiteFileInfo(
            bytes=path.stat().st_size,
            wal_bytes=wal.stat().st_size if wal.exists() else 0,
            free_bytes=page_bytes * free_pages,
            journal_mode=journal_mode,
            revision=revision,
            valid_tokens=len(tokens),
        )
    except (sqlite3.Error, OSError) as error:
        raise DatabaseUnavailable(f"{error}.") from error


def is_writable(path: Path) -> bool:
    """Return whether this user may write, or create, the file and its folder, where SQLite writes further files."""
    if path.exists() and not os.access(path, os.W_OK):
        return False
    folder = next(each for each in path.absolute().parents if each.exists())
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def free_disk_bytes(path: Path) -> int:
    """Return the free space of the disk on which the file is, or will be."""
    return shutil.disk_usage(next(each for each in path.absolute().parents if each.exists())).free


async def inspect_postgresql_server(url: str, timeout_seconds: float) -> PostgreSQLServerInfo:
    """Inspect the database at `url` (`postgresql://…`). Raises DatabaseUnavailable when it cannot be reached."""
    connection = await connect(url, timeout_seconds)
    try:
        with translate_errors():
            sent_at = datetime.now(UTC)
            server_time = await connection.fetchval("SELECT clock_timestamp()")
            midpoint = sent_at + (datetime.now(UTC) - sent_at) / 2
            max_connections = int(await connection.fetchval("SHOW max_connections"))
            reserved = int(await connection.fetchval("SHOW superuser_reserved_connections"))
            revision = await migrations.fetch_revision(connection)
            count_clients = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            return PostgreSQLServerInfo(
                version=await connection.fetchval("SHOW server_version"),
                major=int(await connection.fetchval("SHOW server_version_num")) // 10_000,
                clock_offset=server_time - midpoint,
                revision=revision,
                max_connections=max_connections - reserved,
                # This connection is not counted.
                open_connections=await connection.fetchval(count_clients) - 1,
                valid_tokens=await connection.fetchval(_VALID_TOKENS) if revision == HEAD else 0,
                oldest_open_transaction=open_transaction_from(await connection.fetch(OLDEST_OPEN_TRANSACTION)),
                is_pooled=await is_pooled(connection),
                role=await connection.fetchval("SELECT quote_ident(current_user)"),
                idle_in_transaction_seconds=await _fetch_idle_in_transaction_seconds(connection, timeout_seconds),
                lost_peer=await _fetch_lost_peer_settings(connection),
                archiving=await _fetch_archiving(connection),
            )
    finally:
        await connection.close()


async def inspect_listen_connection(url: str, listen_url: str, timeout_seconds: float) -> ListenConnectionInfo:
    """Compare the connection for notifications with that to the database at `url`.

    Raises DatabaseUnavailable when `listen_url` cannot be reached.
    """
    listen_connection = await connect(listen_url, timeout_seconds)
    try:
        connection = await connect(url, timeout_seconds)
        try:
            with translate_errors():
                return ListenConnectionInfo(
                    is_pooled=await is_pooled(listen_connection),
                    is_same_database=tuple(await listen_connection.fetchrow(_DATABASE_IDENTITY))
                    == tuple(await connection.fetchrow(_DATABASE_IDENTITY)),
                )
        finally:
            await connection.close()
    finally:
        await listen_connection.close()


async def _fetch_idle_in_transaction_seconds(connection: Any, timeout_seconds: float) -> float:
    """Return the limit that applies in a transaction of a server."""
    await connection.execute(pooled_begin(timeout_seconds))
    try:
        return await _fetch_setting(connection, "idle_in_transaction_session_timeout") / 1000
    finally:
        await connection.execute("ROLLBACK")


async def _fetch_lost_peer_settings(connection: Any) -> LostPeerSettings | None:
    if await connection.fetchval("SELECT inet_client_addr() IS NULL"):
        return None
    return LostPeerSettings(
        keepalives_idle=await _fetch_setting(connection, "tcp_keepalives_idle"),
        user_timeout=await _fetch_setting(connection, "tcp_user_timeout") / 1000,
    )


async def _fetch_archiving(connection: Any) -> ArchivingInfo | None:
    if await connection.fetchval("SHOW archive_mode") == "off":
        return None
    return ArchivingInfo(
        *await connection.fetchrow("SELECT last_archived_time, last_failed_time FROM pg_stat_archiver")
    )


async def _fetch_setting(connection: Any, name: str) -> int:
    """Return the value of a numeric parameter in its unit."""
    return int(await connection.fetchval("SELECT setting FROM pg_settings WHERE name = $1", name))


def _now() -> str:
    return format_timestamp(datetime.now(UTC))

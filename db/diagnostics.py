"""Looks at a database from outside, for a person who wants to know why it does not work. Changes nothing."""

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from db import migrations
from db.connection import SQLiteConnection
from db.errors import DatabaseUnavailable
from db.postgresql.driver import connect, our_words
from db.runtime.timestamps import instant
from db.statements.api_tokens import valid_ids

_VALID_TOKENS = (
    "SELECT count(*) FROM api_token WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())"
)


@dataclass(frozen=True, slots=True)
class SQLiteFile:
    """What there is to say of a SQLite file."""

    bytes: int
    wal_bytes: int
    """What waits in the write-ahead log to be brought into the file."""
    free_bytes: int
    """The room in the file that deleted rows have left, which is used again."""
    journal_mode: str
    revision: str | None
    """The newest migration that it has; None where it has none."""
    valid_tokens: int = 0
    """How many API tokens open something."""


@dataclass(frozen=True, slots=True)
class PostgreSQLServer:
    """What there is to say of a PostgreSQL database and its server."""

    version: str
    major: int
    """The version's first number."""
    clock_ahead: timedelta
    """How far its clock is before this machine's."""
    revision: str | None
    most_connections: int
    """How many connections ordinary users may open together."""
    open_connections: int
    valid_tokens: int = 0


def look_at_file(path: Path, busy_seconds: float) -> SQLiteFile:
    """Look at a file that is there. DatabaseUnavailable where it can not be read, or is no database."""
    wal = path.with_name(f"{path.name}-wal")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=busy_seconds)) as raw:
            ((page_bytes,), (free_pages,), (journal_mode,)) = (
                raw.execute(f"PRAGMA {name}").fetchone() for name in ("page_size", "freelist_count", "journal_mode")
            )
            revision = migrations.sqlite_revision(path)
            # Of other versions it is not known how they keep tokens.
            tokens = valid_ids(SQLiteConnection(raw, _now())) if revision == migrations.HEAD else []
        return SQLiteFile(
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
    """Whether this user may write the file and, for what SQLite keeps beside it, its folder; or make them."""
    if path.exists() and not os.access(path, os.W_OK):
        return False
    folder = next(each for each in path.absolute().parents if each.exists())
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def free_disk_bytes(path: Path) -> int:
    """The room on the disk that the file is on, or will be."""
    return shutil.disk_usage(next(each for each in path.absolute().parents if each.exists())).free


async def look_at_server(url: str, timeout_seconds: float) -> PostgreSQLServer:
    """Look at the database at `url` (`postgresql://…`). DatabaseUnavailable where it can not be reached."""
    connection = await connect(url, timeout_seconds)
    try:
        with our_words():
            asked = datetime.now(UTC)
            showed = await connection.fetchval("SELECT clock_timestamp()")
            halfway = asked + (datetime.now(UTC) - asked) / 2
            most = int(await connection.fetchval("SHOW max_connections"))
            reserved = int(await connection.fetchval("SHOW superuser_reserved_connections"))
            revision = await migrations.revision_of(connection)
            opened = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            return PostgreSQLServer(
                version=await connection.fetchval("SHOW server_version"),
                major=int(await connection.fetchval("SHOW server_version_num")) // 10_000,
                clock_ahead=showed - halfway,
                revision=revision,
                most_connections=most - reserved,
                # Not this very one.
                open_connections=await connection.fetchval(opened) - 1,
                valid_tokens=await connection.fetchval(_VALID_TOKENS) if revision == migrations.HEAD else 0,
            )
    finally:
        await connection.close()


def _now() -> str:
    return instant(datetime.now(UTC))

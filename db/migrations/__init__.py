"""Alembic migrations: forward only, one change each, included in the wheel.

On SQLite they run when the server starts, on PostgreSQL by `runyard db upgrade`. The revision of the database is
compared with `db.statements.schema_version.HEAD` first; when they are equal, Alembic is not loaded.
"""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from db.errors import DatabaseTooNew, DatabaseUnavailable
from db.statements.schema_version import HEAD


def upgrade_sqlite(path: Path) -> bool:
    """Create the file if it does not exist, and apply the pending migrations. Return whether there were any.

    Atomic: an interrupted upgrade leaves the file unchanged. Raises DatabaseTooNew when a later version of Runyard has
    written the file, which is then not changed. Raises DatabaseUnavailable when the file cannot be read or written.
    """
    try:
        if sqlite_revision(path) == HEAD:
            return False
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"The database file {path} could not be read: {error}.") from error
    from sqlalchemy import URL, create_engine  # noqa: PLC0415 - loaded for upgrades only
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    engine = create_engine(URL.create("sqlite", database=str(path)))
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            _upgrade(connection)
            connection.exec_driver_sql("COMMIT")
    except DBAPIError as error:
        raise DatabaseUnavailable(f"The database file {path} could not be written: {error.orig}.") from error
    finally:
        engine.dispose()
    return True


def upgrade_postgresql(url: str) -> bool:
    """Apply the pending migrations to the database at `url` (`postgresql://…`). Return whether there were any.

    Atomic. Concurrent upgrades wait for the first one. Raises DatabaseTooNew when a later version of Runyard has
    written the database, which is then not changed. Raises DatabaseUnavailable when the database cannot be reached.
    """
    return asyncio.run(_upgrade_postgresql(url))


def postgresql_revision(url: str) -> str | None:
    """Return the newest migration of the database; None when it has none.

    Raises DatabaseUnavailable when the database cannot be reached.
    """
    return asyncio.run(_postgresql_revision(url))


async def _postgresql_revision(url: str) -> str | None:
    from db.postgresql.driver import connect, translate_errors  # noqa: PLC0415 - not loaded on SQLite

    connection = await connect(url, CONNECT_TIMEOUT_SECONDS)
    try:
        with translate_errors():
            return await fetch_revision(connection)
    finally:
        await connection.close()


async def fetch_revision(connection: Any) -> str | None:
    """Return the newest migration of the connection's PostgreSQL database; None when it has none."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')::text") is None:
        return None
    return await connection.fetchval("SELECT version_num FROM alembic_version")


async def _upgrade_postgresql(url: str) -> bool:
    from sqlalchemy import NullPool  # noqa: PLC0415 - not loaded on SQLite
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    from db.postgresql.driver import connect  # noqa: PLC0415

    async def creator() -> Any:
        return await connect(url, CONNECT_TIMEOUT_SECONDS)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=creator, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK_ID})")
            exists = await connection.exec_driver_sql("SELECT to_regclass('alembic_version')::text")
            if exists.scalar() is not None:
                revision = await connection.exec_driver_sql("SELECT version_num FROM alembic_version")
                if revision.scalar() == HEAD:
                    return False
            await connection.run_sync(_upgrade)
    except DBAPIError as error:
        raise DatabaseUnavailable(f"The database could not be upgraded: {error.orig}.") from error
    finally:
        await engine.dispose()
    return True


CONNECT_TIMEOUT_SECONDS = 10.0
"""Time limit for connecting to PostgreSQL."""

_UPGRADE_LOCK_ID = 6_871_429_350
"""Key of the advisory lock that an upgrade holds, distinct from all others in the database."""


def sqlite_revision(path: Path) -> str | None:
    """Return the newest migration of the file; None when it has none or does not exist."""
    if not path.exists():
        return None
    with closing(sqlite3.connect(path)) as raw:
        if not raw.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return None
        row = raw.execute("SELECT version_num FROM alembic_version").fetchone()
        return row[0] if row else None


def _upgrade(connection: object) -> None:
    from alembic import command  # noqa: PLC0415 - loaded for upgrades only
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "db:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise DatabaseTooNew(
            "The database was written by a later version of Runyard or by another program. It was not changed."
        ) from error

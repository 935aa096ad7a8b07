"""Alembic migrations, forward only, one idea each; they ship in the wheel.

On SQLite they run when the server starts, on PostgreSQL by `runyard db upgrade`. `HEAD` repeats the newest revision, so
that a start with nothing to do neither loads Alembic nor reads its files; a test holds it to the truth.
"""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import String, column, select, table

from db.connection import Connection
from db.errors import DatabaseTooNew, DatabaseUnavailable
from db.sql.statement import Statement

HEAD = "0001"

_VERSION = table("alembic_version", column("version_num", String()))
_REVISION = Statement(select(_VERSION.c.version_num))


def is_current(connection: Connection) -> bool:
    """Whether the database has exactly the migrations that this version knows."""
    return connection.fetch(_REVISION) == [(HEAD,)]


def upgrade_sqlite(path: Path) -> bool:
    """Bring the file up to date, making it if there is none; whether there was anything to do.

    All of it is one transaction: a killed upgrade leaves the file as it was. DatabaseTooNew where a later version of
    Runyard has written the file; it is left untouched. DatabaseUnavailable where the file can not be read or written.
    """
    try:
        if sqlite_revision(path) == HEAD:
            return False
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"The database file {path} could not be read: {error}.") from error
    from sqlalchemy import URL, create_engine  # noqa: PLC0415 - not paid for at an ordinary start
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
    """Bring the database at `url` (`postgresql://…`) up to date; whether there was anything to do.

    All of it is one transaction, and of several upgrades at once the others wait for the first. DatabaseTooNew as for
    SQLite. DatabaseUnavailable where the database can not be reached.
    """
    return asyncio.run(_upgrade_postgresql(url))


def postgresql_revision(url: str) -> str | None:
    """The newest migration that the database has; None where it has none. DatabaseUnavailable as for the upgrade."""
    return asyncio.run(_postgresql_revision(url))


async def _postgresql_revision(url: str) -> str | None:
    from db.postgresql.driver import connect, our_words  # noqa: PLC0415 - not paid for on SQLite

    connection = await connect(url, LONGEST_WAIT_SECONDS)
    try:
        with our_words():
            return await revision_of(connection)
    finally:
        await connection.close()


async def revision_of(connection: Any) -> str | None:
    """The newest migration that the PostgreSQL database of this connection has; None where it has none."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')::text") is None:
        return None
    return await connection.fetchval("SELECT version_num FROM alembic_version")


async def _upgrade_postgresql(url: str) -> bool:
    from sqlalchemy import NullPool  # noqa: PLC0415 - not paid for on SQLite
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    from db.postgresql.driver import connect  # noqa: PLC0415

    async def creator() -> Any:
        return await connect(url, LONGEST_WAIT_SECONDS)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=creator, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADING})")
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


LONGEST_WAIT_SECONDS = 10.0
"""How long connecting may take."""

_UPGRADING = 6_871_429_350
"""Names the lock that an upgrade holds, among all advisory locks of the database."""


def sqlite_revision(path: Path) -> str | None:
    """The newest migration that the file has; None where it has none, or is not there."""
    if not path.exists():
        return None
    with closing(sqlite3.connect(path)) as raw:
        if not raw.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return None
        row = raw.execute("SELECT version_num FROM alembic_version").fetchone()
        return row[0] if row else None


def _upgrade(connection: object) -> None:
    from alembic import command  # noqa: PLC0415 - not paid for at an ordinary start
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "db:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise DatabaseTooNew(
            "The database was written by a later version of Runyard, or is not one of Runyard's. It was left as it is."
        ) from error

"""Alembic migrations, forward only, one idea each; they ship in the wheel.

On SQLite they run when the server starts. `HEAD` repeats the newest revision, so that a start with nothing to do neither
loads Alembic nor reads its files; a test holds it to the truth.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import String, column, select, table

from db.connection import Connection
from db.errors import DatabaseTooNew, DatabaseUnavailable
from db.statements import Statement

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
        if _sqlite_revision(path) == HEAD:
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


def _sqlite_revision(path: Path) -> str | None:
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

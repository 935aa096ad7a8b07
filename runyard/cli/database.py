"""`runyard db`, and the database as other commands need it: created, migrated and reachable."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from runyard.cli.settings_loading import load_settings

if TYPE_CHECKING:
    from runyard.settings import Settings

commands = typer.Typer(help="Manage the database.", no_args_is_help=True)


@commands.command("upgrade")
def upgrade() -> None:
    """Apply pending migrations to the database. Creates a SQLite file that does not exist."""
    settings = load_settings()
    changed = _upgrade(settings.database)
    typer.echo(f"{settings.redacted_database} {'is now' if changed else 'was already'} up to date.")


def load_settings_with_database() -> "Settings":
    """Return the settings after the database was prepared."""
    settings = load_settings()
    prepare_database(settings)
    return settings


def prepare_database(settings: "Settings") -> None:
    """Create and migrate a SQLite file; exit when the migrations of a PostgreSQL database are not current."""
    if isinstance(settings.database, Path):
        _upgrade(settings.database)
    else:
        require_current(settings)


def require_current(settings: "Settings") -> None:
    """Exit when the migrations of a PostgreSQL database are not those of this version.

    Servers do not apply them, because several servers can share the database.
    """
    from db import migrations  # noqa: PLC0415
    from db.errors import DatabaseError  # noqa: PLC0415
    from db.statements.schema_version import HEAD  # noqa: PLC0415

    try:
        revision = migrations.postgresql_revision(str(settings.database))
    except DatabaseError as error:
        sys.exit(f"runyard: {error}")
    if revision != HEAD:
        sys.exit(
            f"runyard: {settings.redacted_database} is at migration {revision or 'none'}, but this version needs "
            f"{HEAD}. Upgrade an older database with `runyard db upgrade`."
        )


@contextmanager
def exit_on_error() -> Generator[None]:
    """Exit with the message of a database error or refusal."""
    from db.errors import DatabaseError  # noqa: PLC0415
    from resolvers.errors import Refusal  # noqa: PLC0415

    try:
        yield
    except (DatabaseError, Refusal) as error:
        sys.exit(f"runyard: {error}")


def _upgrade(database: Path | str) -> bool:
    from db import migrations  # noqa: PLC0415
    from db.errors import DatabaseError  # noqa: PLC0415

    try:
        if not isinstance(database, Path):
            return migrations.upgrade_postgresql(database)
        database.parent.mkdir(parents=True, exist_ok=True)
        return migrations.upgrade_sqlite(database)
    except (DatabaseError, OSError) as error:
        sys.exit(f"runyard: {error}")

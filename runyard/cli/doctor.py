"""`runyard doctor`: checks the settings and the database as a server would use them, and suggests fixes."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from db.diagnostics import (
    PostgreSQLServerInfo,
    free_disk_bytes,
    inspect_postgresql_server,
    inspect_sqlite_file,
    is_writable,
)
from db.errors import DatabaseError
from db.statements.schema_version import HEAD
from runyard.file_lock import find_lock_holder
from runyard.settings import Settings

MIN_FREE_BYTES = 500 * 2**20
MAX_CLOCK_DIFFERENCE_SECONDS = 2.0
MIN_POSTGRESQL_VERSION = 14
UPGRADE_ADVICE = "run `runyard db upgrade`"


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check; for a problem, the text includes how to fix it."""

    is_ok: bool
    text: str


def run_checks(settings: Settings) -> Iterator[Finding]:
    """Run all checks and yield each finding when it is available."""
    yield from _check_settings(settings)
    if isinstance(settings.database, Path):
        yield from _check_sqlite_file(settings.database, settings)
    else:
        yield from _check_postgresql_server(settings.database, settings)


def _check_settings(settings: Settings) -> Iterator[Finding]:
    for name in sorted(settings.model_fields_set):
        value = settings.redacted_database if name == "database_url" else getattr(settings, name)
        yield _ok(f"RUNYARD_{name.upper()} is {value}")
    yield _ok(f"all other settings have their defaults; the database is {settings.redacted_database}")
    if settings.needs_tokens:
        yield _ok(f"clients on {settings.host} need an API token")
    elif settings.is_on_loopback:
        yield _ok(f"authentication is disabled: {settings.host} is a loopback address")
    else:
        yield _ok(f"authentication is disabled on {settings.host} by RUNYARD_ACCESS")


def _check_sqlite_file(path: Path, settings: Settings) -> Iterator[Finding]:
    if is_writable(path):
        yield _ok(f"{path} is writable")
    else:
        yield _problem(f"{path} is not writable: allow this user to write the file and its folder")
    free = free_disk_bytes(path)
    if free >= MIN_FREE_BYTES:
        yield _ok(f"its disk has {_format_size(free)} of free space")
    else:
        yield _problem(
            f"its disk has only {_format_size(free)} of free space: free more, or run `runyard prune` to make space in "
            "the file reusable"
        )
    if not path.exists():
        yield _ok("the file does not exist yet: `runyard serve` creates it")
        yield from _check_tokens(0, settings)
        return
    try:
        file = inspect_sqlite_file(path, settings.database_busy_seconds)
    except DatabaseError as error:
        yield _problem(
            f"the file cannot be read: {error} Set RUNYARD_DATABASE_URL to another file, or restore a backup"
        )
        return
    yield _ok(
        f"its size is {_format_size(file.bytes)}, of which {_format_size(file.free_bytes)} are reusable free space"
    )
    if file.wal_bytes <= max(file.bytes, 64 * 2**20):
        yield _ok(f"the size of its write-ahead log is {_format_size(file.wal_bytes)}")
    else:
        yield _problem(
            f"the size of its write-ahead log is {_format_size(file.wal_bytes)}: a program keeps a read transaction "
            "open, which prevents checkpoints; end that program"
        )
    yield _check_migrations(file.revision)
    yield from _check_tokens(file.valid_tokens, settings)
    holder = find_lock_holder(path)
    yield _ok("no server uses it" if holder is None else f"a server uses it: process {holder}")


def _check_postgresql_server(url: str, settings: Settings) -> Iterator[Finding]:
    try:
        server = asyncio.run(inspect_postgresql_server(url, settings.database_timeout_seconds))
    except DatabaseError as error:
        yield _problem(
            f"{error} Check that PostgreSQL is running and that RUNYARD_DATABASE_URL names its host, a user and a "
            "database"
        )
        return
    message = f"connected to PostgreSQL {server.version}"
    if server.major >= MIN_POSTGRESQL_VERSION:
        yield _ok(message)
    else:
        yield _problem(
            f"{message}, which does not support `taskRunHistory`: upgrade it to {MIN_POSTGRESQL_VERSION} or later"
        )
    yield _check_migrations(server.revision)
    yield from _check_tokens(server.valid_tokens, settings)
    seconds = server.clock_offset.total_seconds()
    message = f"its clock is {abs(seconds):.3f} seconds {'ahead of' if seconds > 0 else 'behind'} this machine's"
    if abs(seconds) <= MAX_CLOCK_DIFFERENCE_SECONDS:
        yield _ok(message)
    else:
        yield _problem(f"{message}: synchronize both by NTP. Servers use the database's clock, but their logs do not")
    yield _check_connections(server, settings)


def _check_connections(server: PostgreSQLServerInfo, settings: Settings) -> Finding:
    each = settings.database_connections + 1
    message = (
        f"a server opens up to {each} connections; the database allows {server.max_connections}, "
        f"and {server.open_connections} are open"
    )
    if each <= server.max_connections:
        return _ok(f"{message}: enough for {server.max_connections // each} servers")
    return _problem(f"{message}: lower RUNYARD_DATABASE_CONNECTIONS, or raise max_connections")


def _check_tokens(count: int, settings: Settings) -> Iterator[Finding]:
    if not settings.needs_tokens:
        return
    if count:
        yield _ok(f"{count} API {'token is' if count == 1 else 'tokens are'} valid")
    else:
        yield _problem(
            "no API token is valid, so every client is rejected: create one with `runyard token create --scope read`"
        )


def _check_migrations(revision: str | None) -> Finding:
    if revision == HEAD:
        return _ok(f"its migrations are current ({HEAD})")
    if revision is None:
        return _problem(f"it has no migrations: {UPGRADE_ADVICE}")
    if revision < HEAD:
        return _problem(f"it is at migration {revision}, but this version needs {HEAD}: {UPGRADE_ADVICE}")
    return _problem(
        f"it is at migration {revision}, newer than {HEAD} of this version: install a later version of Runyard"
    )


def _ok(text: str) -> Finding:
    return Finding(is_ok=True, text=text)


def _problem(text: str) -> Finding:
    return Finding(is_ok=False, text=text)


def _format_size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"

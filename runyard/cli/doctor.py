"""`runyard doctor`: checks the settings and the database as a server would use them, and suggests fixes."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from db.diagnostics import (
    PostgreSQLServerInfo,
    free_disk_bytes,
    inspect_listen_connection,
    inspect_postgresql_server,
    inspect_sqlite_file,
    is_writable,
)
from db.errors import DatabaseError
from db.postgresql.driver import LOST_PEER_SETTINGS
from db.statements.schema_version import HEAD, REVISIONS
from runyard.cli.findings import Finding, FindingCode, ok, problem
from runyard.file_lock import find_lock_holder
from runyard.settings import Settings

MIN_FREE_BYTES = 500 * 2**20
MAX_CLOCK_DIFFERENCE_SECONDS = 2.0
MAX_LOST_SERVER_SECONDS = 60.0
"""Longest acceptable time until PostgreSQL releases the locks of a server that is suspended or lost."""
MAX_OPEN_TRANSACTION_SECONDS = 10.0
"""Longest acceptable time for which a writing transaction is open, because it blocks the feed of state changes."""
MIN_POSTGRESQL_VERSION = 14
UPGRADE_ADVICE = "run `runyard db upgrade`"


def run_checks(settings: Settings) -> Iterator[Finding]:
    """Run all checks and yield each finding when it is available."""
    yield from _check_settings(settings)
    if isinstance(settings.database, Path):
        yield from _check_sqlite_file(settings.database, settings)
    else:
        yield from _check_postgresql_server(settings.database, settings)


def _check_settings(settings: Settings) -> Iterator[Finding]:
    redacted = {"database_url": settings.redacted_database, "database_listen_url": settings.redacted_listen_database}
    for name in sorted(settings.model_fields_set):
        yield ok(FindingCode.SETTING, f"RUNYARD_{name.upper()} is {redacted.get(name, getattr(settings, name))}")
    yield ok(
        FindingCode.SETTING, f"all other settings have their defaults; the database is {settings.redacted_database}"
    )
    if settings.needs_tokens:
        yield ok(FindingCode.ACCESS, f"clients on {settings.host} need an API token")
    elif settings.is_on_loopback:
        yield ok(FindingCode.ACCESS, f"authentication is disabled: {settings.host} is a loopback address")
    else:
        yield ok(FindingCode.ACCESS, f"authentication is disabled on {settings.host} by RUNYARD_ACCESS")


def _check_sqlite_file(path: Path, settings: Settings) -> Iterator[Finding]:
    if is_writable(path):
        yield ok(FindingCode.FILE_ACCESS, f"{path} is writable")
    else:
        yield problem(
            FindingCode.FILE_ACCESS, f"{path} is not writable: allow this user to write the file and its folder"
        )
    free = free_disk_bytes(path)
    if free >= MIN_FREE_BYTES:
        yield ok(FindingCode.DISK_SPACE, f"its disk has {_format_size(free)} of free space")
    else:
        yield problem(
            FindingCode.DISK_SPACE,
            f"its disk has only {_format_size(free)} of free space: free more, or run `runyard prune` to make space in "
            "the file reusable",
        )
    if not path.exists():
        yield ok(FindingCode.FILE, "the file does not exist yet: `runyard serve` creates it")
        yield from _check_tokens(0, settings)
        return
    try:
        file = inspect_sqlite_file(path, settings.database_busy_seconds)
    except DatabaseError as error:
        yield problem(
            FindingCode.FILE,
            f"the file cannot be read: {error} Set RUNYARD_DATABASE_URL to another file, or restore a backup",
        )
        return
    yield ok(
        FindingCode.FILE,
        f"its size is {_format_size(file.bytes)}, of which {_format_size(file.free_bytes)} are reusable free space",
    )
    if file.wal_bytes <= max(file.bytes, 64 * 2**20):
        yield ok(FindingCode.WRITE_AHEAD_LOG, f"the size of its write-ahead log is {_format_size(file.wal_bytes)}")
    else:
        yield problem(
            FindingCode.WRITE_AHEAD_LOG,
            f"the size of its write-ahead log is {_format_size(file.wal_bytes)}: a program keeps a read transaction "
            "open, which prevents checkpoints; end that program",
        )
    yield _check_migrations(file.revision)
    yield from _check_tokens(file.valid_tokens, settings)
    holder = find_lock_holder(path)
    yield ok(FindingCode.FILE_IN_USE, "no server uses it" if holder is None else f"a server uses it: process {holder}")


def _check_postgresql_server(url: str, settings: Settings) -> Iterator[Finding]:
    try:
        server = asyncio.run(inspect_postgresql_server(url, settings.database_timeout_seconds))
    except DatabaseError as error:
        yield problem(
            FindingCode.DATABASE_SERVER,
            f"{error} Check that PostgreSQL is running and that RUNYARD_DATABASE_URL names its host, a user and a "
            "database",
        )
        return
    message = f"connected to PostgreSQL {server.version}"
    if server.major >= MIN_POSTGRESQL_VERSION:
        yield ok(FindingCode.DATABASE_VERSION, message)
    else:
        yield problem(
            FindingCode.DATABASE_VERSION,
            f"{message}, which does not support `taskRunHistory`: upgrade it to {MIN_POSTGRESQL_VERSION} or later",
        )
    yield _check_migrations(server.revision)
    yield from _check_tokens(server.valid_tokens, settings)
    seconds = server.clock_offset.total_seconds()
    message = f"its clock is {abs(seconds):.3f} seconds {'ahead of' if seconds > 0 else 'behind'} this machine's"
    if abs(seconds) <= MAX_CLOCK_DIFFERENCE_SECONDS:
        yield ok(FindingCode.CLOCK_SKEW, message)
    else:
        yield problem(
            FindingCode.CLOCK_SKEW,
            f"{message}: synchronize both by NTP. Servers use the database's clock, but their logs do not",
        )
    yield _check_connections(server, settings)
    yield _check_open_transactions(server)
    yield _check_suspended_servers(server)
    yield _check_backup(server)
    if server.is_pooled:
        yield ok(FindingCode.POOLER, "connections go through a connection pooler: servers prepare no statements")
        yield from _check_lost_pooler(server)
    else:
        yield ok(FindingCode.POOLER, "connections are direct")
    yield from _check_notifications(server, settings)


def _check_suspended_servers(server: PostgreSQLServerInfo) -> Finding:
    seconds = server.idle_in_transaction_seconds
    if 0 < seconds <= MAX_LOST_SERVER_SECONDS:
        return ok(
            FindingCode.SUSPENDED_SERVER, f"it ends the transactions of a suspended server after {seconds:g} seconds"
        )
    after = f"only after {seconds:g} seconds" if seconds else "never"
    return problem(
        FindingCode.SUSPENDED_SERVER,
        f"it ends the transactions of a suspended server {after}, and other servers wait for its locks: set "
        f"RUNYARD_DATABASE_TIMEOUT_SECONDS to at most {MAX_LOST_SERVER_SECONDS:g}",
    )


def _check_backup(server: PostgreSQLServerInfo) -> Finding:
    archiving = server.archiving
    if archiving is None:
        return ok(
            FindingCode.BACKUP,
            "its write-ahead log is not archived: after a loss, only the state of the last backup can be restored",
        )
    if archiving.is_failing:
        since = "never" if archiving.archived_at is None else f"last at {archiving.archived_at:%Y-%m-%d %H:%M:%SZ}"
        return problem(
            FindingCode.BACKUP,
            f"archiving of its write-ahead log fails, and succeeded {since}: fix archive_command; the log of PostgreSQL "
            "has the reason",
        )
    when = "" if archiving.archived_at is None else f", last at {archiving.archived_at:%Y-%m-%d %H:%M:%SZ}"
    return ok(FindingCode.BACKUP, f"its write-ahead log is archived{when}")


def _check_lost_pooler(server: PostgreSQLServerInfo) -> Iterator[Finding]:
    lost_peer = server.lost_peer
    if lost_peer is None:
        return
    if all(0 < each <= MAX_LOST_SERVER_SECONDS for each in (lost_peer.keepalives_idle, lost_peer.user_timeout)):
        yield ok(FindingCode.LOST_POOLER, "it notices when the host of the pooler is lost")
        return
    statements = "; ".join(f"ALTER ROLE {server.role} SET {name} = {each}" for name, each in LOST_PEER_SETTINGS.items())
    yield problem(
        FindingCode.LOST_POOLER,
        f"tcp_keepalives_idle is {lost_peer.keepalives_idle:g} seconds and tcp_user_timeout {lost_peer.user_timeout:g} "
        f"seconds, so it may keep the locks of a lost pooler for long: run `{statements}`, then restart the pooler",
    )


def _check_notifications(server: PostgreSQLServerInfo, settings: Settings) -> Iterator[Finding]:
    if (listen_url := settings.listen_database) is None:
        if server.is_pooled:
            yield problem(
                FindingCode.NOTIFICATIONS,
                "servers receive no notifications through a pooler, and find the work of others by polling only: set "
                "RUNYARD_DATABASE_LISTEN_URL to the URL of a direct connection to the database",
            )
        return
    try:
        listening = asyncio.run(
            inspect_listen_connection(str(settings.database), listen_url, settings.database_timeout_seconds)
        )
    except DatabaseError as error:
        yield problem(
            FindingCode.NOTIFICATIONS, f"{error} Check the host, user and database in RUNYARD_DATABASE_LISTEN_URL"
        )
        return
    if listening.is_pooled:
        yield problem(
            FindingCode.NOTIFICATIONS,
            "RUNYARD_DATABASE_LISTEN_URL leads through a connection pooler, which does not pass notifications on: set "
            "it to the URL of a direct connection to the database",
        )
    elif not listening.is_same_database:
        yield problem(
            FindingCode.NOTIFICATIONS,
            "RUNYARD_DATABASE_LISTEN_URL leads to another database than RUNYARD_DATABASE_URL: set it to the URL of a "
            "direct connection to the same database",
        )
    else:
        yield ok(FindingCode.NOTIFICATIONS, "notifications use a direct connection to the same database")


def _check_connections(server: PostgreSQLServerInfo, settings: Settings) -> Finding:
    if server.is_pooled:
        return ok(
            FindingCode.CONNECTION_LIMIT,
            f"a server opens up to {settings.database_connections} connections to the pooler; the database allows "
            f"{server.max_connections}, and {server.open_connections} are open",
        )
    each = settings.database_connections + 1
    message = (
        f"a server opens up to {each} connections; the database allows {server.max_connections}, "
        f"and {server.open_connections} are open"
    )
    if each <= server.max_connections:
        return ok(FindingCode.CONNECTION_LIMIT, f"{message}: enough for {server.max_connections // each} servers")
    return problem(
        FindingCode.CONNECTION_LIMIT, f"{message}: lower RUNYARD_DATABASE_CONNECTIONS, or raise max_connections"
    )


def _check_open_transactions(server: PostgreSQLServerInfo) -> Finding:
    oldest = server.oldest_open_transaction
    short = f"no writing transaction has been open for more than {MAX_OPEN_TRANSACTION_SECONDS:g} seconds"
    if oldest is None:
        return ok(FindingCode.OPEN_TRANSACTION, short)
    if oldest.open_seconds is None:
        return ok(
            FindingCode.OPEN_TRANSACTION,
            f"the age of a {oldest.description} is unknown: grant this user pg_read_all_stats to see it",
        )
    if oldest.open_seconds <= MAX_OPEN_TRANSACTION_SECONDS:
        return ok(FindingCode.OPEN_TRANSACTION, short)
    return problem(
        FindingCode.OPEN_TRANSACTION,
        f"`taskRunStateChanges` sends no new changes until an older transaction ends: {oldest.description}. Commit it, "
        f"or run `{oldest.end_statement}`{' there' if oldest.prepared_id is not None else ''}",
    )


def _check_tokens(count: int, settings: Settings) -> Iterator[Finding]:
    if not settings.needs_tokens:
        return
    if count:
        yield ok(FindingCode.TOKENS, f"{count} API {'token is' if count == 1 else 'tokens are'} valid")
    else:
        yield problem(
            FindingCode.TOKENS,
            "no API token is valid, so every client is rejected: create one with `runyard token create --scope read`",
        )


def _check_migrations(revision: str | None) -> Finding:
    if revision == HEAD:
        return ok(FindingCode.MIGRATIONS, f"its migrations are current ({HEAD})")
    if revision is None:
        return problem(FindingCode.MIGRATIONS, f"it has no migrations: {UPGRADE_ADVICE}")
    if revision in REVISIONS:
        return problem(
            FindingCode.MIGRATIONS, f"it is at migration {revision}, but this version needs {HEAD}: {UPGRADE_ADVICE}"
        )
    return problem(
        FindingCode.MIGRATIONS,
        f"it is at migration {revision}, newer than {HEAD} of this version: install a later version of Runyard",
    )


def _format_size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"

"""`runyard doctor`: looks at the settings and the database as a server would meet them, and says what to do."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from db.diagnostics import PostgreSQLServer, free_disk_bytes, is_writable, look_at_file, look_at_server
from db.errors import DatabaseError
from db.migrations import HEAD
from runyard.file_lock import server_of
from runyard.settings import Settings

LEAST_FREE_BYTES = 500 * 2**20
LARGEST_CLOCK_DIFFERENCE_SECONDS = 2.0
LEAST_POSTGRESQL = 14
UPGRADE = "run `runyard db upgrade`"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and what to do about it where it is not good."""

    is_good: bool
    text: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Each finding, as it is made."""
    yield from _settings(settings)
    if isinstance(settings.database, Path):
        yield from _file(settings.database, settings)
    else:
        yield from _server(settings.database, settings)


def _settings(settings: Settings) -> Iterator[Finding]:
    for name in sorted(settings.model_fields_set):
        value = settings.database_shown if name == "database_url" else getattr(settings, name)
        yield _good(f"RUNYARD_{name.upper()} is {value}")
    yield _good(f"all other settings have their defaults; the database is {settings.database_shown}")
    if settings.needs_tokens:
        yield _good(f"access to {settings.host} is by API tokens")
    elif settings.is_on_loopback:
        yield _good(f"access is open to whoever is on this machine, since {settings.host} is a loopback address")
    else:
        yield _good(f"access is open to whoever reaches {settings.host}, as RUNYARD_ACCESS says")


def _file(path: Path, settings: Settings) -> Iterator[Finding]:
    if is_writable(path):
        yield _good(f"{path} can be written")
    else:
        yield _bad(f"{path} can not be written: let this user write the file and its folder")
    free = free_disk_bytes(path)
    if free >= LEAST_FREE_BYTES:
        yield _good(f"its disk has {_size(free)} left")
    else:
        yield _bad(
            f"its disk has only {_size(free)} left: make room, or `runyard prune` lets room in the file be used again"
        )
    if not path.exists():
        yield _good("the file is not there yet: `runyard serve` makes it")
        yield from _tokens(0, settings)
        return
    try:
        file = look_at_file(path, settings.database_busy_seconds)
    except DatabaseError as error:
        yield _bad(f"the file can not be read: {error} Set RUNYARD_DATABASE_URL to another one, or bring a backup back")
        return
    yield _good(f"it has {_size(file.bytes)}, of which {_size(file.free_bytes)} are free to be used again")
    if file.wal_bytes <= max(file.bytes, 64 * 2**20):
        yield _good(f"its write-ahead log has {_size(file.wal_bytes)}")
    else:
        yield _bad(
            f"its write-ahead log has {_size(file.wal_bytes)}: some program reads the file for so long that the log can "
            "not be brought in; end that program"
        )
    yield _migrations(file.revision)
    yield from _tokens(file.valid_tokens, settings)
    holder = server_of(path)
    yield _good("no server has it open" if holder is None else f"a server has it open, process {holder}")


def _server(url: str, settings: Settings) -> Iterator[Finding]:
    try:
        server = asyncio.run(look_at_server(url, settings.database_timeout_seconds))
    except DatabaseError as error:
        yield _bad(f"{error} See that the server runs and that RUNYARD_DATABASE_URL names it, a user and a database")
        return
    answers = f"the database answers: PostgreSQL {server.version}"
    if server.major >= LEAST_POSTGRESQL:
        yield _good(answers)
    else:
        yield _bad(f"{answers}, which is too old for histories: upgrade it to {LEAST_POSTGRESQL} or later")
    yield _migrations(server.revision)
    yield from _tokens(server.valid_tokens, settings)
    seconds = server.clock_ahead.total_seconds()
    said = f"its clock is {abs(seconds):.3f} seconds {'ahead of' if seconds > 0 else 'behind'} this machine's"
    if abs(seconds) <= LARGEST_CLOCK_DIFFERENCE_SECONDS:
        yield _good(said)
    else:
        yield _bad(f"{said}: set both by NTP. Servers go by the database's, but their logs do not")
    yield _connections(server, settings)


def _connections(server: PostgreSQLServer, settings: Settings) -> Finding:
    each = settings.database_connections + 1
    said = (
        f"a server opens up to {each} connections; the database takes {server.most_connections}, "
        f"and {server.open_connections} are open"
    )
    if each <= server.most_connections:
        return _good(f"{said}: enough for {server.most_connections // each} servers in all")
    return _bad(f"{said}: lower RUNYARD_DATABASE_CONNECTIONS, or raise max_connections")


def _tokens(count: int, settings: Settings) -> Iterator[Finding]:
    if not settings.needs_tokens:
        return
    if count:
        yield _good(f"{count} API {'token is' if count == 1 else 'tokens are'} valid")
    else:
        yield _bad(
            "no API token is valid, so nobody would be let in: make one with `runyard token create --scope read`"
        )


def _migrations(revision: str | None) -> Finding:
    if revision == HEAD:
        return _good(f"its migrations are current ({HEAD})")
    if revision is None:
        return _bad(f"it has no migrations: {UPGRADE}")
    if revision < HEAD:
        return _bad(f"it is at migration {revision}, and this version needs {HEAD}: {UPGRADE}")
    return _bad(
        f"it is at migration {revision}, of a later version than this, which knows {HEAD}: install that version"
    )


def _good(text: str) -> Finding:
    return Finding(is_good=True, text=text)


def _bad(text: str) -> Finding:
    return Finding(is_good=False, text=text)


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"

"""`runyard doctor`: reports what works, what does not and how to fix it, and changes nothing."""

import asyncio
import re
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from db.diagnostics import PostgreSQLServerInfo, SQLiteFileInfo
from db.statements.schema_version import HEAD
from runyard.cli import doctor
from runyard.cli.doctor import run_checks
from runyard.cli.tokens import create
from tests.builders.tokens import token_input
from tests.command import runyard
from tests.serving import POSTGRESQL_ONLY, SQLITE_ONLY, ServerProcess, settings_for

pytestmark = pytest.mark.processes

MEBIBYTE = 2**20


def findings(database_url: str, **settings: object) -> tuple[list[str], list[str]]:
    """Return the good and the bad findings, with decimal numbers replaced by `#`."""
    found = list(run_checks(settings_for(Path(), database_url=database_url, **settings)))
    texts = {each: re.sub(r"\d[\d,]*\.\d+", "#", each.text) for each in found}
    good, bad = ([texts[each] for each in found if each.is_ok is well] for well in (True, False))
    return good, bad


async def findings_async(database_url: str, **settings: object) -> tuple[list[str], list[str]]:
    return await asyncio.to_thread(findings, database_url, **settings)


def path_of(database_url: str) -> Path:
    return Path(database_url.removeprefix("sqlite+aiosqlite:///"))


async def test_all_checks_pass_with_a_running_server(server_process: ServerProcess, database_url: str) -> None:
    await server_process.start()

    done = await asyncio.to_thread(runyard, "doctor", folder=Path(), RUNYARD_DATABASE_URL=database_url)

    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("✓ ")] == []
    assert f"✓ its migrations are current ({HEAD})" in lines


def test_an_impossible_database_path_fails(tmp_path: Path) -> None:
    url = "sqlite+aiosqlite:////dev/null/x.db"

    done = runyard("doctor", folder=tmp_path, RUNYARD_DATABASE_URL=url)

    assert done.returncode == 1
    assert "✗ /dev/null/x.db is not writable: allow this user to write the file and its folder" in done.stdout


def test_settings_are_reported_without_the_password(tmp_path: Path) -> None:
    url = "postgresql+asyncpg://ada:secret@localhost:1/runs"

    good, bad = findings(url, port=4300, database_timeout_seconds=2)

    assert "RUNYARD_PORT is 4300" in good
    assert "RUNYARD_DATABASE_URL is postgresql://ada:***@localhost:1/runs" in good
    assert "secret" not in "".join(good + bad)
    (unreachable,) = bad
    assert unreachable.startswith("The database could not be used: ")
    assert unreachable.endswith(
        "Check that PostgreSQL is running and that RUNYARD_DATABASE_URL names its host, a user and a database"
    )


@SQLITE_ONLY
async def test_a_sqlite_file_is_reported_with_the_server_that_uses_it(
    server_process: ServerProcess, database_url: str
) -> None:
    before, _ = await findings_async(database_url)
    await server_process.start()
    assert server_process.process is not None
    after, _ = await findings_async(database_url)

    assert "no server uses it" in before
    assert f"a server uses it: process {server_process.process.pid}" in after
    assert f"{path_of(database_url)} is writable" in after


@SQLITE_ONLY
async def test_the_doctor_changes_nothing(database_url: str) -> None:
    path = path_of(database_url)
    before = path.read_bytes(), sorted(each.name for each in path.parent.iterdir())

    await findings_async(database_url)

    assert (path.read_bytes(), sorted(each.name for each in path.parent.iterdir())) == before


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("revision", "message"),
    [
        ("0000", f"it is at migration 0000, but this version needs {HEAD}: run `runyard db upgrade`"),
        (
            "9999",
            f"it is at migration 9999, newer than {HEAD} of this version: install a later version of Runyard",
        ),
        (None, "it has no migrations: run `runyard db upgrade`"),
    ],
)
async def test_migrations_that_are_not_current_are_reported(
    database_url: str, revision: str | None, message: str
) -> None:
    with closing(sqlite3.connect(path_of(database_url))) as raw, raw:
        raw.execute("DELETE FROM alembic_version")
        if revision is not None:
            raw.execute("INSERT INTO alembic_version VALUES (?)", [revision])

    _, bad = await findings_async(database_url)

    assert bad == [message]


def test_a_file_that_is_not_a_database_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, this is no database, and it is long enough to be sure of that.")

    _, bad = findings(f"sqlite+aiosqlite:///{path}")

    (message,) = bad
    assert message.startswith("the file cannot be read: file is not a database.")


@SQLITE_ONLY
async def test_a_full_disk_is_reported(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MIN_FREE_BYTES", 2**62)

    _, bad = await findings_async(database_url)

    (message,) = bad
    assert re.fullmatch(
        r"its disk has only # GiB of free space: free more, or run `runyard prune` to make space .* reusable", message
    )


def test_a_large_write_ahead_log_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runyard.db"
    path.touch()
    file = SQLiteFileInfo(MEBIBYTE, 65 * MEBIBYTE, 0, "wal", HEAD)
    monkeypatch.setattr(doctor, "inspect_sqlite_file", lambda *_: file)

    _, bad = findings(f"sqlite+aiosqlite:///{path}")

    (message,) = bad
    assert message.startswith("the size of its write-ahead log is # MiB: a program keeps a read transaction open")


@POSTGRESQL_ONLY
async def test_a_postgresql_server_is_reported_with_version_clock_and_connections(database_url: str) -> None:
    good, bad = await findings_async(database_url, database_connections=10)

    assert bad == []
    assert any(re.fullmatch(r"connected to PostgreSQL #", each) for each in good)
    assert any(re.fullmatch(r"its clock is # seconds (ahead of|behind) this machine's", each) for each in good)
    assert any(re.fullmatch(r"a server opens up to 11 connections; .*: enough for \d+ servers", each) for each in good)


@POSTGRESQL_ONLY
async def test_too_few_connections_are_reported(database_url: str) -> None:
    _, bad = await findings_async(database_url, database_connections=1000)

    (message,) = bad
    assert message.startswith("a server opens up to 1001 connections; ")
    assert message.endswith(": lower RUNYARD_DATABASE_CONNECTIONS, or raise max_connections")


@POSTGRESQL_ONLY
async def test_a_database_without_migrations_is_reported(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE alembic_version RENAME TO hidden")

    _, bad = await findings_async(database_url)

    # Other tests reuse the database.
    await connection.execute("ALTER TABLE hidden RENAME TO alembic_version")
    await connection.close()
    assert bad == ["it has no migrations: run `runyard db upgrade`"]


@POSTGRESQL_ONLY
async def test_an_unsupported_postgresql_version_is_reported(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "MIN_POSTGRESQL_VERSION", 99)

    _, bad = await findings_async(database_url)

    assert bad == ["connected to PostgreSQL #, which does not support `taskRunHistory`: upgrade it to 99 or later"]


@pytest.mark.parametrize(("seconds", "is_good"), [(1.5, True), (-1.5, True), (2.5, False), (-2.5, False)])
def test_a_clock_difference_beyond_two_seconds_is_reported(
    monkeypatch: pytest.MonkeyPatch, seconds: float, is_good: bool
) -> None:
    async def inspect_postgresql_server(*_: object) -> PostgreSQLServerInfo:
        return PostgreSQLServerInfo("18.0", 18, timedelta(seconds=seconds), HEAD, 97, 3)

    monkeypatch.setattr(doctor, "inspect_postgresql_server", inspect_postgresql_server)

    good, bad = findings("postgresql+asyncpg://u@h/n")

    message = f"its clock is # seconds {'ahead of' if seconds > 0 else 'behind'} this machine's"
    assert [each for each in good + bad if each.startswith("its clock")] == [
        message
        if is_good
        else f"{message}: synchronize both by NTP. Servers use the database's clock, but their logs do not"
    ]
    assert bool(bad) is not is_good


async def test_a_public_address_needs_a_valid_token(database_url: str) -> None:
    before, bad_before = await findings_async(database_url, host="::")
    for scope in ("read", "work"):
        await asyncio.to_thread(create, settings_for(Path(), database_url=database_url), token_input(scope))
    after, bad = await findings_async(database_url, host="::")

    assert "clients on :: need an API token" in before
    assert bad_before == [
        "no API token is valid, so every client is rejected: create one with `runyard token create --scope read`"
    ]
    assert "2 API tokens are valid" in after
    assert bad == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"host": "localhost"}, "authentication is disabled: localhost is a loopback address"),
        (
            {"host": "::", "access": "anonymous"},
            "authentication is disabled on :: by RUNYARD_ACCESS",
        ),
    ],
)
def test_access_without_a_token_is_reported(tmp_path: Path, settings: dict[str, str], expected: str) -> None:
    good, bad = findings(f"sqlite+aiosqlite:///{tmp_path}/new.db", **settings)

    assert expected in good
    assert bad == []

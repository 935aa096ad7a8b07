"""`runyard doctor`: reports what works, what does not and how to fix it, and changes nothing."""

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from db.diagnostics import ArchivingInfo, PostgreSQLServerInfo, SQLiteFileInfo
from db.statements.open_transactions import OpenTransaction
from db.statements.schema_version import HEAD
from runyard.cli import doctor
from runyard.cli.doctor import run_checks
from runyard.cli.tokens import create
from tests.builders.tokens import token_input
from tests.command import runyard
from tests.postgresql import PostgreSQLServer, database_connection
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


async def test_findings_as_json_have_a_code_and_a_severity(server_process: ServerProcess, database_url: str) -> None:
    await server_process.start()

    done = await asyncio.to_thread(
        runyard, "doctor", "--json", folder=Path(), RUNYARD_DATABASE_URL=database_url, RUNYARD_PROT="4300"
    )

    found = json.loads(done.stdout)["findings"]
    assert done.returncode == 0, done.stdout
    assert [each for each in found if each["severity"] != "info"] == [
        {
            "code": "UNKNOWN_VARIABLE",
            "severity": "warning",
            "message": "RUNYARD_PROT is not a setting and is ignored. Did you mean RUNYARD_PORT?",
        }
    ]
    assert {"code": "MIGRATIONS", "severity": "info", "message": f"its migrations are current ({HEAD})"} in found
    expected = {"SETTING", "ACCESS", "MIGRATIONS", "UNKNOWN_VARIABLE"}
    if database_url.startswith("sqlite"):
        expected |= {"FILE_ACCESS", "DISK_SPACE", "FILE", "WRITE_AHEAD_LOG", "FILE_IN_USE"}
    else:
        expected |= {"DATABASE_VERSION", "CLOCK_SKEW", "BACKUP", "CONNECTION_LIMIT"}
        expected |= {"OPEN_TRANSACTION", "SUSPENDED_SERVER", "POOLER"}
    assert {each["code"] for each in found} == expected


def test_an_error_as_json_has_the_exit_code_1(tmp_path: Path) -> None:
    done = runyard("doctor", "--json", folder=tmp_path, RUNYARD_DATABASE_URL="sqlite+aiosqlite:////dev/null/x.db")

    assert done.returncode == 1
    assert [each["code"] for each in json.loads(done.stdout)["findings"] if each["severity"] == "error"] == [
        "FILE_ACCESS"
    ]


def test_an_unknown_variable_is_a_warning(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/runyard.db"

    done = runyard("doctor", folder=tmp_path, RUNYARD_DATABASE_URL=url, RUNYARD_RETENTON="30d")

    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == (
        "! RUNYARD_RETENTON is not a setting and is ignored. Did you mean RUNYARD_RETENTION?"
    )


NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("archiving", "message", "is_good"),
    [
        (
            None,
            "its write-ahead log is not archived: after a loss, only the state of the last backup can be restored",
            True,
        ),
        (ArchivingInfo(None, None), "its write-ahead log is archived", True),
        (ArchivingInfo(NOON, None), "its write-ahead log is archived, last at 2030-01-01 12:00:00Z", True),
        (
            ArchivingInfo(NOON, NOON - timedelta(1)),
            "its write-ahead log is archived, last at 2030-01-01 12:00:00Z",
            True,
        ),
        (
            ArchivingInfo(NOON, NOON + timedelta(1)),
            "archiving of its write-ahead log fails, and succeeded last at 2030-01-01 12:00:00Z: fix archive_command; "
            "the log of PostgreSQL has the reason",
            False,
        ),
        (
            ArchivingInfo(None, NOON),
            "archiving of its write-ahead log fails, and succeeded never: fix archive_command; the log of PostgreSQL "
            "has the reason",
            False,
        ),
    ],
)
def test_archiving_that_fails_is_reported(
    monkeypatch: pytest.MonkeyPatch, archiving: ArchivingInfo | None, message: str, is_good: bool
) -> None:
    async def inspect_postgresql_server(*_: object) -> PostgreSQLServerInfo:
        return PostgreSQLServerInfo("18.0", 18, timedelta(), HEAD, 97, 3, archiving=archiving)

    monkeypatch.setattr(doctor, "inspect_postgresql_server", inspect_postgresql_server)

    good, bad = findings("postgresql+asyncpg://u@h/n")

    assert message in (good if is_good else bad)
    assert bool(bad) is not is_good


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


def test_a_password_among_the_parameters_of_the_url_is_hidden() -> None:
    good, bad = findings("postgresql://localhost:1/runs?user=ada&password=secret&sslpassword=secret")

    assert "RUNYARD_DATABASE_URL is postgresql://localhost:1/runs?user=ada&password=***&sslpassword=***" in good
    assert "secret" not in "".join(good + bad)


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
        ("0001", f"it is at migration 0001, but this version needs {HEAD}: run `runyard db upgrade`"),
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
    async with database_connection(database_url) as connection:
        await connection.execute("ALTER TABLE alembic_version RENAME TO hidden")

        _, bad = await findings_async(database_url)

        # Other tests reuse the database.
        await connection.execute("ALTER TABLE hidden RENAME TO alembic_version")
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


@pytest.mark.parametrize(
    ("transaction", "advice"),
    [
        (
            OpenTransaction("sales", 4321, "psql", None, 42.4),
            "transaction in the database sales, open for 42 seconds, process 4321 of the application psql. "
            "Commit it, or run `SELECT pg_terminate_backend(4321)`",
        ),
        (
            OpenTransaction("sales", None, "", "import", 10.1),
            "prepared transaction 'import' in the database sales, open for 10 seconds. Commit it, or run "
            "`ROLLBACK PREPARED 'import'` there",
        ),
        (OpenTransaction("sales", 4321, "psql", None, 10.0), None),
        (None, None),
    ],
)
def test_a_transaction_that_blocks_the_feed_for_more_than_ten_seconds_is_reported(
    monkeypatch: pytest.MonkeyPatch, transaction: OpenTransaction | None, advice: str | None
) -> None:
    async def inspect_postgresql_server(*_: object) -> PostgreSQLServerInfo:
        return PostgreSQLServerInfo("18.0", 18, timedelta(), HEAD, 97, 3, oldest_open_transaction=transaction)

    monkeypatch.setattr(doctor, "inspect_postgresql_server", inspect_postgresql_server)

    good, bad = findings("postgresql+asyncpg://u@h/n")

    message = "`taskRunStateChanges` sends no new changes until an older transaction ends: "
    assert [each for each in bad if each.startswith(message)] == ([] if advice is None else [message + advice])
    assert ("no writing transaction has been open for more than 10 seconds" in good) is (advice is None)


def test_a_transaction_whose_age_this_user_may_not_see_is_mentioned(monkeypatch: pytest.MonkeyPatch) -> None:
    async def inspect_postgresql_server(*_: object) -> PostgreSQLServerInfo:
        transaction = OpenTransaction("sales", 4321, "psql", None, None)
        return PostgreSQLServerInfo("18.0", 18, timedelta(), HEAD, 97, 3, oldest_open_transaction=transaction)

    monkeypatch.setattr(doctor, "inspect_postgresql_server", inspect_postgresql_server)

    good, _ = findings("postgresql+asyncpg://u@h/n")

    assert (
        "the age of a transaction in the database sales, process 4321 of the application psql is unknown: grant this "
        "user pg_read_all_stats to see it"
    ) in good


@POSTGRESQL_ONLY
async def test_an_open_transaction_of_another_database_is_found(
    database_url: str, postgresql: PostgreSQLServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "MAX_OPEN_TRANSACTION_SECONDS", 0.0)
    name = await asyncio.to_thread(postgresql.make, migrated=False)
    psql = {"application_name": "psql"}
    async with database_connection(postgresql.url_of(name), server_settings=psql) as connection:
        await connection.execute("BEGIN; CREATE TABLE forgotten ()")
        process_id = await connection.fetchval("SELECT pg_backend_pid()")

        _, bad = await findings_async(database_url)
    await asyncio.to_thread(postgresql.drop, name)

    (problem,) = bad
    assert re.sub(r"open for \d+ seconds", "open for a time", problem) == (
        "`taskRunStateChanges` sends no new changes until an older transaction ends: transaction in the database "
        f"{name}, open for a time, process {process_id} of the application psql. Commit it, or run "
        f"`SELECT pg_terminate_backend({process_id})`"
    )


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

"""`runyard doctor` tells what is well and what is not, what to do about it, and changes nothing."""

import asyncio
import re
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from db.diagnostics import PostgreSQLServer, SQLiteFile
from db.migrations import HEAD
from runyard.cli import doctor
from runyard.cli.doctor import examine
from runyard.cli.tokens import create
from tests.builders.tokens import wanted
from tests.house.test_command import runyard
from tests.serving import ON_SQLITE, ServerProcess, settings_for

ON_POSTGRESQL = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)

MIBIBYTE = 2**20


def findings(database_url: str, **settings: object) -> tuple[list[str], list[str]]:
    """What is well, and what is not. Figures of size and time are as `#`."""
    found = list(examine(settings_for(Path(), database_url=database_url, **settings)))
    texts = {each: re.sub(r"\d[\d,]*\.\d+", "#", each.text) for each in found}
    good, bad = ([texts[each] for each in found if each.is_good is well] for well in (True, False))
    return good, bad


async def examined(database_url: str, **settings: object) -> tuple[list[str], list[str]]:
    return await asyncio.to_thread(findings, database_url, **settings)


def path_of(database_url: str) -> Path:
    return Path(database_url.removeprefix("sqlite+aiosqlite:///"))


# --- the command ---


async def test_it_is_well_with_a_server_and_its_database(server_process: ServerProcess, database_url: str) -> None:
    await server_process.start()

    done = await asyncio.to_thread(runyard, "doctor", folder=Path(), RUNYARD_DATABASE_URL=database_url)

    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("✓ ")] == []
    assert f"✓ its migrations are current ({HEAD})" in lines


def test_it_is_not_well_where_the_file_can_not_be(tmp_path: Path) -> None:
    url = "sqlite+aiosqlite:////dev/null/x.db"

    done = runyard("doctor", folder=tmp_path, RUNYARD_DATABASE_URL=url)

    assert done.returncode == 1
    assert "✗ /dev/null/x.db can not be written: let this user write the file and its folder" in done.stdout


# --- settings ---


def test_settings_are_told_as_understood_and_without_the_password(tmp_path: Path) -> None:
    url = "postgresql+asyncpg://ada:secret@localhost:1/runs"

    good, bad = findings(url, port=4300, database_timeout_seconds=2)

    assert "RUNYARD_PORT is 4300" in good
    assert "RUNYARD_DATABASE_URL is postgresql://ada:***@localhost:1/runs" in good
    assert "secret" not in "".join(good + bad)
    (unreachable,) = bad
    assert unreachable.startswith("The database could not be used: ")
    assert unreachable.endswith(
        "See that the server runs and that RUNYARD_DATABASE_URL names it, a user and a database"
    )


# --- SQLite ---


@ON_SQLITE
async def test_a_file_is_told_with_its_size_and_who_has_it(server_process: ServerProcess, database_url: str) -> None:
    before, _ = await examined(database_url)
    await server_process.start()
    assert server_process.process is not None
    after, _ = await examined(database_url)

    assert "no server has it open" in before
    assert f"a server has it open, process {server_process.process.pid}" in after
    assert f"{path_of(database_url)} can be written" in after


@ON_SQLITE
async def test_it_changes_nothing(database_url: str) -> None:
    path = path_of(database_url)
    before = path.read_bytes(), sorted(each.name for each in path.parent.iterdir())

    await examined(database_url)

    assert (path.read_bytes(), sorted(each.name for each in path.parent.iterdir())) == before


@ON_SQLITE
@pytest.mark.parametrize(
    ("revision", "told"),
    [
        ("0000", f"it is at migration 0000, and this version needs {HEAD}: run `runyard db upgrade`"),
        (
            "9999",
            f"it is at migration 9999, of a later version than this, which knows {HEAD}: install that version",
        ),
        (None, "it has no migrations: run `runyard db upgrade`"),
    ],
)
async def test_migrations_that_are_not_current_are_told(database_url: str, revision: str | None, told: str) -> None:
    with closing(sqlite3.connect(path_of(database_url))) as raw, raw:
        raw.execute("DELETE FROM alembic_version")
        if revision is not None:
            raw.execute("INSERT INTO alembic_version VALUES (?)", [revision])

    _, bad = await examined(database_url)

    assert bad == [told]


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, this is no database, and it is long enough to be sure of that.")

    _, bad = findings(f"sqlite+aiosqlite:///{path}")

    (told,) = bad
    assert told.startswith("the file can not be read: file is not a database.")


@ON_SQLITE
async def test_a_full_disk_is_told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 2**62)

    _, bad = await examined(database_url)

    (told,) = bad
    assert re.fullmatch(r"its disk has only # GiB left: make room, or `runyard prune` lets room .* be used again", told)


def test_a_log_that_is_not_brought_in_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runyard.db"
    path.touch()
    file = SQLiteFile(MIBIBYTE, 65 * MIBIBYTE, 0, "wal", HEAD)
    monkeypatch.setattr(doctor, "look_at_file", lambda *_: file)

    _, bad = findings(f"sqlite+aiosqlite:///{path}")

    (told,) = bad
    assert told.startswith("its write-ahead log has # MiB: some program reads the file")


# --- PostgreSQL ---


@ON_POSTGRESQL
async def test_a_server_is_told_with_its_version_clock_and_connections(database_url: str) -> None:
    good, bad = await examined(database_url, database_connections=10)

    assert bad == []
    assert any(re.fullmatch(r"the database answers: PostgreSQL #", each) for each in good)
    assert any(re.fullmatch(r"its clock is # seconds (ahead of|behind) this machine's", each) for each in good)
    assert any(
        re.fullmatch(r"a server opens up to 11 connections; .*: enough for \d+ servers in all", each) for each in good
    )


@ON_POSTGRESQL
async def test_too_few_connections_are_told(database_url: str) -> None:
    _, bad = await examined(database_url, database_connections=1000)

    (told,) = bad
    assert told.startswith("a server opens up to 1001 connections; ")
    assert told.endswith(": lower RUNYARD_DATABASE_CONNECTIONS, or raise max_connections")


@ON_POSTGRESQL
async def test_a_database_that_was_never_upgraded_is_told(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE alembic_version RENAME TO hidden")

    _, bad = await examined(database_url)

    # Other tests are lent the same database.
    await connection.execute("ALTER TABLE hidden RENAME TO alembic_version")
    await connection.close()
    assert bad == ["it has no migrations: run `runyard db upgrade`"]


@ON_POSTGRESQL
async def test_a_version_that_is_too_old_is_told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_POSTGRESQL", 99)

    _, bad = await examined(database_url)

    assert bad == ["the database answers: PostgreSQL #, which is too old for histories: upgrade it to 99 or later"]


@pytest.mark.parametrize(("seconds", "is_good"), [(1.5, True), (-1.5, True), (2.5, False), (-2.5, False)])
def test_clocks_that_differ_are_told(monkeypatch: pytest.MonkeyPatch, seconds: float, is_good: bool) -> None:
    async def look_at_server(*_: object) -> PostgreSQLServer:
        return PostgreSQLServer("18.0", 18, timedelta(seconds=seconds), HEAD, 97, 3)

    monkeypatch.setattr(doctor, "look_at_server", look_at_server)

    good, bad = findings("postgresql+asyncpg://u@h/n")

    told = f"its clock is # seconds {'ahead of' if seconds > 0 else 'behind'} this machine's"
    assert [each for each in good + bad if each.startswith("its clock")] == [
        told if is_good else f"{told}: set both by NTP. Servers go by the database's, but their logs do not"
    ]
    assert bool(bad) is not is_good


# --- access ---


async def test_it_is_well_where_a_token_is_valid_and_not_where_none_is(database_url: str) -> None:
    before, nobody = await examined(database_url, host="::")
    for scope in ("read", "work"):
        await asyncio.to_thread(create, settings_for(Path(), database_url=database_url), wanted(scope))
    after, bad = await examined(database_url, host="::")

    assert "access to :: is by API tokens" in before
    assert nobody == [
        "no API token is valid, so nobody would be let in: make one with `runyard token create --scope read`"
    ]
    assert "2 API tokens are valid" in after
    assert bad == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"host": "localhost"}, "access is open to whoever is on this machine, since localhost is a loopback address"),
        (
            {"host": "::", "access": "anonymous"},
            "access is open to whoever reaches ::, as RUNYARD_ACCESS says",
        ),
    ],
)
def test_it_tells_who_is_let_in_without_a_token(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    good, bad = findings(f"sqlite+aiosqlite:///{tmp_path}/new.db", **settings)

    assert said in good
    assert bad == []

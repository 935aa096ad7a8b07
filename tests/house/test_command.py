"""The `runyard` command: its subcommands, and its error messages."""

import sqlite3
from asyncio import to_thread
from pathlib import Path

import pytest

from runyard import __version__
from schema.root import print_schema
from tests.command import runyard
from tests.serving import SQLITE_ONLY, ServerProcess, settings_for

pytestmark = pytest.mark.processes


def test_db_upgrade_creates_the_database_and_is_idempotent(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/deep/down/runyard.db"

    first = runyard("db", "upgrade", folder=tmp_path, RUNYARD_DATABASE_URL=url)
    second = runyard("db", "upgrade", folder=tmp_path, RUNYARD_DATABASE_URL=url)

    path = tmp_path / "deep/down/runyard.db"
    assert (first.returncode, first.stdout) == (0, f"{path} is now up to date.\n")
    assert (second.returncode, second.stdout) == (0, f"{path} was already up to date.\n")


def test_schema_print_prints_the_schema(tmp_path: Path) -> None:
    printed = runyard("schema", "print", folder=tmp_path)

    assert (printed.returncode, printed.stdout) == (0, print_schema())


def test_version_prints_the_version(tmp_path: Path) -> None:
    assert runyard("--version", folder=tmp_path).stdout == f"runyard {__version__}\n"


@pytest.mark.parametrize("name", ["db", "queries", "resolvers", "schema"])
def test_serve_fails_when_a_foreign_package_shadows_one_of_runyard(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()

    completed = runyard("serve", folder=tmp_path)

    assert completed.returncode == 1
    assert completed.stdout == ""
    assert completed.stderr.startswith(
        f"runyard: The package '{name}' at {tmp_path}/{name}/__init__.py is not part of Runyard, "
    )


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RUNYARD_PORT": "many"}, "runyard: RUNYARD_PORT: Input should be a valid integer"),
        (
            {"RUNYARD_MAX_RESPONSE_BYTES": "1000"},
            "runyard: RUNYARD_MAX_RESPONSE_BYTES must be at least 16 times RUNYARD_MAX_",
        ),
        ({"RUNYARD_LOG_LEVEL": "loud"}, "runyard: RUNYARD_LOG_LEVEL: "),
        ({"RUNYARD_DATABASE_URL": "mysql://x/y"}, "runyard: RUNYARD_DATABASE_URL must name a SQLite file"),
        ({"RUNYARD_DATABASE_URL": "sqlite+aiosqlite:////dev/null/x.db"}, "runyard: "),
        (
            {"RUNYARD_DATABASE_URL": "postgresql://u:a/b@h/x"},
            "runyard: The URL of the database is invalid. Use the form ",
        ),
        (
            {"RUNYARD_DATABASE_LISTEN_URL": "mysql://u:secret@x/y"},
            "runyard: RUNYARD_DATABASE_LISTEN_URL must name a PostgreSQL database, as postgresql+asyncpg://user@host/name; "
            "got 'mysql://u:***@x/y'.",
        ),
    ],
)
def test_an_invalid_setting_is_named_without_a_traceback(
    tmp_path: Path, variables: dict[str, str], message: str
) -> None:
    completed = runyard("serve", folder=tmp_path, **variables)

    assert completed.returncode == 1
    assert completed.stderr.startswith(message)
    assert "Traceback" not in completed.stderr


def test_a_file_that_is_not_a_database_is_rejected_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, this is no database, and it is long enough to be sure of that.")

    completed = runyard("serve", folder=tmp_path, RUNYARD_DATABASE_URL=f"sqlite+aiosqlite:///{path}")

    assert completed.returncode == 1
    assert "file is not a database" in completed.stderr
    assert "Traceback" not in completed.stderr
    assert path.read_text().startswith("Dear diary")


def test_a_database_of_a_later_version_is_rejected_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "runyard.db"
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        raw.execute("INSERT INTO alembic_version VALUES ('9999')")
    raw.close()
    before = path.read_bytes()

    completed = runyard("serve", folder=tmp_path, RUNYARD_DATABASE_URL=f"sqlite+aiosqlite:///{path}")

    assert completed.returncode == 1
    assert completed.stderr.startswith("runyard: The database was written by a later version of Runyard")
    assert path.read_bytes() == before


@SQLITE_ONLY
async def test_a_second_server_on_one_file_fails_to_start(server_process: ServerProcess, tmp_path: Path) -> None:
    await server_process.start()
    url = f"sqlite+aiosqlite:///{tmp_path}/runyard.db"

    completed = await to_thread(runyard, "serve", "--port", "0", folder=tmp_path, RUNYARD_DATABASE_URL=url)

    assert completed.returncode == 1
    assert completed.stderr.endswith(f"runyard: Another server has {tmp_path}/runyard.db open.\n")
    assert "Traceback" not in completed.stderr


def test_serve_fails_on_a_public_address_without_a_valid_token(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/runyard.db"

    completed = runyard("serve", "--host", "0.0.0.0", folder=tmp_path, RUNYARD_DATABASE_URL=url)  # noqa: S104

    assert completed.returncode == 1
    assert completed.stderr.splitlines()[-1] == (
        f"runyard: Clients on 0.0.0.0 need an API token, but {tmp_path}/runyard.db has no valid token. Create one with "
        "`runyard token create --scope read --scope write --scope work`, or disable authentication with "
        "RUNYARD_ACCESS=anonymous."
    )


@SQLITE_ONLY
async def test_serve_starts_on_any_address_with_a_token_or_anonymous_access(
    server_process: ServerProcess, database_url: str, tmp_path: Path
) -> None:
    anonymous_client = await server_process.start(RUNYARD_HOST="0.0.0.0", RUNYARD_ACCESS="anonymous")  # noqa: S104
    anonymous_count = await anonymous_client.execute("CountTaskRuns")
    await server_process.terminate()
    created = await to_thread(
        runyard, "token", "create", "--scope", "read", folder=tmp_path, RUNYARD_DATABASE_URL=database_url
    )
    client = await server_process.start(RUNYARD_HOST="0.0.0.0")  # noqa: S104
    completed = await client.http.post("/graphql", json={"query": "{ taskRunCount }"})
    client.http.headers["Authorization"] = f"Bearer {created.stdout.strip()}"

    assert (anonymous_count, completed.status_code) == (0, 401)
    assert await client.execute("CountTaskRuns") == 0


@pytest.mark.parametrize(
    ("host", "access", "needs_tokens"),
    [
        ("127.0.0.1", "auto", False),
        ("::1", "auto", False),
        ("localhost", "auto", False),
        ("0.0.0.0", "auto", True),  # noqa: S104
        ("::", "auto", True),
        ("", "auto", True),
        ("192.168.0.7", "auto", True),
        ("localhost.example.org", "auto", True),
        ("127.0.0.1", "tokens", True),
        ("0.0.0.0", "anonymous", False),  # noqa: S104
    ],
)
def test_tokens_are_required_beyond_loopback_addresses(
    tmp_path: Path, host: str, access: str, needs_tokens: bool
) -> None:
    assert settings_for(tmp_path, host=host, access=access).needs_tokens == needs_tokens

"""The command `runyard`: what it does, and how it says that it can not."""

import os
import sqlite3
import subprocess
import sys
from asyncio import to_thread
from pathlib import Path

import pytest

from runyard import __version__
from schema.root import print_schema
from tests.serving import ON_SQLITE, ServerProcess, settings_for


def runyard(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
    command = [sys.executable, "-m", "runyard", *arguments]
    return subprocess.run(
        command, env=environment | variables, cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )


def test_db_upgrade_makes_the_database_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/deep/down/runyard.db"

    first = runyard("db", "upgrade", folder=tmp_path, RUNYARD_DATABASE_URL=url)
    second = runyard("db", "upgrade", folder=tmp_path, RUNYARD_DATABASE_URL=url)

    path = tmp_path / "deep/down/runyard.db"
    assert (first.returncode, first.stdout) == (0, f"{path} is now up to date.\n")
    assert (second.returncode, second.stdout) == (0, f"{path} was already up to date.\n")


def test_schema_print_prints_the_contract(tmp_path: Path) -> None:
    printed = runyard("schema", "print", folder=tmp_path)

    assert (printed.returncode, printed.stdout) == (0, print_schema())


def test_version_tells_the_version(tmp_path: Path) -> None:
    assert runyard("--version", folder=tmp_path).stdout == f"runyard {__version__}\n"


@pytest.mark.parametrize("name", ["db", "queries", "resolvers", "schema"])
def test_it_refuses_to_start_where_a_foreign_package_shadows_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()

    refused = runyard("serve", folder=tmp_path)

    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.startswith(f"runyard: the package '{name}' at {tmp_path}/{name}/__init__.py is not Runyard's")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RUNYARD_PORT": "many"}, "runyard: RUNYARD_PORT: Input should be a valid integer"),
        ({"RUNYARD_LOG_LEVEL": "loud"}, "runyard: RUNYARD_LOG_LEVEL: "),
        ({"RUNYARD_DATABASE_URL": "mysql://x/y"}, "runyard: RUNYARD_DATABASE_URL has to name a SQLite file"),
        ({"RUNYARD_DATABASE_URL": "sqlite+aiosqlite:////dev/null/x.db"}, "runyard: "),
    ],
)
def test_a_wrong_setting_is_named_without_a_traceback(tmp_path: Path, variables: dict[str, str], message: str) -> None:
    refused = runyard("serve", folder=tmp_path, **variables)

    assert refused.returncode == 1
    assert refused.stderr.startswith(message)
    assert "Traceback" not in refused.stderr


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, this is no database, and it is long enough to be sure of that.")

    refused = runyard("serve", folder=tmp_path, RUNYARD_DATABASE_URL=f"sqlite+aiosqlite:///{path}")

    assert refused.returncode == 1
    assert "file is not a database" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert path.read_text().startswith("Dear diary")


def test_a_database_of_a_later_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "runyard.db"
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        raw.execute("INSERT INTO alembic_version VALUES ('9999')")
    raw.close()
    before = path.read_bytes()

    refused = runyard("serve", folder=tmp_path, RUNYARD_DATABASE_URL=f"sqlite+aiosqlite:///{path}")

    assert refused.returncode == 1
    assert refused.stderr.startswith("runyard: The database was written by a later version of Runyard")
    assert path.read_bytes() == before


@ON_SQLITE
async def test_a_second_server_on_one_file_is_refused(server_process: ServerProcess, tmp_path: Path) -> None:
    await server_process.start()
    url = f"sqlite+aiosqlite:///{tmp_path}/runyard.db"

    refused = await to_thread(runyard, "serve", "--port", "0", folder=tmp_path, RUNYARD_DATABASE_URL=url)

    assert refused.returncode == 1
    assert refused.stderr.endswith(f"runyard: Another server has {tmp_path}/runyard.db open.\n")
    assert "Traceback" not in refused.stderr


# --- who is let in ---


def test_it_does_not_start_where_nobody_would_be_let_in(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/runyard.db"

    refused = runyard("serve", "--host", "0.0.0.0", folder=tmp_path, RUNYARD_DATABASE_URL=url)  # noqa: S104

    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        f"runyard: Access to 0.0.0.0 is by API tokens, and {tmp_path}/runyard.db has no valid one. Make one with "
        "`runyard token create --scope read --scope write --scope work`, or let anybody in who reaches that address: "
        "RUNYARD_ACCESS=anonymous."
    )


@ON_SQLITE
async def test_with_a_token_or_on_purpose_it_starts_on_any_address(
    server_process: ServerProcess, database_url: str, tmp_path: Path
) -> None:
    open_to_all = await server_process.start(RUNYARD_HOST="0.0.0.0", RUNYARD_ACCESS="anonymous")  # noqa: S104
    anonymous = await open_to_all.ask("CountTaskRuns")
    await server_process.terminate()
    made = await to_thread(
        runyard, "token", "create", "--scope", "read", folder=tmp_path, RUNYARD_DATABASE_URL=database_url
    )
    client = await server_process.start(RUNYARD_HOST="0.0.0.0")  # noqa: S104
    refused = await client.http.post("/graphql", json={"query": "{ taskRunCount }"})
    client.http.headers["Authorization"] = f"Bearer {made.stdout.strip()}"

    assert (anonymous, refused.status_code) == (0, 401)
    assert await client.ask("CountTaskRuns") == 0


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
def test_tokens_are_needed_beyond_loopback_addresses(
    tmp_path: Path, host: str, access: str, needs_tokens: bool
) -> None:
    assert settings_for(tmp_path, host=host, access=access).needs_tokens == needs_tokens

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
from tests.serving import ON_SQLITE, ServerProcess


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

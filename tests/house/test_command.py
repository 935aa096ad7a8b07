"""The `runyard` command: its subcommands, and its error messages."""

import os
import re
import socket
import sqlite3
import subprocess
import sys
from asyncio import to_thread
from pathlib import Path

import pytest

from runyard import __version__
from runyard.cli.settings_loading import describe_unknown_variables
from runyard.listening import AddressUnusable, check_address
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


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version_prints_the_version(tmp_path: Path, option: str) -> None:
    assert runyard(option, folder=tmp_path).stdout == f"runyard {__version__}\n"


def test_a_shell_can_complete_commands(tmp_path: Path) -> None:
    command = Path(sys.executable).parent / "runyard"
    completed = subprocess.run(
        [command],
        env={**os.environ, "_RUNYARD_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "runyard runs c"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert set(re.findall(r'"(c\w+)"', completed.stdout)) == {"cancel", "create"}, completed


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


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
def test_serve_fails_with_one_line_when_the_port_is_in_use(tmp_path: Path, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        url = f"sqlite+aiosqlite:///{tmp_path}/runyard.db"
        completed = runyard("serve", "--host", host, "--port", str(port), folder=tmp_path, RUNYARD_DATABASE_URL=url)

    address = host.replace("localhost", "127.0.0.1") or "0.0.0.0"  # noqa: S104
    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr == (
        f"runyard: Another program listens on {address} port {port}. Stop it, or set another port with --port or "
        "RUNYARD_PORT.\n"
    )
    assert not (tmp_path / "runyard.db").exists()


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (
            "192.0.2.1",
            "Cannot listen on 192.0.2.1 port 4200: Cannot assign requested address. Set another address with ",
        ),
        ("no such host", "The host 'no such host' is unknown: "),
    ],
)
def test_an_address_of_another_machine_is_refused(host: str, message: str) -> None:
    with pytest.raises(AddressUnusable) as refused:
        check_address(host, 4200)

    assert str(refused.value).startswith(message)


RUN_SERVER = """
import sys
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from runyard.cli.serving import run_until_stopped
from runyard.server import build_server
from runyard.settings import Settings

@asynccontextmanager
async def lifespan(app):
    if sys.argv[1] == "start":
        raise RuntimeError("not now")
    yield
    if sys.argv[1] == "stop":
        raise RuntimeError("not now")

server = build_server(Starlette(lifespan=lifespan), Settings(port=int(sys.argv[2])))
server.should_exit = sys.argv[1] != "start"  # stop as soon as it has started
run_until_stopped(server)
"""
"""A server without the API that fails at this moment, or does not fail."""


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        ("start", 1, "runyard: The server did not start. The reason is logged above.\n"),
        ("port", 1, "runyard: The server did not start. The reason is logged above.\n"),
        ("stop", 1, "runyard: The server failed. The reason is logged above.\n"),
        ("none", 0, ""),
    ],
)
def test_a_server_that_fails_exits_with_1(tmp_path: Path, failure: str, code: int, message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1] if failure == "port" else 0
        completed = subprocess.run(
            [sys.executable, "-c", RUN_SERVER, failure, str(port)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    assert completed.returncode == code, completed.stderr
    assert completed.stderr.endswith(message)


def test_serve_names_unknown_variables_and_starts(tmp_path: Path) -> None:
    completed = runyard(
        "serve",
        folder=tmp_path,
        RUNYARD_LOG_FORMAT="console",
        RUNYARD_PROT="4300",
        # Ends the command before it serves.
        RUNYARD_DATABASE_URL="sqlite+aiosqlite:////dev/null/x.db",
        RUNYARD_PORT="0",
    )

    assert completed.stderr.splitlines()[0] == (
        "Warning: RUNYARD_PROT is not a setting and is ignored. Did you mean RUNYARD_PORT?"
    )


@pytest.mark.parametrize(
    ("name", "warnings"),
    [
        ("RUNYARD_PORT", []),
        ("runyard_port", []),
        ("RUNYARD_URL", []),
        ("PORT", []),
        ("RUNYARD_DATABASE", ["RUNYARD_DATABASE is not a setting and is ignored. Did you mean RUNYARD_DATABASE_URL?"]),
        ("RUNYARD_XQ", ["RUNYARD_XQ is not a setting and is ignored."]),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest_setting(name: str, warnings: list[str]) -> None:
    known = {"RUNYARD_PORT", "RUNYARD_URL", "RUNYARD_DATABASE_URL"}

    assert list(describe_unknown_variables([name], known)) == warnings


@pytest.mark.parametrize("scheme", ["postgresql+asyncpg", "postgresql", "postgres"])
def test_each_scheme_of_postgresql_is_accepted(tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}://ada:secret@host/runs?sslmode=require"

    settings = settings_for(tmp_path, database_url=url, database_listen_url=url)

    assert settings.database == settings.listen_database == "postgresql://ada:secret@host/runs?sslmode=require"
    assert settings.redacted_database == "postgresql://ada:***@host/runs?sslmode=require"


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

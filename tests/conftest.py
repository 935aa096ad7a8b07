"""Fixtures: a database of each kind, a server on it, and its client."""

import itertools
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from shutil import copyfile

import pytest

from db import migrations
from tests.client import Client
from tests.postgresql import PostgreSQLServer, postgresql_server
from tests.serving import ServerProcess, Serving, serving


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQLServer]:
    """A PostgreSQL server for the whole run of the tests."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file without rows, to be copied: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "runyard.db"
    migrations.upgrade_sqlite(path)
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of database: a test that uses any of the fixtures below is run on both."""
    return request.param


@pytest.fixture
def new_database(
    database_kind: str, request: pytest.FixtureRequest, tmp_path: Path, migrated: Path
) -> Iterator[Callable[[], str]]:
    """Makes an empty, migrated database, and gives its URL. May be called from any thread that runs no event loop."""
    numbers = itertools.count()

    def new_file() -> str:
        number = next(numbers)
        path = tmp_path / (f"runyard-{number}.db" if number else "runyard.db")
        copyfile(migrated, path)
        return f"sqlite+aiosqlite:///{path}"

    if database_kind == "sqlite":
        yield new_file
        return
    server: PostgreSQLServer = request.getfixturevalue("postgresql")
    lent: list[str] = []

    def new_copy() -> str:
        lent.append(server.lend())
        return server.url_of(lent[-1])

    yield new_copy
    for name in lent:
        server.take_back(name)


@pytest.fixture
def database_url(new_database: Callable[[], str]) -> str:
    """The URL of an empty, migrated database."""
    return new_database()


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[Serving]:
    """A server on an empty database, with a clock that stands still at `tests.clock.START`."""
    async with serving(tmp_path, database_url=database_url) as served:
        yield served


@pytest.fixture
def client(server: Serving) -> Client:
    """A client of `server`."""
    return server.client


@pytest.fixture
async def server_process(database_url: str) -> AsyncIterator[ServerProcess]:
    """A server as a process of its own, not started yet, and killed at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = ServerProcess(database_url, port)
    yield process
    await process.close()

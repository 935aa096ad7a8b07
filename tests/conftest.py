"""Shared fixtures: a database of each kind, a server on it, and a client of the server."""

import itertools
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from shutil import copyfile

import pytest
from hypothesis import settings

from db import migrations
from tests.client import Client
from tests.postgresql import PostgreSQLServer, postgresql_server
from tests.serving import RunningServer, ServerProcess, run_server

settings.register_profile("fast", max_examples=20)
"""For `just test-fast`. Every property test scales with the profile that is chosen."""

LONG_TESTS = ("tests/conformance/", "tests/chaos/", "tests/examples/", "tests/api/http/test_graphiql", "tests/hostile/")
"""Where the tests are that take longer than a second each. They begin first."""


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Apply the marks `SQLITE_ONLY` and `POSTGRESQL_ONLY` to the tests that use a database."""
    mark = metafunc.definition.get_closest_marker("database")
    if mark is not None and "database_kind" in metafunc.fixturenames:
        metafunc.definition.add_marker(pytest.mark.parametrize("database_kind", mark.args, indirect=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use PostgreSQL or a server process, and let long tests begin first.

    Other tests that start processes mark themselves.
    """
    for item in items:
        uses = set(getattr(item, "fixturenames", ()))
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if uses & {"postgresql", "server_process"} or parameters.get("database_kind") == "postgresql":
            item.add_marker(pytest.mark.processes)
    # A long test that begins last would run alone on its process.
    items.sort(key=lambda item: not item.nodeid.startswith(LONG_TESTS))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQLServer]:
    """A PostgreSQL server, shared by the whole test session."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty, migrated SQLite file to copy, because migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "runyard.db"
    migrations.upgrade_sqlite(path)
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """The kind of database. A test that uses any of the fixtures below runs once on each kind."""
    return request.param


@pytest.fixture
def new_database(
    database_kind: str, request: pytest.FixtureRequest, tmp_path: Path, migrated: Path
) -> Iterator[Callable[[], str]]:
    """A function that creates an empty, migrated database and returns its URL. It must not be called in an event loop."""
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
    acquired: list[str] = []

    def new_copy() -> str:
        acquired.append(server.acquire())
        return server.url_of(acquired[-1])

    yield new_copy
    for name in acquired:
        server.release(name)


@pytest.fixture
def database_url(new_database: Callable[[], str]) -> str:
    """The URL of an empty, migrated database."""
    return new_database()


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server on an empty database. Its clock stands still at `tests.clock.START`."""
    async with run_server(tmp_path, database_url=database_url) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Client:
    """The client of `server`."""
    return server.client


@pytest.fixture
async def server_process(database_url: str) -> AsyncIterator[ServerProcess]:
    """A server in its own process. The test starts it; it is killed at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = ServerProcess(database_url, port)
    yield process
    await process.close()

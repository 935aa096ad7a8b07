"""Shared fixtures: real servers on SQLite and PostgreSQL, one of each for a test session, and unique task keys."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest

from runyard_client.testing.plugin import runyard_inline, runyard_server, runyard_server_process
from runyard_client.testing.server import RunyardServer, start_server
from tests.postgresql import PostgreSQLServer, postgresql_server

__all__ = ["runyard_inline", "runyard_server", "runyard_server_process"]
"""The fixtures of the plugin, which pytest finds by itself where the distribution is installed."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests and fixtures with asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def no_runyard_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of the person who runs the tests."""
    for name in ("RUNYARD_URL", "RUNYARD_TOKEN", "RUNYARD_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunyardServer]:
    """A server on a SQLite file. All tests share it: they use task keys of their own, and must not stop it."""
    with start_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RunyardServer]:
    """A server on a SQLite file that the test may stop, kill and start again. It takes a second to start."""
    with start_server(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQLServer]:
    """A PostgreSQL server, shared by the whole test session."""
    with postgresql_server() as started:
        yield started


@pytest.fixture(scope="session")
def postgresql_url(postgresql: PostgreSQLServer) -> Iterator[str]:
    """The URL of an empty, migrated PostgreSQL database, shared by the whole test session."""
    name = postgresql.make()
    yield postgresql.url_of(name)
    postgresql.drop(name)


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def server_on(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunyardServer]:
    """A shared server as `server`. A test that uses it runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield request.getfixturevalue("server")
        return
    with start_server(tmp_path_factory.mktemp("server"), request.getfixturevalue("postgresql_url")) as running:
        yield running


@pytest.fixture(scope="session")
def unique_key() -> Callable[[str], str]:
    """A function that appends a suffix to a prefix: a task key that no other test uses."""
    session = uuid4().hex[:8]
    numbers = count(1)
    return lambda prefix: f"{prefix}-{session}-{next(numbers)}"

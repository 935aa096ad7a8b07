"""Fixtures: a server in this process, and its client."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from db import migrations
from tests.client import Client
from tests.serving import ServerProcess, Serving, serving


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file without rows, to be copied: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "runyard.db"
    migrations.upgrade_sqlite(path)
    return path


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    """A server on an empty database, with a clock that stands still at `tests.clock.START`."""
    async with serving(tmp_path) as served:
        yield served


@pytest.fixture
def client(server: Serving) -> Client:
    """A client of `server`."""
    return server.client


@pytest.fixture
async def server_process(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server as a process of its own, not started yet, and killed at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = ServerProcess(tmp_path, port)
    yield process
    await process.close()

"""Fixtures for pytest: `runyard_inline` and `runyard_server`. Registered when the distribution is installed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from runyard_client.testing.inline import Inline
from runyard_client.testing.server import ExternalServer, RunyardServer, start_server
from runyard_client.transport.url import endpoint_url

TEST_URL_VARIABLE = "RUNYARD_TEST_URL"


@pytest.fixture
def runyard_inline() -> Iterator[Inline]:
    """Inline mode: calls of all apps are recorded, and executed by `run_all()`, without a server."""
    with Inline() as inline:
        yield inline


@pytest.fixture(scope="session")
def runyard_server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunyardServer | ExternalServer]:
    """The server of the session, for `runyard_server`: the one at RUNYARD_TEST_URL, or one that is started."""
    if url := os.environ.get(TEST_URL_VARIABLE):
        yield ExternalServer(endpoint_url(url))
        return
    with start_server(tmp_path_factory.mktemp("runyard-server")) as server:
        yield server


@pytest.fixture
def runyard_server(
    runyard_server_process: RunyardServer | ExternalServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunyardServer | ExternalServer]:
    """A real server without task runs, at `RUNYARD_URL`. One server for the session; its runs are deleted after each test.

    The server at RUNYARD_TEST_URL is used instead if it is set. Its runs are not deleted.
    """
    server = runyard_server_process
    monkeypatch.setenv("RUNYARD_URL", server.url)
    yield server
    if isinstance(server, RunyardServer):
        server.reset()

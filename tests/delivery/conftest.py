"""Fixtures: several servers on one database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.serving import RunningServer, run_server


@pytest.fixture
async def replicas(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[RunningServer, RunningServer]]:
    """Two servers on one database, with manual clocks. PostgreSQL only: a SQLite database has a single server."""
    async with (
        run_server(tmp_path, database_url=database_url) as first,
        run_server(tmp_path, database_url=database_url) as second,
    ):
        yield first, second

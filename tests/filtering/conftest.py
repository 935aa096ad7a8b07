"""Fixtures: a population, read by all tests of a module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from db.connection import SQLiteConnection
from tests.builders.population import Population, populated


@pytest.fixture(scope="module")
def rows(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SQLiteConnection, Population]]:
    """A connection, and what is in its database."""
    with populated(migrated, tmp_path_factory.mktemp("rows") / "runyard.db") as opened:
        yield opened

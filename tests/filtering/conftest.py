"""Fixtures for filtering tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from db.connection import SQLiteConnection
from tests.builders.population import Population, populated


@pytest.fixture(scope="module")
def rows(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SQLiteConnection, Population]]:
    """A connection to a populated database, shared by the tests of a module, and the rows in it."""
    with populated(migrated, tmp_path_factory.mktemp("rows") / "runyard.db") as connection_and_rows:
        yield connection_and_rows

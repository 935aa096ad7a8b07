"""Fixtures: a SQLite database as a server opens it, a connection to it, and a PostgreSQL database opened twice."""

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path
from shutil import copyfile

import pytest

from db.connection import SQLiteConnection
from db.postgresql.database import PostgreSQLDatabase
from db.runtime.timestamps import format_timestamp
from db.sqlite.database import SQLiteDatabase
from tests.clock import START
from tests.storage.open_database import open_database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the SQLite file, which may not exist yet."""
    return tmp_path / "runyard.db"


@pytest.fixture
async def database(path: Path, migrated: Path) -> AsyncIterator[SQLiteDatabase]:
    """A SQLite database as a server opens it. Its clock stands still at `tests.clock.START`."""
    copyfile(migrated, path)
    async with open_database(path) as database:
        yield database


@pytest.fixture
def connection(path: Path, migrated: Path) -> Iterator[SQLiteConnection]:
    """A connection with an open transaction, as operations receive it."""
    copyfile(migrated, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA foreign_keys=ON")
        raw.execute("BEGIN IMMEDIATE")
        yield SQLiteConnection(raw, format_timestamp(START))


@pytest.fixture
async def databases(database_url: str) -> AsyncIterator[Sequence[PostgreSQLDatabase]]:
    """One PostgreSQL database, opened by two servers."""
    async with AsyncExitStack() as stack:
        databases = [await PostgreSQLDatabase.open(database_url) for _ in range(2)]
        for database in databases:
            stack.push_async_callback(database.close)
        yield databases

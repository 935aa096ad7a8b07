"""Fixtures: a real SQLite file, as the server opens it and as a unit of work sees it."""

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path
from shutil import copyfile

import pytest

from db.connection import SQLiteConnection
from db.postgresql.database import PostgreSQLDatabase
from db.runtime.timestamps import instant
from db.sqlite.database import SQLiteDatabase
from tests.clock import START
from tests.storage.open_database import opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is, once there is one."""
    return tmp_path / "runyard.db"


@pytest.fixture
async def database(path: Path, migrated: Path) -> AsyncIterator[SQLiteDatabase]:
    """The database as the server has it open, with a clock that stands still at `tests.clock.START`."""
    copyfile(migrated, path)
    async with opened(path) as database:
        yield database


@pytest.fixture
def connection(path: Path, migrated: Path) -> Iterator[SQLiteConnection]:
    """What units of work are called with, inside a transaction."""
    copyfile(migrated, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA foreign_keys=ON")
        raw.execute("BEGIN IMMEDIATE")
        yield SQLiteConnection(raw, instant(START))


@pytest.fixture
async def databases(database_url: str) -> AsyncIterator[Sequence[PostgreSQLDatabase]]:
    """One database of PostgreSQL, as two servers have it open."""
    async with AsyncExitStack() as stack:
        opened = [await PostgreSQLDatabase.open(database_url) for _ in range(2)]
        for database in opened:
            stack.push_async_callback(database.close)
        yield opened

"""Open a SQLite database for the duration of a block."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from db.sqlite.database import SQLiteDatabase
from tests.client import TIMEOUT_SECONDS
from tests.clock import ManualClock


@asynccontextmanager
async def open_database(path: Path, *, busy_seconds: float = 5.0) -> AsyncIterator[SQLiteDatabase]:
    """Open the database in the file with a manual clock, and close it at the end of the block."""
    database = await SQLiteDatabase.open(path, clock=ManualClock(), busy_seconds=busy_seconds)
    try:
        yield database
    finally:
        await asyncio.wait_for(database.close(), TIMEOUT_SECONDS)

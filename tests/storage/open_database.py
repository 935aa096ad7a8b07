"""The database as the server has it open, for as long as a test needs it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from db.sqlite.database import SQLiteDatabase
from tests.client import PATIENCE
from tests.clock import ManualClock


@asynccontextmanager
async def opened(path: Path, *, busy_seconds: float = 5.0) -> AsyncIterator[SQLiteDatabase]:
    """The database in the file, with a clock that stands still at `tests.clock.START`; closed in the end, come what may."""
    database = await SQLiteDatabase.open(path, clock=ManualClock(), busy_seconds=busy_seconds)
    try:
        yield database
    finally:
        await asyncio.wait_for(database.close(), PATIENCE)

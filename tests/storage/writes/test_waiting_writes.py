"""A write that waits behind one that finds the database away is told so with it, instead of waiting as long again."""

import asyncio
import time
from pathlib import Path

import pytest

from db.errors import DatabaseUnavailable
from resolvers.flows import NewFlow, create_flows
from tests.storage.open_database import opened
from tests.storage.processes import HOLDS_THE_FILE, process

BUSY_SECONDS = 1.5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runyard.db"


async def test_who_came_meanwhile_is_told_at_once(path: Path) -> None:
    async with opened(path, busy_seconds=BUSY_SECONDS) as database:
        with process(HOLDS_THE_FILE, path):
            began_at = time.monotonic()
            first = asyncio.create_task(database.write(create_flows, NewFlow("first")))
            # Asked for, and then taken up by the writer.
            while not database._batches._waiting:  # noqa: ASYNC110
                await asyncio.sleep(0)
            while database._batches._waiting:  # noqa: ASYNC110
                await asyncio.sleep(0)
            second = asyncio.create_task(database.write(create_flows, NewFlow("second")))
            refusals = await asyncio.gather(first, second, return_exceptions=True)
            took = time.monotonic() - began_at

    assert [type(each) for each in refusals] == [DatabaseUnavailable] * 2
    # One wait after the other would be three seconds.
    assert BUSY_SECONDS <= took < 2 * BUSY_SECONDS

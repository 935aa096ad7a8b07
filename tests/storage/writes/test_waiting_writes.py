"""Writes queued behind a write that finds the database unavailable fail with it, without waiting again."""

import asyncio
from pathlib import Path

from db.errors import DatabaseUnavailable
from resolvers.flows import NewFlow, create_flows
from tests.storage.open_database import open_database
from tests.storage.processes import HOLD_WRITE_LOCK, python_process

BUSY_SECONDS = 1.5


async def test_a_write_queued_during_the_wait_fails_at_once(path: Path) -> None:
    async with open_database(path, busy_seconds=BUSY_SECONDS) as database:
        with python_process(HOLD_WRITE_LOCK, path):
            first = asyncio.create_task(database.write(create_flows, NewFlow("first")))
            # The write is queued, then taken by the writer.
            while not database._group_commit._pending:  # noqa: ASYNC110
                await asyncio.sleep(0)
            while database._group_commit._pending:  # noqa: ASYNC110
                await asyncio.sleep(0)
            second = asyncio.create_task(database.write(create_flows, NewFlow("second")))
            refusals = await asyncio.gather(first, second, return_exceptions=True)

    # The second write got the error of the first; waiting separately, it would have got another one.
    assert isinstance(refusals[0], DatabaseUnavailable)
    assert refusals[1] is refusals[0]

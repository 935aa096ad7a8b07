"""Work in the database that blocks until a test releases it."""

import asyncio
import threading
from collections.abc import Sequence

from sqlalchemy.util import await_only

from db.connection import Connection
from tests.client import TIMEOUT_SECONDS


class BlockingWork:
    """Units of work that block until they are released."""

    def __init__(self, *, is_in_loop: bool) -> None:
        self.started = asyncio.Semaphore(0)
        self._loop = asyncio.get_running_loop()
        self._is_in_loop = is_in_loop
        self._released = asyncio.Event()
        self._released_in_thread = threading.Event()

    def read(self, connection: Connection) -> None:
        self._loop.call_soon_threadsafe(self.started.release)
        if self._is_in_loop:
            await_only(asyncio.wait_for(self._released.wait(), TIMEOUT_SECONDS))
        else:
            assert self._released_in_thread.wait(TIMEOUT_SECONDS)

    def write(self, connection: Connection, items: Sequence[None]) -> list[Exception | None]:
        self.read(connection)
        return [None for _ in items]

    async def wait_for_started(self, count: int) -> None:
        """Wait until `count` units have started."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            for _ in range(count):
                await self.started.acquire()

    def release(self) -> None:
        self._released.set()
        self._released_in_thread.set()

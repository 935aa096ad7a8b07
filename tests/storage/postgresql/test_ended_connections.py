"""Terminated PostgreSQL connections: an operation fails at most once, and notifications resume."""

import asyncio
import threading
from contextlib import suppress

from db.connection import Notification, WorkAvailable
from db.errors import DatabaseUnavailable
from db.postgresql.database import PostgreSQLDatabase
from tests.client import TIMEOUT_SECONDS
from tests.postgresql import database_connection
from tests.serving import POSTGRESQL_ONLY

# SQLite has no server that ends connections.
pytestmark = POSTGRESQL_ONLY

OTHER_CONNECTIONS = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"


def terminate_all_connections(url: str) -> None:
    """Terminate all connections and wait until they are gone. Blocks the event loop, which has not noticed yet."""

    async def end() -> None:
        async with database_connection(url) as connection:
            # A connection that was being opened appears later, and would stay while the event loop is blocked.
            while await connection.fetch(f"SELECT pg_terminate_backend(pid) {OTHER_CONNECTIONS}"):
                continue

    thread = threading.Thread(target=asyncio.run, args=(end(),))
    thread.start()
    thread.join()


async def test_terminated_connections_fail_as_retryable_and_notifications_resume(database_url: str) -> None:
    here, there = [await PostgreSQLDatabase.open(database_url) for _ in range(2)]
    received = asyncio.Event()

    async def read() -> None:
        with suppress(DatabaseUnavailable):
            assert await here.is_current()

    def on_notifications(notifications: list[Notification]) -> None:
        received.set()

    there.listen(on_notifications)
    try:
        for _ in range(3):
            terminate_all_connections(database_url)
            reads: list[asyncio.Task[None]] = []
            for _ in range(8):
                reads.append(asyncio.create_task(read()))
                await asyncio.sleep(0)
            await asyncio.gather(*reads)

        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not received.is_set():
                # Notifications sent before both listen again are lost.
                here._notifier.publish([WorkAvailable("t")])
                with suppress(TimeoutError):
                    await asyncio.wait_for(received.wait(), 0.1)
    finally:
        await here.close()
        await there.close()

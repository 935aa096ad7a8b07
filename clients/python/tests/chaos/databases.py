"""The database of a chaos test, and what can happen to PostgreSQL."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg

from chaos.plan import Options
from tests.postgresql import DedicatedPostgreSQL, dedicated_postgresql


class ChaosDatabase:
    """The SQLite file, or the database of a PostgreSQL server of its own, that all servers use."""

    def __init__(self, url: str, postgresql: DedicatedPostgreSQL | None) -> None:
        self.url = url
        self.busy = asyncio.Lock()
        """Held by the fault that currently affects the database."""
        self._postgresql = postgresql

    async def crash(self, seconds: float) -> None:
        """Stop PostgreSQL as a power failure does, and start it again after `seconds`."""
        assert self._postgresql is not None
        await asyncio.to_thread(self._postgresql.stop)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self._postgresql.start)

    async def terminate_connections(self) -> None:
        """Terminate all other connections to PostgreSQL."""
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection = await asyncpg.connect(self.url, timeout=5, command_timeout=5)
            try:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            finally:
                await connection.close()


@asynccontextmanager
async def run_database(options: Options, folder: Path) -> AsyncGenerator[ChaosDatabase]:
    if options.database == "sqlite":
        yield ChaosDatabase(f"sqlite+aiosqlite:///{folder}/runyard.db", None)
        return
    started = dedicated_postgresql()
    # The functions of PostgreSQL run event loops of their own.
    postgresql = await asyncio.to_thread(started.__enter__)
    try:
        yield ChaosDatabase(await asyncio.to_thread(postgresql.make), postgresql)
    finally:
        await asyncio.to_thread(started.__exit__, None, None, None)

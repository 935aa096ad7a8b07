"""What lives as long as the server does, from start to stop."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from db.database import Database
from db.runtime.clock import Clock, SystemClock
from db.sqlite.database import SQLiteDatabase
from resolvers.delivery.dispatcher import Dispatcher, QueueTimers
from resolvers.retention import Retention
from resolvers.state_changes import FeedTimers, StateFeed
from runyard.settings import Settings


@dataclass(slots=True)
class Life:
    """The open database, the deliveries that are made from it, and the feed of what changes in it."""

    database: Database
    dispatcher: Dispatcher
    feed: StateFeed
    pruning: "asyncio.Task[None] | None" = None
    """Deletes old runs now and then, where these are not kept for ever."""
    is_stopping: bool = False

    @classmethod
    async def start(cls, settings: Settings, clock: Clock | None, chance: Callable[[], float]) -> "Life":
        """Open the database and begin to deliver. A SQLite file is migrated as needed.

        It goes by the machine's clock, on PostgreSQL by the database's, unless a test owns one.
        """
        database = await open_database(settings, clock)
        # Giving back without them needs time, too.
        drain = min(10, settings.stop_seconds / 2)
        timers = QueueTimers(
            acknowledge=settings.acknowledge_seconds,
            keep_alive=settings.keep_alive_seconds,
            sweep=settings.sweep_seconds,
            poll=settings.poll_seconds,
            drain=drain,
        )
        dispatcher = Dispatcher(database, database.clock, timers, chance)
        feed = StateFeed(database, FeedTimers(poll=settings.poll_seconds, drain=drain), backlog=settings.feed_backlog)
        try:
            await dispatcher.start(alone=not database.is_shared)
        except BaseException:
            # The database's threads would keep the process alive.
            await database.close()
            raise
        pruning = None
        if settings.retention is not None:
            retention = Retention(database, database.clock, settings.retention)
            pruning = asyncio.create_task(retention.run(), name="retention")
        return cls(database, dispatcher, feed, pruning)

    async def drain(self) -> None:
        """Take no more work on, and return when every subscription has ended and given back what was unstarted.

        Requests can still be served. Draining again does nothing.
        """
        if not self.is_stopping:
            self.is_stopping = True
            await asyncio.gather(self.dispatcher.stop(), self.feed.stop())

    async def end(self) -> None:
        """Drain, finish the writes under way, and let go of the database."""
        await self.drain()
        if self.pruning is not None:
            self.pruning.cancel()
        await self.database.close()


async def open_database(settings: Settings, clock: Clock | None) -> Database:
    """The database that the settings name. A SQLite file is migrated as needed."""
    if isinstance(settings.database, Path):
        return await SQLiteDatabase.open(
            settings.database,
            clock=clock or SystemClock(),
            busy_seconds=settings.database_busy_seconds,
            most_bytes=settings.max_answer_bytes,
        )
    from db.postgresql.database import PostgreSQLDatabase  # noqa: PLC0415 - not paid for on SQLite

    return await PostgreSQLDatabase.open(
        settings.database,
        clock=clock,
        connections=settings.database_connections,
        timeout_seconds=settings.database_timeout_seconds,
        most_bytes=settings.max_answer_bytes,
    )

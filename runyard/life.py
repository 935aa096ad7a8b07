"""What lives as long as the server does, from start to stop."""

from dataclasses import dataclass

from db.clock import Clock
from db.engine import Database
from db.sqlite import SQLiteDatabase
from resolvers.queue.dispatcher import Dispatcher, QueueTimers
from runyard.settings import Settings


@dataclass(slots=True)
class Life:
    """The open database and the deliveries that are made from it."""

    database: Database
    dispatcher: Dispatcher
    is_stopping: bool = False

    @classmethod
    async def start(cls, settings: Settings, clock: Clock) -> "Life":
        """Open the database, migrated as needed, and begin to deliver."""
        database = await SQLiteDatabase.open(
            settings.sqlite_path, clock=clock, busy_seconds=settings.database_busy_seconds
        )
        timers = QueueTimers(
            acknowledge=settings.acknowledge_seconds,
            keep_alive=settings.keep_alive_seconds,
            sweep=settings.sweep_seconds,
            drain=min(10, settings.stop_seconds),
        )
        dispatcher = Dispatcher(database, clock, timers)
        try:
            await dispatcher.start(alone=True)
        except BaseException:
            # The database's threads would keep the process alive.
            await database.close()
            raise
        return cls(database, dispatcher)

    async def drain(self) -> None:
        """Take no more work on, and return when every subscription has ended and given back what was unstarted.

        Requests can still be served. Draining again does nothing.
        """
        if not self.is_stopping:
            self.is_stopping = True
            await self.dispatcher.stop()

    async def end(self) -> None:
        """Drain, finish the writes under way, and let go of the database."""
        await self.drain()
        await self.database.close()

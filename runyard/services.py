"""Services that live as long as the server: database, dispatcher, feed, waits, flow run sweeper and retention."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from db.database import Database
from db.runtime.chance import Chance
from db.runtime.clock import Clock, SystemClock
from db.sqlite.database import SQLiteDatabase
from resolvers.delivery.deadline_sweeper import DeadlineSweeper
from resolvers.delivery.dispatcher import Dispatcher, QueueTimers
from resolvers.feed_lag import FeedLagMonitor
from resolvers.flow_run_sweeper import FlowRunSweeper
from resolvers.retention import Retention
from resolvers.state_changes import FeedTimers, StateFeed
from resolvers.task_run_metrics import TaskRunMetrics
from resolvers.waits import Waits
from runyard.settings import Settings


@dataclass(slots=True)
class Services:
    """The open database, the dispatcher, feed, waits and metrics that use it, and the tasks that end and delete runs."""

    database: Database
    dispatcher: Dispatcher
    feed: StateFeed
    waits: Waits
    task_run_metrics: TaskRunMetrics
    deadline_task: "asyncio.Task[None] | None" = None
    """Ends runs that have expired or exceeded their time limits."""
    flow_run_task: "asyncio.Task[None] | None" = None
    """Ends paused flow runs after their timeout, and what outlives its flow run."""
    retention_task: "asyncio.Task[None] | None" = None
    """Deletes runs older than `RUNYARD_RETENTION`; None when runs are kept forever."""
    feed_lag_task: "asyncio.Task[None] | None" = None
    """Logs when the feed lags; None on a database with a single writer, where it never does."""
    stop_transports: "list[Callable[[float], Awaitable[None]]]" = field(default_factory=list)
    """Functions that end the subscriptions of one transport without completing them; called with a timeout in seconds."""
    drain_seconds: float = 10.0
    """Time limit for subscriptions to end when the server stops."""
    is_stopping: bool = False

    @classmethod
    async def start(cls, settings: Settings, clock: Clock | None, chance: Chance) -> "Services":
        """Open the database and start the services. A SQLite file is migrated first.

        Without `clock`, times are those of the machine on SQLite and of the database on PostgreSQL.
        """
        database = await open_database(settings, clock, chance)
        # Releasing the leases of subscriptions that do not end takes time, too.
        drain = min(10, settings.stop_seconds / 2)
        timers = QueueTimers(
            acknowledge=settings.acknowledge_seconds,
            keep_alive=settings.keep_alive_seconds,
            sweep=settings.sweep_seconds,
            heartbeat=settings.heartbeat_seconds,
            poll=settings.poll_seconds,
            drain=drain,
        )
        dispatcher = Dispatcher(database, database.clock, timers, chance)
        feed = StateFeed(database, FeedTimers(poll=settings.poll_seconds, drain=drain), backlog=settings.feed_backlog)
        waits = Waits.create(database, poll_seconds=settings.poll_seconds)
        task_run_metrics = TaskRunMetrics()
        database.listen(task_run_metrics.record)
        try:
            await dispatcher.start(is_only_server=not database.is_shared)
        except BaseException:
            # The database's threads would keep the process alive.
            await database.close()
            raise
        deadlines = DeadlineSweeper(
            database, database.clock, dispatcher.metrics, max_wait_seconds=settings.sweep_seconds, chance=chance
        )
        deadline_task = asyncio.create_task(deadlines.run(), name="deadline sweeper")
        sweeper = FlowRunSweeper(database, database.clock, chance)
        flow_run_task = asyncio.create_task(sweeper.run(), name="flow run sweeper")
        retention_task = None
        if settings.retention is not None:
            retention = Retention(database, database.clock, settings.retention, chance=chance)
            retention_task = asyncio.create_task(retention.run(), name="retention")
        feed_lag_task = None
        if database.is_shared:
            feed_lag_task = asyncio.create_task(FeedLagMonitor(database).run(), name="feed lag")
        return cls(
            database,
            dispatcher,
            feed,
            waits,
            task_run_metrics,
            deadline_task,
            flow_run_task,
            retention_task,
            feed_lag_task,
            drain_seconds=drain,
        )

    async def drain(self) -> None:
        """Stop deliveries, feeds and waits. Return when all subscriptions have ended and their runs are released.

        Subscriptions are not completed, and WebSockets are closed with 1012: clients reconnect. HTTP requests are still
        served. Idempotent.
        """
        if not self.is_stopping:
            self.is_stopping = True
            self.waits.stop()
            # Transports come first: they must know that the server is stopping before a subscription ends.
            transports = [stop(self.drain_seconds) for stop in self.stop_transports]
            await asyncio.gather(*transports, self.dispatcher.stop(), self.feed.stop())

    async def close(self) -> None:
        """Drain, finish pending writes and close the database."""
        await self.drain()
        await self.dispatcher.forget_workers()
        for task in (self.deadline_task, self.flow_run_task, self.retention_task, self.feed_lag_task):
            if task is not None:
                task.cancel()
        await self.database.close()


async def open_database(settings: Settings, clock: Clock | None = None, chance: Chance = random.random) -> Database:
    """Open the database of the settings. A SQLite file is migrated first."""
    if isinstance(settings.database, Path):
        return await SQLiteDatabase.open(
            settings.database,
            clock=clock or SystemClock(),
            busy_seconds=settings.database_busy_seconds,
            max_read_bytes=settings.max_response_bytes,
            max_silence_seconds=2 * settings.heartbeat_seconds,
            chance=chance,
        )
    from db.postgresql.database import PostgreSQLDatabase  # noqa: PLC0415 - not loaded on SQLite

    return await PostgreSQLDatabase.open(
        settings.database,
        listen_url=settings.listen_database,
        clock=clock,
        connections=settings.database_connections,
        timeout_seconds=settings.database_timeout_seconds,
        max_read_bytes=settings.max_response_bytes,
        max_silence_seconds=2 * settings.heartbeat_seconds,
        chance=chance,
    )

"""The lag of the feed: how long committed state changes wait for an older transaction to end, and its log messages."""

import asyncio
import logging

from db.connection import Connection
from db.database import Database
from db.errors import DatabaseUnavailable
from db.runtime.timestamps import seconds_between
from db.statements.open_transactions import OpenTransaction, oldest_open_transaction
from db.statements.state_changes import first_blocked_timestamp

log = logging.getLogger("runyard.feed")

MAX_FEED_LAG_SECONDS = 10.0
"""Lag from which on a warning is logged."""

CURRENT_FEED_LAG_SECONDS = 1.0
"""Lag below which the feed is current again. While servers write, changes wait for each other for milliseconds."""

CHECK_SECONDS = 5.0
"""Interval at which a server on a shared database reads the lag."""


def read_feed_lag(connection: Connection) -> float:
    """Return how long the oldest committed change has been waiting to become readable in the feed, in seconds.

    0 when none waits. One statement, which reads one row of an index. PostgreSQL only.
    """
    waiting_since = first_blocked_timestamp(connection)
    return 0.0 if waiting_since is None else max(0.0, seconds_between(waiting_since, connection.now))


async def fetch_feed_lag(database: Database) -> float:
    """Return the lag in seconds, as `read_feed_lag`; 0 on a database with a single writer, without a statement."""
    return await database.read(read_feed_lag) if database.is_shared else 0.0


class FeedLagMonitor:
    """Logs a warning when the feed lags, and a message when it has ended."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_lagging = False

    async def run(self) -> None:
        """Check the lag at regular intervals until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self.check()
            except DatabaseUnavailable as error:
                log.info("Could not read the lag of the state change feed: %s", error)

    async def check(self) -> None:
        """Read the lag once and log a change."""
        lag = await self._database.read(read_feed_lag)
        if self._is_lagging and lag < CURRENT_FEED_LAG_SECONDS:
            log.info("The state change feed is current again: the transaction that blocked it has ended")
            self._is_lagging = False
        elif not self._is_lagging and lag > MAX_FEED_LAG_SECONDS:
            transaction = await self._database.read(oldest_open_transaction)
            log.warning("%s", _warning(lag, transaction))
            self._is_lagging = True


def _warning(lag: float, transaction: OpenTransaction | None) -> str:
    message = f"State changes have been waiting for {lag:.0f} seconds to become readable in the feed"
    if transaction is None:
        return f"{message}: a transaction on the PostgreSQL cluster was open for as long"
    return (
        f"{message}, until an older transaction ends: {transaction.description}. "
        f"To end it, run `{transaction.end_statement}`"
    )

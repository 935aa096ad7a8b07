"""The feed of state changes.

Each follower pulls: it keeps a position, reads the page after it, and yields the changes one by one at the pace of its
client. A follower never holds more than one page in memory; the backlog stays in the tables. Notifications are hints
that new changes exist. A lost notification delays changes until the next poll and never loses one.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from db.connection import Connection, Notification, NotificationsMissed, StatesWritten
from db.database import Database
from db.errors import DatabaseUnavailable
from db.query.filters import Filter
from db.runtime.memory_budget import ReadTooLarge
from db.statements.state_changes import FeedChange, FeedPage, FeedPosition, current_position, read_changes
from resolvers.batch_size import AdaptiveBatchSize, limit_read_size
from resolvers.errors import ServerStopping

__all__ = ["FeedPosition", "FeedTimers", "StateChangeEvent", "StateFeed"]

log = logging.getLogger("runyard.feed")

MAX_CHANGES_PER_READ = 100
"""Maximum number of changes that a follower reads at a time and holds in memory."""

MIN_WAKE_INTERVAL_SECONDS = 0.02
"""Minimum time between two wake-ups of the followers. Changes in between are read together."""

MAX_BLOCKED_PAUSE_SECONDS = 1.0
"""Maximum pause between two reads while an older transaction blocks the feed. The pause doubles with each read."""


@dataclass(frozen=True, slots=True)
class FeedTimers:
    """Timeouts and intervals of the feed, in seconds."""

    retry_database: float = 1.0
    """Pause before a read is retried when the database is unavailable."""
    poll: float = 5.0
    """Interval of reads without a notification, on a shared database. Notifications of other servers can be lost."""
    drain: float = 10.0
    """Maximum time for followers to end when the server stops."""


@dataclass(frozen=True, slots=True)
class StateChangeEvent:
    """A change for the client of a follower."""

    change: FeedChange
    gap: bool
    """Whether changes directly before this one were skipped."""


class _Follower:
    """Signals for the task of one follower: new changes, and the end of the stream."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.is_closed = False
        self.blocked_reads = 0

    def wake(self) -> None:
        self.event.set()

    def close(self) -> None:
        self.is_closed = True
        self.event.set()


class StateFeed:
    """The followers on this server. Notifications of the database wake them."""

    def __init__(self, database: Database, timers: FeedTimers, *, backlog: int) -> None:
        """`backlog`: number of changes that a follower may be behind. Beyond it, changes are skipped (a gap)."""
        self._database = database
        self._timers = timers
        self._backlog = backlog
        self._batch_size = AdaptiveBatchSize(min(MAX_CHANGES_PER_READ, backlog))
        self._followers: set[_Follower] = set()
        self._follower_ended = asyncio.Event()
        self._wake_timer: asyncio.TimerHandle | None = None
        self._has_pending_wake = False
        self._is_stopping = False
        database.listen(self._on_notifications)

    async def stop(self) -> None:
        """End all streams. Returns when they have ended, at the latest after `FeedTimers.drain`."""
        self._is_stopping = True
        for follower in self._followers:
            follower.close()
        try:
            async with asyncio.timeout(self._timers.drain):
                while self._followers:
                    self._follower_ended.clear()
                    await self._follower_ended.wait()
        except TimeoutError:
            log.warning(
                "%d state change streams are still open because their clients do not read.", len(self._followers)
            )

    async def follow(self, filter: Filter, after: FeedPosition | None) -> AsyncGenerator[StateChangeEvent]:
        """Return a stream of the changes after the position `after`, or after the present, whose runs match the filter.

        Every change that is committed after this method has returned is in the stream. The filter applies to each run
        as it is when its change is read. The stream ends when the server stops; the transport then does not complete
        the subscription. While the database is unavailable the stream waits, and then resumes from its position; it
        raises ServerStopping if the server is already stopping. Raises DatabaseUnavailable when the present position
        cannot be read.
        """
        return self._changes_after(after or await self.read_position(), filter)

    async def read_position(self) -> FeedPosition:
        """Return the present position: every change that is committed later comes after it."""
        return await self._database.read(current_position)

    async def _changes_after(self, position: FeedPosition, filter: Filter) -> AsyncGenerator[StateChangeEvent]:
        with self._register() as follower:
            gap = False
            while not follower.is_closed:
                follower.event.clear()
                page = await self._read(follower, position, filter)
                position, gap = page.end, gap or page.has_gap
                for change in page.changes:
                    yield StateChangeEvent(change, gap)
                    gap = False
                    if follower.is_closed:
                        return
                if not page.has_more:
                    await self._wait_for_changes(follower, page)

    @contextmanager
    def _register(self) -> Generator[_Follower]:
        if self._is_stopping:
            raise ServerStopping
        follower = _Follower()
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)
            self._follower_ended.set()

    async def _read(self, follower: _Follower, position: FeedPosition, filter: Filter) -> FeedPage:
        size = self._batch_size.size

        def read(connection: Connection) -> FeedPage:
            with limit_read_size(connection, size):
                return read_changes(connection, position, filter, size=size, backlog=self._backlog)

        try:
            page = await self._database.read(read)
        except ReadTooLarge as error:
            self._batch_size.shrink(size, error)
            return FeedPage([], position, has_more=True)
        except DatabaseUnavailable as error:
            log.warning("A state change stream is waiting for the database: %s", error)
            await self._database.clock.wait(follower.event, seconds=self._timers.retry_database)
            return FeedPage([], position, has_more=True)
        if page.has_more:
            self._batch_size.record_success()
        return page

    async def _wait_for_changes(self, follower: _Follower, page: FeedPage) -> None:
        """Return when more changes may be available."""
        if page.is_blocked:
            # The blocking transaction may end without a notification.
            pause = min(MIN_WAKE_INTERVAL_SECONDS * 2**follower.blocked_reads, MAX_BLOCKED_PAUSE_SECONDS)
            follower.blocked_reads += 1
            asyncio.get_running_loop().call_later(pause, follower.wake)
        else:
            follower.blocked_reads = 0
        poll = self._timers.poll if self._database.is_shared else None
        await self._database.clock.wait(follower.event, seconds=poll)

    def _on_notifications(self, notifications: Sequence[Notification]) -> None:
        """Wake the followers if a commit may have written states."""
        if self._followers and any(
            isinstance(notification, StatesWritten | NotificationsMissed) for notification in notifications
        ):
            self._wake_followers()

    def _wake_followers(self) -> None:
        """Wake the followers now, or once `MIN_WAKE_INTERVAL_SECONDS` have passed since the last wake-up."""
        if self._wake_timer is not None:
            self._has_pending_wake = True
            return
        for follower in self._followers:
            follower.wake()
        self._has_pending_wake = False
        self._wake_timer = asyncio.get_running_loop().call_later(MIN_WAKE_INTERVAL_SECONDS, self._on_wake_timer)

    def _on_wake_timer(self) -> None:
        self._wake_timer = None
        if self._has_pending_wake:
            self._wake_followers()

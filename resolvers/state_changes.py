"""The feed of state changes, for whoever follows it.

Each follower pulls: it holds its place, reads a page of what comes after it, and hands the changes on one by one, at the
pace of its client. So it never has more than a page in memory, however many changes are waiting; what waits is in the
tables. A hint says that there is something to read; one that is lost costs time until the next poll, never a change.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from db.connection import Connection, Missed, Notice, StatesWritten
from db.database import Database
from db.errors import DatabaseUnavailable, TooMuchToRead
from db.query.filters import Filter
from db.statements.state_changes import Change, FeedPage, FeedPlace, present_place, read_changes
from resolvers.batch_size import Portion, reading_portion
from resolvers.errors import ServerStopping

__all__ = ["FeedPlace", "FeedTimers", "FollowedChange", "StateFeed"]

log = logging.getLogger("runyard.feed")

LARGEST_PAGE = 100
"""Changes read at a time, and held in memory by a follower."""

PACE_SECONDS = 0.02
"""How often followers are told of new changes at most: what comes meanwhile is read together."""

LONGEST_HOLD_UP_SECONDS = 1.0
"""How often to look for changes that an older transaction holds up, when that goes on for long."""


@dataclass(frozen=True, slots=True)
class FeedTimers:
    """The feed's times, in seconds."""

    retry_database: float = 1.0
    """How long to wait before a database that is away is asked again."""
    poll: float = 5.0
    """How long changes may go unnoticed on a database that other servers use too, where their word of it is lost."""
    drain: float = 10.0
    """How long followers may take to end when the server stops."""


@dataclass(frozen=True, slots=True)
class FollowedChange:
    """A change on its way to a follower."""

    change: Change
    gap: bool
    """Whether changes were left out before this one."""


class _Follower:
    """What wakes a follower, and tells it to end."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.is_closed = False
        self.times_held_up = 0

    def wake(self) -> None:
        self.event.set()

    def close(self) -> None:
        self.is_closed = True
        self.event.set()


class StateFeed:
    """The local followers, and the hints that wake them."""

    def __init__(self, database: Database, timers: FeedTimers, *, backlog: int) -> None:
        """`backlog` is how many changes a follower may be behind before it is taken further on."""
        self._database = database
        self._timers = timers
        self._backlog = backlog
        self._portion = Portion(min(LARGEST_PAGE, backlog))
        self._followers: set[_Follower] = set()
        self._left = asyncio.Event()
        self._pace: asyncio.TimerHandle | None = None
        self._was_told = False
        self._is_stopping = False
        database.listen(self._hear)

    async def stop(self) -> None:
        """End the streams, and return when they have ended, or could have."""
        self._is_stopping = True
        for follower in self._followers:
            follower.close()
        try:
            async with asyncio.timeout(self._timers.drain):
                while self._followers:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            log.warning("%d feeds do not end; their clients do not read.", len(self._followers))

    async def follow(self, filter: Filter, after: FeedPlace | None) -> AsyncGenerator[FollowedChange]:
        """The changes behind `after`, or behind the present, as they come: those whose runs the filter lets through.

        Each run is looked at as it is when its change is read. Ends when the server stops; waits while the database is
        away, and then goes on where it was.
        """
        with self._join() as follower:
            place = after or await self._database.read(present_place)
            gap = False
            while not follower.is_closed:
                follower.event.clear()
                page = await self._read(follower, place, filter)
                place, gap = page.end, gap or page.has_gap
                for change in page.changes:
                    yield FollowedChange(change, gap)
                    gap = False
                    if follower.is_closed:
                        return
                if not page.goes_on:
                    await self._rest(follower, page)

    @contextmanager
    def _join(self) -> Generator[_Follower]:
        if self._is_stopping:
            raise ServerStopping
        follower = _Follower()
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)
            self._left.set()

    async def _read(self, follower: _Follower, place: FeedPlace, filter: Filter) -> FeedPage:
        size = self._portion.size

        def read(connection: Connection) -> FeedPage:
            with reading_portion(connection, size):
                return read_changes(connection, place, filter, size=size, backlog=self._backlog)

        try:
            page = await self._database.read(read)
        except TooMuchToRead as error:
            self._portion.was_too_much(size, error)
            return FeedPage([], place, goes_on=True)
        except DatabaseUnavailable as error:
            log.warning("A feed waits for the database: %s", error)
            clock = self._database.clock
            await clock.wait(follower.event, clock.now() + timedelta(seconds=self._timers.retry_database))
            return FeedPage([], place, goes_on=True)
        if page.goes_on:
            self._portion.has_fitted()
        return page

    async def _rest(self, follower: _Follower, page: FeedPage) -> None:
        """Return when there may be more to read."""
        if page.is_held_up:
            # The transaction that holds it up need not be one that says when it ends.
            pause = min(PACE_SECONDS * 2**follower.times_held_up, LONGEST_HOLD_UP_SECONDS)
            follower.times_held_up += 1
            asyncio.get_running_loop().call_later(pause, follower.wake)
        else:
            follower.times_held_up = 0
        clock = self._database.clock
        poll = clock.now() + timedelta(seconds=self._timers.poll) if self._database.is_shared else None
        await clock.wait(follower.event, poll)

    def _hear(self, notices: Sequence[Notice]) -> None:
        """Take a commit's notices as hints."""
        if self._followers and any(isinstance(notice, StatesWritten | Missed) for notice in notices):
            self._tell()

    def _tell(self) -> None:
        """Wake the followers: at once, or with all that comes before the pace allows it."""
        if self._pace is not None:
            self._was_told = True
            return
        for follower in self._followers:
            follower.wake()
        self._was_told = False
        self._pace = asyncio.get_running_loop().call_later(PACE_SECONDS, self._tell_again)

    def _tell_again(self) -> None:
        self._pace = None
        if self._was_told:
            self._tell()

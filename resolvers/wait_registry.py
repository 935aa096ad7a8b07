"""Requests that wait for events of task runs or leases, by the ids that they wait for.

A request is registered before it reads the database for the first time: a commit between the read and the wait wakes it.
Notifications are hints. On a shared database, those of other servers can be lost, and one statement for all ids checks at
intervals for what they reported. A request that waits costs no statement of its own.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from contextvars import Context
from typing import TypeVar

from db.connection import Connection, FlowRunsDeleted, Notification, NotificationsMissed
from db.database import Database
from db.errors import DatabaseUnavailable

log = logging.getLogger("runyard.waits")

MAX_CHECKED_IDS = 1000
"""Maximum number of ids in one statement of a check."""

RETRY_SECONDS = 1.0
"""Pause before a failed check is repeated."""

Found = TypeVar("Found")


class WaitRegistry:
    """The requests of this server that wait for events of one kind of object."""

    def __init__(
        self,
        database: Database,
        *,
        poll_seconds: float,
        find: Callable[[Connection, Sequence[str]], Collection[str]],
        id_of: Callable[[Notification], str | None],
    ) -> None:
        """`find` returns those of the ids that need not be waited for any longer.

        `id_of` returns the id that a notification concerns; None for notifications of other kinds.
        """
        self._database = database
        self._clock = database.clock
        self._poll_seconds = poll_seconds
        self._find = find
        self._id_of = id_of
        self._requests: dict[str, list[asyncio.Event]] = {}
        """The requests that wait for each id. A request is represented by the event that wakes it."""
        self._request_count = 0
        self._check_task: asyncio.Task[None] | None = None
        """Checks the ids of all requests; None while no request waits."""
        self._is_check_due = asyncio.Event()
        self._is_stopping = False
        database.listen(self._on_notifications)

    @property
    def request_count(self) -> int:
        """Number of requests that are waiting."""
        return self._request_count

    async def wait(self, ids: Iterable[str], wait_seconds: float, look: Callable[[], Awaitable[Found]]) -> Found:
        """Return what `look` finds as soon as that is not empty, and its empty result after `wait_seconds`.

        `look` is called at once, and again after each event of one of the ids. An error of it ends the wait. When the
        server stops, an empty result is returned at once. Cancelling the caller ends the wait.
        """
        until_elapsed = self._clock.elapsed() + wait_seconds
        with self._register(ids) as woken:
            while not (found := await look()) and not self._is_stopping:
                await self._clock.wait(woken, seconds=until_elapsed - self._clock.elapsed())
                if self._is_stopping or not woken.is_set():
                    break
                woken.clear()
        return found

    def stop(self) -> None:
        """End all waits. Requests that arrive later look once and do not wait."""
        self._is_stopping = True
        for requests in self._requests.values():
            for woken in requests:
                woken.set()

    @contextmanager
    def _register(self, ids: Iterable[str]) -> Generator[asyncio.Event]:
        woken = asyncio.Event()
        unique_ids = dict.fromkeys(ids)
        for id in unique_ids:
            self._requests.setdefault(id, []).append(woken)
        self._request_count += 1
        if self._check_task is None:
            # An empty context: the reads of the task do not belong to the operation of this request.
            self._check_task = asyncio.create_task(self._check_at_intervals(), name="wait check", context=Context())
        try:
            yield woken
        finally:
            for id in unique_ids:
                self._unregister(id, woken)
            self._request_count -= 1
            if self._request_count == 0:
                self._end_checks()

    def _end_checks(self) -> None:
        if self._check_task is not None:
            self._check_task.cancel()
            self._check_task = None

    def _unregister(self, id: str, woken: asyncio.Event) -> None:
        requests = self._requests[id]
        requests.remove(woken)
        if not requests:
            del self._requests[id]

    def _on_notifications(self, notifications: Sequence[Notification]) -> None:
        """Wake the requests that a commit concerns."""
        if not self._requests:
            return
        for notification in notifications:
            if (id := self._id_of(notification)) is not None:
                self._wake(id)
            elif isinstance(notification, NotificationsMissed | FlowRunsDeleted):
                self._is_check_due.set()

    def _wake(self, id: str) -> None:
        for woken in self._requests.get(id, ()):
            woken.set()

    async def _check_at_intervals(self) -> None:
        """Wake requests for what no notification has reported, until cancelled."""
        while True:
            if self._database.is_shared:
                await self._clock.wait(self._is_check_due, seconds=self._poll_seconds)
            else:
                await self._is_check_due.wait()
            self._is_check_due.clear()
            try:
                await self._check()
            except Exception as error:
                if isinstance(error, DatabaseUnavailable):
                    log.warning("The database is unavailable for waiting requests, retrying: %s", error)
                else:
                    # A fault must not end the checks. Each one is logged with its traceback.
                    log.exception("A check for waiting requests failed, retrying")
                await self._clock.wait(asyncio.Event(), seconds=RETRY_SECONDS)
                self._is_check_due.set()

    async def _check(self) -> None:
        ids = list(self._requests)
        for start in range(0, len(ids), MAX_CHECKED_IDS):
            checked = ids[start : start + MAX_CHECKED_IDS]
            for id in await self._database.read(lambda connection, checked=checked: self._find(connection, checked)):
                self._wake(id)

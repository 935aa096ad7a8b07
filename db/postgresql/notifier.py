"""Notifications between the servers on one PostgreSQL database, and synchronization with its clock.

Notifications are sent over a separate connection, together with all that arrived while the previous ones were sent.
They are hints: a notification that is lost during a reconnect costs time until the next poll and nothing else.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson

from db.connection import (
    CancelRequested,
    ClockStepFollowed,
    FlowRunsDeleted,
    LeaseEnded,
    LeaseSettled,
    Notification,
    NotificationsMissed,
    StatesWritten,
    TaskRunEnded,
    WorkAvailable,
)
from db.database import NotificationListener
from db.errors import DatabaseUnavailable
from db.postgresql.database_clock import DatabaseClock
from db.postgresql.driver import NOTICE_LOST_PEER, connect, is_pooled, translate_errors

log = logging.getLogger("runyard.database")

CHANNEL = "runyard"
MAX_PAYLOAD_BYTES = 7900
"""Size limit of a payload, with a reserve. PostgreSQL accepts less than 8,000 bytes."""
SEND_INTERVAL_SECONDS = 0.02
"""Pause after sending, in which notifications are collected. The first one after a longer pause is sent at once."""
CLOCK_SYNC_INTERVAL_SECONDS = 10.0
CLOCK_SAMPLES = 5
"""Number of clock readings in a synchronization. The one with the shortest round trip is the most precise."""
MAX_SKEW_SECONDS = 2.0
"""Difference between this machine's clock and the database's above which a warning is logged."""
MAX_RECONNECT_DELAY_SECONDS = 5.0
CLOSE_TIMEOUT_SECONDS = 1.0
"""Time limit for sending the last notifications when the server stops."""

STATES_WRITTEN_DELAY_SECONDS = 0.02
"""How long `StatesWritten` waits for other notifications. Every transaction may have it, and no worker needs it."""

_NOTIFY = "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload"
"""Sends all payloads in one transaction: committing a notification waits for the others of the whole cluster."""

_KINDS: dict[type[Notification], str] = {
    WorkAvailable: "w",
    LeaseSettled: "l",
    LeaseEnded: "x",
    CancelRequested: "r",
    TaskRunEnded: "e",
    FlowRunsDeleted: "d",
    StatesWritten: "s",
    ClockStepFollowed: "c",
}
"""The name of each kind of notification in a payload. Kinds that are missing concern only this server."""

_NOTIFICATION_TYPES: dict[str, Callable[[str], Notification]] = {
    "w": WorkAvailable,
    "l": LeaseSettled,
    "x": LeaseEnded,
    "r": CancelRequested,
    "e": TaskRunEnded,
    "d": lambda _nothing: FlowRunsDeleted(),
    "s": lambda _nothing: StatesWritten(),
    "c": lambda _nothing: ClockStepFollowed(),
}


class Notifier:
    """A connection that sends and receives notifications, and reconnects when it is lost."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self.clock = DatabaseClock()
        self._url = url
        self._timeout = timeout_seconds
        self._sender = uuid4().hex[:12]
        self._listeners: list[NotificationListener] = []
        self._on_connection_lost: Callable[[], None] = lambda: None
        self._pending: dict[Notification, None] = {}
        self._reported_skew = 0.0
        self._next_sync_at = 0.0
        self.clock.on_step(lambda: self.publish([ClockStepFollowed()]))
        self._has_reported_pooler = False
        self._wake = asyncio.Event()
        self._is_closing = False
        self._delayed_wake: asyncio.TimerHandle | None = None

    def listen(self, listener: NotificationListener) -> None:
        """Call `listener` with the notifications of other servers."""
        self._listeners.append(listener)

    def on_connection_lost(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the connection is found to be lost."""
        self._on_connection_lost = callback

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="database notifier")

    def publish(self, notifications: Sequence[Notification]) -> None:
        """Send the notifications to the other servers, soon but not at once."""
        shared = [each for each in notifications if type(each) in _KINDS]
        self._pending |= dict.fromkeys(shared)
        if not shared:
            return
        if any(not isinstance(notification, StatesWritten) for notification in shared):
            self._wake.set()
        elif self._delayed_wake is None:
            self._delayed_wake = asyncio.get_running_loop().call_later(STATES_WRITTEN_DELAY_SECONDS, self._wake_now)

    def _wake_now(self) -> None:
        self._delayed_wake = None
        self._wake.set()

    async def close(self) -> None:
        """Send the pending notifications within CLOSE_TIMEOUT_SECONDS, and close the connection."""
        self._is_closing = True
        self._wake.set()
        await asyncio.wait({self._task}, timeout=CLOSE_TIMEOUT_SECONDS)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def synchronize_clock(self, connection: Any) -> None:
        """Read the database's clock."""
        for _ in range(CLOCK_SAMPLES):
            sent_at = self.clock.elapsed()
            epoch_microseconds: int = await connection.fetchval(
                "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint", timeout=self._timeout
            )
            received_at = self.clock.elapsed()
            database_time = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=epoch_microseconds)
            self.clock.set(database_time, (sent_at + received_at) / 2, (received_at - sent_at) / 2)
        self._report_skew((datetime.now(UTC) - self.clock.now()).total_seconds())

    def _report_skew(self, skew: float) -> None:
        """Log how far this machine's clock is ahead of the database's, once for each change."""
        if abs(skew - self._reported_skew) <= MAX_SKEW_SECONDS:
            return
        if abs(skew) > MAX_SKEW_SECONDS:
            log.warning(
                "This machine's clock is %.1f seconds %s the database's. Runyard uses the database's clock; only the times "
                "in this log are the machine's. Synchronize both by NTP.",
                abs(skew),
                "ahead of" if skew > 0 else "behind",
            )
        else:
            log.info("This machine's clock and the database's agree again")
        self._reported_skew = skew

    async def _run(self) -> None:
        reconnect_delay = 0.1
        while not self._is_closing:
            try:
                connection: Any = await connect(self._url, self._timeout)
            except DatabaseUnavailable as error:
                log.warning("Cannot connect to the database for notifications, retrying: %s", error)
                await asyncio.sleep(reconnect_delay)
                reconnect_delay = min(2 * reconnect_delay, MAX_RECONNECT_DELAY_SECONDS)
                continue
            reconnect_delay = 0.1
            try:
                with translate_errors():
                    self.clock.accept_next_reading()
                    connection.add_termination_listener(self._handle_termination)
                    await self._start_listening(connection)
                    self._notify_listeners([NotificationsMissed()])
                    await self._serve(connection)
            except DatabaseUnavailable as error:
                log.warning("The database connection for notifications was lost, reconnecting: %s", error)
                self._on_connection_lost()
            finally:
                connection.terminate()

    async def _start_listening(self, connection: Any) -> None:
        """Receive notifications on the connection, unless it leads through a connection pooler.

        A pooler in transaction mode would pass them to any of its clients.
        """
        if not await is_pooled(connection):
            await connection.execute(NOTICE_LOST_PEER)
            await connection.add_listener(CHANNEL, self._handle_payload)
        elif self._listeners and not self._has_reported_pooler:
            self._has_reported_pooler = True
            log.warning(
                "The connection for notifications leads through a connection pooler, which does not pass them on. Work "
                "that other servers queue is found by polling only. Set RUNYARD_DATABASE_LISTEN_URL to the URL of a "
                "direct connection to the database."
            )

    async def _serve(self, connection: Any) -> None:
        """Send pending notifications and synchronize the clock until the server stops.

        Raises DatabaseUnavailable when the connection is lost.
        """
        self._next_sync_at = 0.0
        while not connection.is_closed():
            if time.monotonic() >= self._next_sync_at:
                self._next_sync_at = time.monotonic() + CLOCK_SYNC_INTERVAL_SECONDS
                await self.synchronize_clock(connection)
            self._wake.clear()
            await self._send_pending(connection)
            if self._is_closing and not self._pending:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._next_sync_at - time.monotonic())):
                    await self._wake.wait()
        raise DatabaseUnavailable("the database closed the connection")

    async def _send_pending(self, connection: Any) -> None:
        """Send the pending notifications, then pause. Those that arrive in the pause are sent together."""
        pending, self._pending = self._pending, {}
        if not pending:
            return
        if self._delayed_wake is not None:
            # Its notification is sent now, and the wake-up would send the next one without others.
            self._delayed_wake.cancel()
            self._delayed_wake = None
        try:
            if payloads := _build_payloads(self._sender, pending):
                await connection.execute(_NOTIFY, CHANNEL, payloads)
        except BaseException:
            self._pending = pending | self._pending
            raise
        await asyncio.sleep(SEND_INTERVAL_SECONDS)

    def _handle_termination(self, _connection: object) -> None:
        self._wake.set()

    def _handle_payload(self, _connection: object, _process: int, _channel: str, payload: str) -> None:
        sender, *items = orjson.loads(payload)
        if sender != self._sender:
            notifications = [_NOTIFICATION_TYPES[kind](value) for kind, value in items]
            if ClockStepFollowed() in notifications:
                self.clock.follow_next_step()
                self._next_sync_at = 0.0
                self._wake.set()
            self._notify_listeners(notifications)

    def _notify_listeners(self, notifications: Sequence[Notification]) -> None:
        for listener in self._listeners:
            listener(notifications)


def _build_payloads(sender: str, notifications: dict[Notification, None]) -> list[str]:
    """Encode notifications as payloads within the size limit. The next poll finds the queue of a longer task key."""
    payloads: list[str] = []
    items: list[str] = []
    size = 0
    for notification in notifications:
        if (content := _encode(notification)) is None:
            continue
        item = orjson.dumps(content).decode()
        length = len(item.encode()) + 1
        if length > MAX_PAYLOAD_BYTES - 20:
            continue
        if size + length > MAX_PAYLOAD_BYTES - 20:
            payloads.append(f'["{sender}",{",".join(items)}]')
            items, size = [], 0
        items.append(item)
        size += length
    if items:
        payloads.append(f'["{sender}",{",".join(items)}]')
    return payloads


def _encode(notification: Notification) -> tuple[str, str] | None:
    """Encode a notification as kind and value, for `_NOTIFICATION_TYPES`; None when it concerns only this server."""
    kind = _KINDS.get(type(notification))
    if kind is None:
        return None
    match notification:
        case (
            WorkAvailable(value)
            | LeaseSettled(value)
            | LeaseEnded(value)
            | CancelRequested(value)
            | TaskRunEnded(value)
        ):
            return kind, value
        case _:
            return kind, ""

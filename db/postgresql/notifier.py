"""What servers on one PostgreSQL tell each other: that work waits, a lease is settled, states are new; and what time it is.

Notices go out over one connection of their own, together with all that came while the last ones were on their way. They
are hints: one that is lost, while the connection is being made again, costs time until the next poll and nothing else.
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

from db.connection import LeaseSettled, Missed, Notice, StatesWritten, WorkWaits
from db.database import Listener
from db.errors import DatabaseUnavailable
from db.postgresql.driver import connect, our_words
from db.runtime.clock import SystemClock

log = logging.getLogger("runyard.database")

CHANNEL = "runyard"
LARGEST_PAYLOAD = 7900
"""Bytes; PostgreSQL takes less than 8,000."""
PAUSE_SECONDS = 0.02
"""How long after notices have gone out the next ones wait for company. The first after a silence goes at once."""
SET_CLOCK_SECONDS = 10.0
READINGS = 5
"""How often the clock is read at a time; the quickest answer tells most."""
DRIFT = 0.0001
"""Seconds by which two machines' clocks may part in a second, generously."""
LONGEST_PAUSE_SECONDS = 5.0
LAST_WORDS_SECONDS = 1.0
"""How long the last notices of a server that closes may take."""

UNHURRIED_SECONDS = 0.02
"""How long word of new states waits for more to go with. Every transaction may have some, and nobody waits to begin work."""

_KINDS: dict[str, Callable[[str], Notice]] = {
    "w": WorkWaits,
    "l": LeaseSettled,
    "s": lambda _nothing: StatesWritten(),
}


class DatabaseClock(SystemClock):
    """The database's clock, read now and then and kept going by the machine's in between; it never goes back."""

    def __init__(self) -> None:
        self._read_at = time.monotonic()
        self._showed = datetime.now(UTC)
        self._latest = self._showed
        self._error = float("inf")

    def now(self) -> datetime:
        self._latest = max(self._latest, self._showed + timedelta(seconds=time.monotonic() - self._read_at))
        return self._latest

    def set(self, showed: datetime, read_at: float, error: float) -> None:
        """The database's clock showed this when the machine's monotonic one showed `read_at`, give or take `error` seconds.

        A reading that says less than what is known already changes nothing: a busy machine reads late.
        """
        if error <= self._error + DRIFT * (read_at - self._read_at):
            self._showed, self._read_at, self._error = showed, read_at, error

    def forget(self) -> None:
        """Take the next reading whatever it says: it may be another machine's."""
        self._error = float("inf")


class Signals:
    """A connection that listens and notifies, made again whenever it is lost."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self.clock = DatabaseClock()
        self._url = url
        self._timeout = timeout_seconds
        self._sender = uuid4().hex[:12]
        self._listeners: list[Listener] = []
        self._when_lost: Callable[[], None] = lambda: None
        self._pending: dict[Notice, None] = {}
        self._wake = asyncio.Event()
        self._is_closing = False
        self._unhurried: asyncio.TimerHandle | None = None

    def listen(self, listener: Listener) -> None:
        """Call `listener` with what other servers tell."""
        self._listeners.append(listener)

    def when_lost(self, call: Callable[[], None]) -> None:
        """Call `call` when the connection turns out to be lost."""
        self._when_lost = call

    def start(self) -> None:
        self._running = asyncio.create_task(self._run(), name="database signals")

    def pass_on(self, notices: Sequence[Notice]) -> None:
        """Tell the other servers, soon."""
        self._pending |= dict.fromkeys(notices)
        if any(not isinstance(notice, StatesWritten) for notice in notices):
            self._wake.set()
        elif self._unhurried is None:
            self._unhurried = asyncio.get_running_loop().call_later(UNHURRIED_SECONDS, self._hurry)

    def _hurry(self) -> None:
        self._unhurried = None
        self._wake.set()

    async def close(self) -> None:
        """Tell what is left to be told, if that goes at once."""
        self._is_closing = True
        self._wake.set()
        await asyncio.wait({self._running}, timeout=LAST_WORDS_SECONDS)
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running

    async def set_clock(self, connection: Any) -> None:
        """Set the clock by the database's."""
        for _ in range(READINGS):
            asked_at = time.monotonic()
            micros: int = await connection.fetchval(
                "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint", timeout=self._timeout
            )
            answered_at = time.monotonic()
            showed = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=micros)
            self.clock.set(showed, (asked_at + answered_at) / 2, (answered_at - asked_at) / 2)

    async def _run(self) -> None:
        pause = 0.1
        while not self._is_closing:
            try:
                connection: Any = await connect(self._url, self._timeout)
            except DatabaseUnavailable as error:
                log.warning("The database does not take the connection that listens to other servers: %s", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                continue
            pause = 0.1
            try:
                with our_words():
                    self.clock.forget()
                    connection.add_termination_listener(self._lose)
                    await connection.add_listener(CHANNEL, self._receive)
                    self._tell([Missed()])
                    await self._converse(connection)
            except DatabaseUnavailable as error:
                log.warning("The connection that listens to other servers was lost: %s", error)
                self._when_lost()
            finally:
                connection.terminate()

    async def _converse(self, connection: Any) -> None:
        """Notify of what is pending and set the clock, until the connection is lost."""
        set_clock_at = 0.0
        while not connection.is_closed():
            if time.monotonic() >= set_clock_at:
                await self.set_clock(connection)
                set_clock_at = time.monotonic() + SET_CLOCK_SECONDS
            self._wake.clear()
            await self._notify(connection)
            if self._is_closing and not self._pending:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, set_clock_at - time.monotonic())):
                    await self._wake.wait()
        raise DatabaseUnavailable("the database closed it")

    async def _notify(self, connection: Any) -> None:
        """Tell what is pending; what comes in the pause after it goes together."""
        pending, self._pending = self._pending, {}
        if not pending:
            return
        if self._unhurried is not None:
            # What it was for goes now, and would have the next one go alone.
            self._unhurried.cancel()
            self._unhurried = None
        try:
            for payload in _payloads(self._sender, pending):
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)
        except BaseException:
            self._pending = pending | self._pending
            raise
        await asyncio.sleep(PAUSE_SECONDS)

    def _lose(self, _connection: object) -> None:
        self._wake.set()

    def _receive(self, _connection: object, _process: int, _channel: str, payload: str) -> None:
        sender, *told = orjson.loads(payload)
        if sender != self._sender:
            self._tell([_KINDS[kind](value) for kind, value in told])

    def _tell(self, notices: Sequence[Notice]) -> None:
        for listener in self._listeners:
            listener(notices)


def _payloads(sender: str, notices: dict[Notice, None]) -> list[str]:
    """The notices as texts that fit; a task key too long for one is left to the poll."""
    payloads: list[str] = []
    told: list[str] = []
    size = 0
    for notice in notices:
        if (content := _content_of(notice)) is None:
            continue
        item = orjson.dumps(content).decode()
        length = len(item.encode()) + 1
        if length > LARGEST_PAYLOAD - 20:
            continue
        if size + length > LARGEST_PAYLOAD - 20:
            payloads.append(f'["{sender}",{",".join(told)}]')
            told, size = [], 0
        told.append(item)
        size += length
    if told:
        payloads.append(f'["{sender}",{",".join(told)}]')
    return payloads


def _content_of(notice: Notice) -> tuple[str, str] | None:
    """The kind and the value, as `_KINDS` reads them; None for what is nobody else's concern."""
    match notice:
        case WorkWaits(task_key):
            return "w", task_key
        case LeaseSettled(lease_id):
            return "l", lease_id
        case StatesWritten():
            return "s", ""
        case Missed():
            return None

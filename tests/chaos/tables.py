"""What the tables of the database contain, and when each state appeared in them."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from tests.chaos.checker import TERMINAL
from tests.chaos.evidence import Evidence, Run, State

POLL_SECONDS = 0.05
"""Interval of looking for new states."""

_TERMINAL = ", ".join(f"'{type}'" for type in sorted(TERMINAL))
UNFINISHED = f"state_type NOT IN ({_TERMINAL})"


async def rows(database_url: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Execute a statement on a new connection and return its rows."""
    if database_url.startswith("sqlite"):
        return await asyncio.to_thread(_sqlite_rows, database_url, statement, *parameters)
    connection = await asyncpg.connect(database_url)
    try:
        return [tuple(row) for row in await connection.fetch(statement, *parameters)]
    finally:
        await connection.close()


def _sqlite_rows(database_url: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database_url.partition(":///")[2])) as database:
        return database.execute(statement, parameters).fetchall()


async def wait_for_terminal_runs(database_url: str, timeout_seconds: float) -> None:
    """Wait until every run is in a terminal state, for at most `timeout_seconds`."""
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        ((count,),) = await rows(database_url, f"SELECT count(*) FROM task_run WHERE {UNFINISHED}")  # noqa: S608
        if count == 0:
            return
        await asyncio.sleep(0.25)


class StateObserver:
    """Looks for new states in the table, and records in which interval of real time each of them was committed.

    The interval is from the start of the last look that did not find the state to the end of the first one that did.
    Looks that fail, because the database is stopped, make it longer.
    """

    def __init__(self, database_url: str) -> None:
        self.appeared: dict[str, tuple[float, float]] = {}
        """The interval of each state, by its id."""
        self._database_url = database_url
        self._is_sqlite = database_url.startswith("sqlite")
        self._position = 0
        self._looked_at = time.time()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Look for new states while the block runs, and a last time after it."""
        looking = asyncio.create_task(self._look_forever())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        await (self._look_at_sqlite() if self._is_sqlite else self._look_once())

    async def _look_forever(self) -> None:
        while True:
            if self._is_sqlite:
                await self._look_at_sqlite()
            else:
                with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await self._look_until_disconnected()
            await asyncio.sleep(POLL_SECONDS)

    async def _look_at_sqlite(self) -> None:
        looked_at = time.time()
        found = await asyncio.to_thread(
            _sqlite_rows, self._database_url, "SELECT rowid, id FROM task_run_state WHERE rowid > ?", self._position
        )
        self._record([id for _, id in found], looked_at)
        self._position = max([self._position, *(number for number, _ in found)])

    async def _look_until_disconnected(self) -> None:
        connection = await asyncpg.connect(self._database_url, timeout=5, command_timeout=5)
        try:
            while True:
                await self._look_at_postgresql(connection)
                await asyncio.sleep(POLL_SECONDS)
        finally:
            connection.terminate()

    async def _look_once(self) -> None:
        connection = await asyncpg.connect(self._database_url)
        try:
            await self._look_at_postgresql(connection)
        finally:
            await connection.close()

    async def _look_at_postgresql(self, connection: Any) -> None:
        """Look for the states of transactions that were open at the last look, or began after it."""
        looked_at = time.time()
        found = await connection.fetch(
            "SELECT id::text, pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM (VALUES (1)) AS once (one) "
            "LEFT JOIN task_run_state ON written_in >= $1",
            self._position,
        )
        self._record([id for id, _ in found if id is not None], looked_at)
        self._position = found[0][1]

    def _record(self, ids: list[str], looked_at: float) -> None:
        seen_at = time.time()
        for id in ids:
            self.appeared.setdefault(id, (self._looked_at, seen_at))
        self._looked_at = looked_at


async def read_tables(database_url: str, evidence: Evidence, appeared: dict[str, tuple[float, float]]) -> None:
    """Add what the tables contain to the evidence. The states of a run are in the order in which they were written."""
    order = "rowid" if database_url.startswith("sqlite") else "written_in, id"
    states: dict[str, list[State]] = {}
    for id, run, type, name, at, transition, details in await rows(
        database_url,
        "SELECT id, run_id, type, name, timestamp, transition_id, details "  # noqa: S608
        f"FROM task_run_state ORDER BY run_id, {order}",
    ):
        scheduled_at = orjson.loads(details).get("scheduled_time")
        states.setdefault(str(run), []).append(
            State(
                type,
                name,
                _seconds(at),
                transition and str(transition),
                scheduled_at and _seconds(scheduled_at),
                appeared.get(str(id), (float("-inf"), float("inf"))),
                str(id),
            )
        )
    for id, key, retries, tags, count in await rows(
        database_url, "SELECT id, dynamic_key, retries, tags, run_count FROM task_run"
    ):
        evidence.runs.append(Run(str(id), key, retries, tuple(orjson.loads(tags)), tuple(states[str(id)]), count))
    evidence.queued = [str(id) for (id,) in await rows(database_url, "SELECT task_run_id FROM queue_entry")]
    evidence.slots = [str(id) for (id,) in await rows(database_url, "SELECT task_run_id FROM concurrency_slot")]


def _seconds(timestamp: str | datetime) -> float:
    """Return a timestamp in seconds since the epoch."""
    parsed = datetime.fromisoformat(timestamp) if isinstance(timestamp, str) else timestamp
    return parsed.timestamp()

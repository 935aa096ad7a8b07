"""The evidence of a chaos test: ledgers of tasks and enqueuing programs, injected faults, and the database tables."""

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg

from chaos.ledger import read_ledger
from chaos.plan import Options, PlannedRun

TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
DATABASE = "database"
"""Target of faults that concern all servers."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a task, from the ledger. Times are in seconds since the epoch."""

    id: str
    run: str
    worker: str
    pid: int
    run_count: int
    begun_at: float
    ended_at: float | None = None
    outcome: str | None = None
    """`returned`, or the class of the exception. None: its process died before it ended."""
    reason: str | None = None
    """Why it was asked to stop."""


@dataclass(frozen=True, slots=True)
class State:
    """A state of a run, from the tables."""

    type: str
    name: str
    at: float
    message: str | None = None
    data: Any = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run with its states in the order in which they were written, from the tables."""

    id: str
    key: str
    states: tuple[State, ...]

    @property
    def end(self) -> State:
        return self.states[-1]


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The acknowledgement of an enqueued run, as a program received it."""

    key: str
    run: str
    created: bool


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that was injected."""

    kind: str
    target: str
    """Name of a worker, of a server, `DATABASE`, or `pid N` for a child process."""
    start: float
    end: float
    exit_code: int | None = None
    """Of a worker that was drained."""


@dataclass(slots=True)
class Evidence:
    """Everything that the checks read."""

    options: Options
    planned: dict[str, PlannedRun]
    """By key."""
    servers: dict[str, str] = field(default_factory=dict[str, str])
    """The server of each worker."""
    faults: list[Fault] = field(default_factory=list[Fault])
    enqueued: list[Enqueued] = field(default_factory=list[Enqueued])
    cancelled_keys: set[str] = field(default_factory=set[str])
    """Keys of the runs whose cancellation was requested."""
    results: dict[str, Any] = field(default_factory=dict[str, Any])
    """Results that programs received, by key."""
    failures: dict[str, tuple[str, bool]] = field(default_factory=dict[str, tuple[str, bool]])
    """Class of the exception that a program received instead of a result, and whether it said that the run crashed."""
    executions: list[Execution] = field(default_factory=list[Execution])
    runs: list[Run] = field(default_factory=list[Run])
    queued: list[str] = field(default_factory=list[str])
    """Runs that are left in the queue."""
    unexpected_exits: list[str] = field(default_factory=list[str])
    """Processes that ended by themselves, with a non-zero exit code or too early."""
    left_processes: list[str] = field(default_factory=list[str])
    """Processes that were left after the end of their worker."""

    def executions_by_run(self) -> dict[str, list[Execution]]:
        """Return the executions of each run in the order of their beginnings."""
        found: dict[str, list[Execution]] = {}
        for each in sorted(self.executions, key=lambda execution: execution.begun_at):
            found.setdefault(each.run, []).append(each)
        return found

    def read_effects(self, ledger: Path) -> None:
        """Add the executions of a ledger."""
        events = list(read_ledger(ledger))
        ends = {each["execution"]: each for each in events if each["event"] == "end"}
        for begin in (each for each in events if each["event"] == "begin"):
            end = ends.get(begin["execution"], {})
            self.executions.append(
                Execution(
                    begin["execution"],
                    begin["run"],
                    begin["worker"],
                    begin["pid"],
                    begin["run_count"],
                    begin["at"],
                    end.get("at"),
                    end.get("outcome"),
                    end.get("reason"),
                )
            )

    def read_journal(self, journal: Path) -> None:
        """Add what an enqueuing program received."""
        for each in read_ledger(journal):
            key = each["key"]
            if each["event"] == "enqueued":
                self.enqueued.append(Enqueued(key, each["run"], each["created"]))
            elif each["event"] == "cancelling":
                self.cancelled_keys.add(key)
            elif each["event"] == "result":
                self.results[key] = each["value"]
            elif each["event"] == "failure":
                self.failures[key] = (each["error"], each["crashed"])

    async def read_tables(self, database_url: str) -> None:
        """Add the runs of the database."""
        order = "rowid" if database_url.startswith("sqlite") else "written_in, id"
        states: dict[str, list[State]] = {}
        for run, type, name, at, message, data in await rows(
            database_url,
            f"SELECT run_id, type, name, timestamp, message, data FROM task_run_state ORDER BY {order}",  # noqa: S608
        ):
            value = json.loads(data) if data is not None else None
            states.setdefault(str(run), []).append(State(type, name, _seconds(at), message, value))
        for id, key in await rows(database_url, "SELECT id, dynamic_key FROM task_run"):
            self.runs.append(Run(str(id), key, tuple(states[str(id)])))
        self.queued = [str(id) for (id,) in await rows(database_url, "SELECT task_run_id FROM queue_entry")]


async def rows(database_url: str, statement: str) -> list[tuple[Any, ...]]:
    """Execute a statement on a new connection and return its rows."""
    if database_url.startswith("sqlite"):
        return await asyncio.to_thread(_sqlite_rows, database_url, statement)
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


def _sqlite_rows(database_url: str, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database_url.partition(":///")[2])) as database:
        return database.execute(statement).fetchall()


def _seconds(timestamp: str | datetime) -> float:
    parsed = datetime.fromisoformat(timestamp) if isinstance(timestamp, str) else timestamp
    return parsed.timestamp()

"""Waiting for the end of task runs.

A run has ended when its state is terminal at the time of the look: a run that waits for a retry has not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from db.connection import Connection, Notification, Row, TaskRunEnded
from db.database import Database
from db.enums import TERMINAL
from db.records import TaskRunRecord
from db.runtime.memory_budget import ReadTooLarge
from db.statements import task_runs, waits
from resolvers.wait_registry import WaitRegistry

Run = TypeVar("Run")

RunReader = Callable[[Connection, Sequence[str]], list[Run]]
"""Reads those of the task runs that have ended, in the order of their ids."""

ENDED_ROW_PATHS = ("id", "state_type")
"""The first columns of each row that `read_rows` returns."""


@dataclass(frozen=True, slots=True)
class EndedRuns(Generic[Run]):
    """Task runs that have ended, and ids of no task run, both in the order of the requested ids."""

    ended: list[Run]
    not_found: list[str]
    has_more: bool
    """Whether more of the task runs have ended, which do not fit into the response."""
    read_at: str
    """Time of the read."""

    def __bool__(self) -> bool:
        return bool(self.ended or self.not_found)


def create_registry(database: Database, poll_seconds: float) -> WaitRegistry:
    """Return the registry of the requests that wait for the end of task runs."""
    return WaitRegistry(database, poll_seconds=poll_seconds, find=waits.ended_task_runs, id_of=_ended_run_of)


def _ended_run_of(notification: Notification) -> str | None:
    return notification.run_id if isinstance(notification, TaskRunEnded) else None


async def read_ended(database: Database, ids: Sequence[str], read_runs: RunReader[Run]) -> EndedRuns[Run]:
    """Return the runs that have ended, as many as fit into the read budget of the operation.

    Raises ReadTooLarge when the first of them does not fit.
    """

    def find(connection: Connection) -> tuple[dict[str, bool], str]:
        return waits.ended_task_runs(connection, ids), connection.now

    exists_by_id, now = await database.read(find)
    ended_ids = [id for id in ids if exists_by_id.get(id)]
    size = len(ended_ids)
    runs: list[Run] = []
    while size:
        try:
            runs, now = await _read_within_budget(database, ended_ids[:size], read_runs)
            break
        except ReadTooLarge:
            if size == 1:
                raise
            size //= 2
    not_found = [id for id in ids if exists_by_id.get(id) is False]
    return EndedRuns(runs, not_found, has_more=size < len(ended_ids), read_at=now)


async def _read_within_budget(
    database: Database, ids: Sequence[str], read_runs: RunReader[Run]
) -> tuple[list[Run], str]:
    def read(connection: Connection) -> tuple[list[Run], str]:
        with connection.read_budget.restored_on_overflow():
            return read_runs(connection, ids), connection.now

    return await database.read(read)


def read_records(connection: Connection, ids: Sequence[str]) -> list[TaskRunRecord]:
    """Return those of these task runs that have ended."""
    found = task_runs.task_runs_by_id(connection, ids)
    return [run for id in ids if (run := found.get(id)) is not None and run.state_type in TERMINAL]


def read_rows(connection: Connection, ids: Sequence[str], paths: tuple[str, ...]) -> list[Row]:
    """Return the columns of `paths`, which begin with ENDED_ROW_PATHS, of those of these task runs that have ended."""
    found = {row[0]: row for row in task_runs.task_run_rows(connection, ids, paths)}
    return [row for id in ids if (row := found.get(id)) is not None and row[1] in TERMINAL]

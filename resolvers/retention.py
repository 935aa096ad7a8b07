"""Pruning: deletes runs that ended before a point in time.

Runs are deleted in small batches, each in a separate transaction, to keep other writes from waiting for long.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from db.connection import Connection
from db.database import Database
from db.enums import TERMINAL, StateType
from db.errors import DatabaseUnavailable
from db.runtime.chance import Chance
from db.runtime.clock import Clock
from db.runtime.timestamps import format_timestamp
from db.statements import pruning
from db.statements.pruning import PruneCriteria
from resolvers.task_runs import delete_task_runs

log = logging.getLogger("runyard.retention")

PRUNE_BATCH_SIZE = 200
"""Maximum number of task runs that one transaction deletes."""

PAUSE_SECONDS = 0.1
"""Pause between two transactions. On SQLite, a write that waits for another process may sleep that long between two
attempts, and could otherwise find the database locked each time."""


@dataclass(frozen=True, slots=True)
class PruneResult:
    """Numbers of deleted runs."""

    task_runs: int
    flow_runs: int

    def __bool__(self) -> bool:
        return bool(self.task_runs or self.flow_runs)

    def __add__(self, other: "PruneResult") -> "PruneResult":
        return PruneResult(self.task_runs + other.task_runs, self.flow_runs + other.flow_runs)


NOTHING_PRUNED = PruneResult(0, 0)


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """Which runs to delete: those that ended before a point in time in one of these states."""

    before: datetime
    states: Sequence[StateType] = tuple(sorted(TERMINAL))
    skip_if_busy: bool = False
    """Whether to delete nothing while another server is pruning."""

    @property
    def ended(self) -> PruneCriteria:
        return PruneCriteria(format_timestamp(self.before), [state.value for state in self.states])


def prune_ended_runs(connection: Connection, requests: Sequence[PruneRequest]) -> list[PruneResult | Exception]:
    """Delete one batch of matching runs, those that ended first, together with their states, queue entries and slots.

    The result is empty when no matching run is left. A flow run with more than `PRUNE_BATCH_SIZE` task runs loses its
    task runs in several batches and is deleted with the last of them.
    """
    return [_prune(connection, request) for request in requests]


def _prune(connection: Connection, request: PruneRequest) -> PruneResult:
    if request.skip_if_busy and not pruning.try_acquire_pruning_lock(connection):
        return NOTHING_PRUNED
    if ids := pruning.ended_background_task_runs(connection, request.ended, PRUNE_BATCH_SIZE):
        delete_task_runs(connection, ids)
        return PruneResult(len(ids), 0)
    if flow_run_ids := pruning.ended_flow_runs(connection, request.ended, PRUNE_BATCH_SIZE):
        if ids := pruning.task_runs_of_flow_runs(connection, flow_run_ids, PRUNE_BATCH_SIZE):
            delete_task_runs(connection, ids)
        return PruneResult(len(ids), pruning.delete_empty_flow_runs(connection, flow_run_ids))
    return NOTHING_PRUNED


def count_prunable(connection: Connection, request: PruneRequest) -> PruneResult:
    """Return the numbers of runs that pruning would delete. Deletes nothing."""
    return PruneResult(*pruning.count_ended(connection, request.ended))


async def prune(database: Database, request: PruneRequest) -> AsyncGenerator[PruneResult]:
    """Delete matching runs batch by batch until none is left, and yield the result of each batch."""
    while pruned := await database.write(prune_ended_runs, request):
        yield pruned
        await asyncio.sleep(PAUSE_SECONDS)


class Retention:
    """Prunes at intervals while the server runs. Of several servers, only one prunes at a time."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        max_age: timedelta,
        *,
        interval: timedelta = timedelta(minutes=10),
        chance: Chance = random.random,
    ) -> None:
        """Keep runs for `max_age` after their end, and prune every `interval` on average.

        `chance` varies the interval by up to half, because servers that are started together should not prune at the
        same time.
        """
        self._database = database
        self._clock = clock
        self._max_age = max_age
        self._interval = interval
        self._chance = chance

    async def run(self) -> None:
        """Prune until cancelled. After an error, pruning is retried at the next interval."""
        never = asyncio.Event()
        while True:
            await self._clock.wait(never, seconds=self._interval.total_seconds() * (0.5 + self._chance()))
            try:
                await self.prune()
            except DatabaseUnavailable as error:
                log.warning("Pruning is postponed because the database is unavailable: %s", error)
            except Exception:
                # One error must not end the task. Each error is logged with its traceback.
                log.exception("Pruning failed; it is retried at the next interval.")

    async def prune(self) -> PruneResult:
        """Delete all runs that ended more than `max_age` ago."""
        request, total = PruneRequest(self._clock.now() - self._max_age, skip_if_busy=True), NOTHING_PRUNED
        async for pruned in prune(self._database, request):
            total += pruned
        if total:
            log.info("Pruned %d task runs and %d flow runs.", total.task_runs, total.flow_runs)
        return total

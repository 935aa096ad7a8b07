"""Deletes the runs that ended long ago: in small batches, each a transaction of its own, so that no write waits for long."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from db.connection import Connection
from db.database import Database
from db.enums import TERMINAL, StateType
from db.errors import DatabaseUnavailable
from db.runtime.clock import Clock
from db.runtime.timestamps import instant
from db.statements import pruning
from db.statements.pruning import Ended
from resolvers.task_runs import delete_task_runs

log = logging.getLogger("runyard.retention")

LARGEST_PRUNING = 200
"""Task runs in one transaction."""

PAUSE_SECONDS = 0.1
"""Between two transactions: as long as a write that waits for another process may sleep before it looks again."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much was deleted."""

    task_runs: int
    flow_runs: int

    def __bool__(self) -> bool:
        return bool(self.task_runs or self.flow_runs)

    def __add__(self, other: "Pruned") -> "Pruned":
        return Pruned(self.task_runs + other.task_runs, self.flow_runs + other.flow_runs)


NOTHING = Pruned(0, 0)


@dataclass(frozen=True, slots=True)
class Pruning:
    """What is to be deleted: runs that ended before an instant, in one of these states."""

    before: datetime
    states: Sequence[StateType] = tuple(sorted(TERMINAL))
    yields: bool = False
    """Whether to do nothing while another server is at it."""

    @property
    def ended(self) -> Ended:
        return Ended(instant(self.before), [state.value for state in self.states])


def prune_ended_runs(connection: Connection, prunings: Sequence[Pruning]) -> list[Pruned | Exception]:
    """Delete a batch of the runs that ended, the longest ago first, with all that is theirs; nothing where none is left.

    Of a flow run with more task runs than a batch has, some are deleted before it is.
    """
    return [_prune(connection, pruning) for pruning in prunings]


def _prune(connection: Connection, wanted: Pruning) -> Pruned:
    if wanted.yields and not pruning.is_only_pruner(connection):
        return NOTHING
    if ids := pruning.ended_in_background(connection, wanted.ended, LARGEST_PRUNING):
        delete_task_runs(connection, ids)
        return Pruned(len(ids), 0)
    if flow_run_ids := pruning.ended_flow_runs(connection, wanted.ended, LARGEST_PRUNING):
        if ids := pruning.task_runs_of_flow_runs(connection, flow_run_ids, LARGEST_PRUNING):
            delete_task_runs(connection, ids)
        return Pruned(len(ids), pruning.delete_empty_flow_runs(connection, flow_run_ids))
    return NOTHING


def count_pruning(connection: Connection, wanted: Pruning) -> Pruned:
    """How much pruning would delete. Deletes nothing."""
    return Pruned(*pruning.count_ended(connection, wanted.ended))


async def prune(database: Database, wanted: Pruning) -> AsyncGenerator[Pruned]:
    """Delete batch after batch until none is left, and tell what each has deleted."""
    while pruned := await database.write(prune_ended_runs, wanted):
        yield pruned
        await asyncio.sleep(PAUSE_SECONDS)


class Retention:
    """Prunes now and then, for as long as the server runs. Of several servers, one at a time does it."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        keep: timedelta,
        *,
        every: timedelta = timedelta(minutes=10),
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`keep`: how long runs are kept after their end. `every`: how often it is looked, on average; servers that
        were started together do not all look at the same time, as `chance` has it."""
        self._database = database
        self._clock = clock
        self._keep = keep
        self._every = every
        self._chance = chance

    async def run(self) -> None:
        """Prune until cancelled. A database that is away is tried again the next time."""
        never = asyncio.Event()
        while True:
            await self._clock.wait(never, self._clock.now() + self._every * (0.5 + self._chance()))
            try:
                await self.prune()
            except DatabaseUnavailable as error:
                log.warning("Old runs are deleted later: %s", error)
            except Exception:
                # Pruning must not end with one fault; it is told whole, each time.
                log.exception("Deleting old runs failed; it is tried again.")

    async def prune(self) -> Pruned:
        """Delete all that ended too long ago."""
        wanted, total = Pruning(self._clock.now() - self._keep, yields=True), NOTHING
        async for pruned in prune(self._database, wanted):
            total += pruned
        if total:
            log.info("Deleted %d task runs and %d flow runs that ended long ago.", total.task_runs, total.flow_runs)
        return total

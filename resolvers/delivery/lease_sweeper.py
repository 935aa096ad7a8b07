"""Ends leases that have run out, so that a silent worker holds nothing up."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from db.connection import Connection
from db.database import Database
from db.errors import DatabaseUnavailable, TooMuchToRead
from db.runtime.clock import Clock
from db.runtime.timestamps import moment
from db.statements import queue
from resolvers.batch_size import Portion, reading_portion
from resolvers.delivery.lease_recovery import take_back_from_lost_workers

log = logging.getLogger("runyard.queue")

LARGEST_SWEEP = 500
"""Leases in one transaction; what is left over follows in the next."""


def sweep_leases(connection: Connection, sizes: Sequence[int]) -> list[Counter[str] | Exception]:
    """Take back the runs whose leases have run out by the database's clock; how many of each kind these were.

    It is done once, for the smallest of these numbers of runs.
    """
    size = min(sizes)
    with reading_portion(connection, size):
        lost = queue.runs_with_expired_leases(connection, size)
        taken_back = take_back_from_lost_workers(connection, lost)
    return [taken_back] * len(sizes)


class Sweep:
    """Sweeps when the next lease runs out, and sleeps while there is none, unless other servers may lease, too."""

    def __init__(
        self, database: Database, clock: Clock, *, longest_wait_seconds: float, chance: Callable[[], float]
    ) -> None:
        self._database = database
        self._clock = clock
        self._chance = chance
        self._longest_wait = timedelta(seconds=longest_wait_seconds)
        self._leased = asyncio.Event()
        self._portion = Portion(LARGEST_SWEEP)
        self.taken_back = Counter[str]()
        """What it has taken back so far, by kind."""

    def hint(self) -> None:
        """There are leases now."""
        self._leased.set()

    async def run(self) -> None:
        """Sweep until cancelled. A database that is away is tried again."""
        never = asyncio.Event()
        while True:
            self._leased.clear()
            size = self._portion.size
            try:
                next_expiry = await self._database.read(queue.next_expiry_at)
                if next_expiry is None and not self._database.is_shared:
                    await self._leased.wait()
                    continue
                if next_expiry is not None and moment(next_expiry) <= self._clock.now():
                    taken_back = await self._database.write(sweep_leases, size)
                    if taken_back:
                        self._portion.has_fitted()
                        self.taken_back.update(taken_back)
                        log.info("Took back %d runs whose leases had run out.", taken_back.total())
                        continue
                    # Another server is at it.
                    next_expiry = None
            except TooMuchToRead as error:
                self._portion.was_too_much(size, error)
                continue
            except DatabaseUnavailable as error:
                log.warning("The sweep waits for the database: %s", error)
                next_expiry = None
            except Exception:
                # Sweeping must not end with one fault; it is told whole, each time.
                log.exception("The sweep failed; it is tried again.")
                next_expiry = None
            await self._clock.wait(never, self._look_again_at(next_expiry))

    def _look_again_at(self, next_expiry: str | None) -> datetime:
        """When the next lease runs out; after a while in any case, since acknowledging shortens or lengthens a lease
        without a word to the sweep. Of several servers each looks at a moment of its own, and mostly one does the work.
        """
        chance = self._chance() if self._database.is_shared else 1.0
        look_again = self._clock.now() + self._longest_wait * (1 + chance) / 2
        if next_expiry is None:
            return look_again
        return min(look_again, moment(next_expiry) + self._longest_wait * (1 - chance) / 10)

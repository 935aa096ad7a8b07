"""The slots of concurrency limits, as a batch of changes of state takes and frees them."""

from collections.abc import Iterable

from db.connection import Connection
from db.enums import StateType
from db.records import ConcurrencyLimitRecord, TaskRunRecord
from db.statements import concurrency_limits
from db.statements.concurrency_limits import Slot
from resolvers.orchestration.transition import LimitFacts

KEEPS_SLOTS = {StateType.RUNNING, StateType.CANCELLING}
"""The states in which a run keeps the slots that it has taken."""


class SlotBook:
    """The limits on the tags of a batch's runs, and who holds their slots.

    Kept current while the batch is decided, so that the changes of one batch see each other; written at its end.
    """

    def __init__(self, limits: dict[str, ConcurrencyLimitRecord], holders: dict[str, set[str]]) -> None:
        self._limits = limits
        self._holders = holders
        self._before = {limit_id: set(holders_of_limit) for limit_id, holders_of_limit in holders.items()}

    @classmethod
    def load(cls, connection: Connection, runs: Iterable[TaskRunRecord]) -> "SlotBook":
        """The book for these runs: at most two statements, and none for runs without tags."""
        tags = sorted({tag for run in runs for tag in run.tags})
        limits = concurrency_limits.lock_limits(connection, tags) if tags else {}
        holders = concurrency_limits.holders_of(connection, [each.id for each in limits.values()]) if limits else {}
        return cls(limits, holders)

    def facts_for(self, run: TaskRunRecord) -> list[LimitFacts]:
        """The limits on the run's tags, in the order of the tags, as they stand now."""
        return [
            LimitFacts(limit.id, limit.tag, limit.limit, len(self._holders[limit.id] - {run.id}))
            for limit in self._of(run)
        ]

    def follow(self, run: TaskRunRecord, type: StateType, *, takes_slots: bool) -> None:
        """Take or free the run's slots, now that it is in a state of this type."""
        for limit in self._of(run):
            if takes_slots:
                self._holders[limit.id].add(run.id)
            elif type not in KEEPS_SLOTS:
                self._holders[limit.id].discard(run.id)

    def freed_tags(self) -> list[str]:
        """The tags of which slots have become free."""
        return [tag for tag, limit in self._limits.items() if self._before[limit.id] - self._holders[limit.id]]

    def write(self, connection: Connection) -> None:
        """Make the tables say what the book says."""
        freed, taken = list[Slot](), list[Slot]()
        for limit_id, now in self._holders.items():
            before = self._before[limit_id]
            freed += [Slot(limit_id, run_id) for run_id in before - now]
            taken += [Slot(limit_id, run_id) for run_id in now - before]
        concurrency_limits.free_slots(connection, freed)
        concurrency_limits.take_slots(connection, taken)

    def _of(self, run: TaskRunRecord) -> list[ConcurrencyLimitRecord]:
        if not self._limits:
            return []
        return [self._limits[tag] for tag in sorted(set(run.tags)) if tag in self._limits]

"""Concurrency slots that a batch of state changes takes and frees."""

from collections.abc import Iterable, Sequence

from db.connection import Connection
from db.enums import StateType
from db.records import ConcurrencyLimitRecord, ConcurrencySlotRecord, TaskRunRecord
from db.statements import concurrency_limits
from resolvers.orchestration.transition import LimitFacts

SLOT_HOLDING_STATES = {StateType.RUNNING, StateType.CANCELLING}
"""State types in which a run keeps its slots."""


class SlotLedger:
    """The limits on the tags of a batch's runs, and the runs that hold their slots.

    It is updated after each decision, because later changes of the batch must see it, and written at the end.
    """

    def __init__(self, limits: dict[str, ConcurrencyLimitRecord], holders: dict[str, set[str]]) -> None:
        self._limits = limits
        self._holders = holders
        self._initial_holders = {limit_id: set(holders_of_limit) for limit_id, holders_of_limit in holders.items()}

    @classmethod
    def load(cls, connection: Connection, runs: Iterable[TaskRunRecord], *, lock: bool = True) -> "SlotLedger":
        """Load the limits for these runs, locked unless nothing is written.

        Costs at most two statements, and none for runs without tags.
        """
        tags = sorted({tag for run in runs for tag in run.limiting_tags})
        read = concurrency_limits.lock_limits if lock else concurrency_limits.limits_by_tag
        limits = read(connection, tags) if tags else {}
        holders = concurrency_limits.slot_holders(connection, [each.id for each in limits.values()]) if limits else {}
        return cls(limits, holders)

    @classmethod
    def load_locked(cls, connection: Connection, tags: Sequence[str]) -> "SlotLedger":
        """Load the limits on these tags, of which the transaction may have locked only some. Does not wait.

        Only slots of the limits that it has locked may be taken or freed.
        """
        limits = concurrency_limits.limits_by_tag(connection, tags)
        return cls(limits, concurrency_limits.slot_holders(connection, [each.id for each in limits.values()]))

    def facts_for(self, run: TaskRunRecord) -> list[LimitFacts]:
        """Return the limits on the run's tags and their current use, sorted by tag."""
        return [self._facts(limit, run.id) for limit in self._limits_of(run.tags)]

    def facts_for_tags(self, run_id: str, tags: Iterable[str]) -> list[LimitFacts]:
        """Return the limits on these tags of a run and their current use, in the order of `tags`."""
        return [self._facts(self._limits[tag], run_id) for tag in tags if tag in self._limits]

    def _facts(self, limit: ConcurrencyLimitRecord, run_id: str) -> LimitFacts:
        return LimitFacts(limit.id, limit.tag, limit.limit, len(self._holders[limit.id] - {run_id}))

    def apply_state(self, run: TaskRunRecord, type: StateType, *, takes_slots: bool) -> None:
        """Take or free the slots of a run that has entered a state of this type."""
        if takes_slots:
            for limit in self._limits_of(run.tags):
                self._holders[limit.id].add(run.id)
        elif type not in SLOT_HOLDING_STATES:
            for limit in self._limits_of(run.limiting_tags):
                self._holders[limit.id].discard(run.id)

    def free_slots(self, tag: str) -> int | None:
        """Return the number of free slots of a tag of the batch's runs, 0 or less when none is free; None without limit."""
        limit = self._limits.get(tag)
        return None if limit is None else limit.limit - len(self._holders[limit.id])

    def freed_slots(self) -> dict[str, int]:
        """Return the number of slots that the batch has freed and that are free now, by tag."""
        freed: dict[str, int] = {}
        for tag, limit in self._limits.items():
            count = len(self._initial_holders[limit.id] - self._holders[limit.id])
            if count:
                freed[tag] = min(count, limit.limit - len(self._holders[limit.id]))
        return freed

    def write(self, connection: Connection) -> None:
        """Write the difference between the initial and the current holders."""
        freed, taken = list[tuple[str, str]](), list[ConcurrencySlotRecord]()
        for limit_id, current in self._holders.items():
            initial = self._initial_holders[limit_id]
            freed += [(limit_id, run_id) for run_id in initial - current]
            taken += [ConcurrencySlotRecord(limit_id, run_id, connection.now) for run_id in current - initial]
        concurrency_limits.delete_slots(connection, freed)
        concurrency_limits.insert_slots(connection, taken)

    def _limits_of(self, tags: Iterable[str]) -> list[ConcurrencyLimitRecord]:
        if not self._limits:
            return []
        return [self._limits[tag] for tag in sorted(set(tags)) if tag in self._limits]

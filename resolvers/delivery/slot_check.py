"""The check of a claim that a run can take its concurrency slots. A run that cannot is not delivered."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from db.connection import Connection
from db.records import QueueEntryRecord
from db.statements import concurrency_limits
from resolvers.orchestration.rules.task_runs.take_concurrency_slots import first_full_limit
from resolvers.orchestration.transition import LimitFacts

LimitsByRun = Mapping[str, Sequence[LimitFacts]]
"""The limits on the tags of each run that has any, sorted by tag."""


class SlotCheck:
    """Free slots for the runs of one claim. Each run that is admitted counts against those after it.

    Delivery reserves no slot: the run takes it when it enters RUNNING, in the claim itself when the claim starts runs.
    """

    def __init__(self, limits: LimitsByRun, locked_tags: AbstractSet[str]) -> None:
        """`locked_tags`: limits that this transaction has locked. Only their runs can start to wait for a slot."""
        self._limits = limits
        self._locked_tags = locked_tags
        self._admitted: Counter[str] = Counter()
        self.held_back: list[QueueEntryRecord] = []
        """Runs that were not admitted. Each has the tag that it waits for, and leaves the due runs when it is stored."""
        self.free_slots: dict[str, int] = {}
        """Number of free slots, by tag, that runs were not admitted to because another of their limits is full."""

    @classmethod
    def load(cls, connection: Connection, due: Sequence[QueueEntryRecord]) -> "SlotCheck":
        """Read the limits for these due runs: no statement for runs without tags, and three when slots are scarce."""
        limits = read_limits(connection, due)
        scarce = _scarce_tags(limits)
        if not scarce:
            return cls(limits, set())
        # A slot that is freed after this read must wake the runs that now start to wait.
        locked = concurrency_limits.lock_unlocked_limits(connection, scarce)
        return cls(read_limits(connection, due), locked)

    def admits(self, entry: QueueEntryRecord) -> bool:
        """Return whether each limit on the tags of the run has a free slot. If not, the run is held back.

        A run is skipped, and stays due, when another transaction is changing the full limit.
        """
        limits = self._remaining(entry)
        full = first_full_limit(limits)
        if full is None:
            self._admitted.update(each.id for each in limits)
            return True
        if full.tag in self._locked_tags:
            entry.waits_for_tag = full.tag
            self.held_back.append(entry)
            for each in limits:
                if first_full_limit([each]) is None:
                    unused = self.free_slots.get(each.tag, 0) + 1
                    self.free_slots[each.tag] = min(unused, each.limit - each.used_by_others)
        return False

    def has_unlocked_limit(self, entry: QueueEntryRecord) -> bool:
        """Return whether the run has a limit that this transaction has not locked."""
        return any(each.tag not in self._locked_tags for each in self._limits.get(entry.task_run_id, ()))

    def _remaining(self, entry: QueueEntryRecord) -> list[LimitFacts]:
        return [
            replace(each, used_by_others=each.used_by_others + self._admitted[each.id])
            for each in self._limits.get(entry.task_run_id, ())
        ]


def read_limits(connection: Connection, due: Sequence[QueueEntryRecord]) -> LimitsByRun:
    """Read the limits on the tags of these due runs: no statement for runs without tags."""
    tagged = [entry.task_run_id for entry in due if entry.has_tags]
    if not tagged:
        return {}
    found = concurrency_limits.limits_of_task_runs(connection, tagged)
    return {
        id: [LimitFacts(each.limit_id, each.tag, each.limit, each.used_by_others) for each in limits]
        for id, limits in found.items()
    }


def _scarce_tags(limits: LimitsByRun) -> list[str]:
    """Return the tags with fewer free slots than runs."""
    all_limits = [each for of_run in limits.values() for each in of_run]
    wanted = Counter(each.tag for each in all_limits)
    return sorted({each.tag for each in all_limits if each.used_by_others + wanted[each.tag] > each.limit})

"""Runs that wait for a concurrency slot, and how freed slots wake them.

A run waits when its worker has received WAIT for a slot and its lease has ended, or when a claim finds that no slot is
free. It is not due then. A slot that becomes free wakes the first waiting run of each task key, by priority and then by
due time: the run is due again.
The run takes the slot when it enters RUNNING, so a woken run may wait again.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set

from db.connection import Connection
from db.records import QueueEntryRecord
from db.statements import concurrency_limits, queue
from resolvers.queue.entries import QueueChanges

MAX_WOKEN_PER_KEY = 500
"""Maximum number of runs of one task key that are woken at a time. `wake_overdue_waiters` wakes the rest."""


def find_waiters(
    connection: Connection, free_slots: Mapping[str, int], *, except_runs: Set[str] = frozenset()
) -> list[QueueEntryRecord]:
    """Lock and return the waiting runs to wake for these numbers of free slots, by tag: as many of each task key.

    `except_runs`: runs that no longer wait, although their entries are not written yet.
    """
    wanted = {tag: min(count, MAX_WOKEN_PER_KEY) for tag, count in free_slots.items() if count > 0}
    if not wanted:
        return []
    found = queue.first_waiting_for_slots(connection, sorted(wanted), max(wanted.values()) + len(except_runs))
    return list(_first_of_each_key((each for each in found if each.task_run_id not in except_runs), wanted))


def _first_of_each_key(entries: Iterable[QueueEntryRecord], wanted: Mapping[str, int]) -> Iterable[QueueEntryRecord]:
    taken: Counter[tuple[str, str]] = Counter()
    for entry in sorted(entries, key=lambda each: (-each.priority, each.available_at, each.task_run_id)):
        tag = entry.waits_for_tag or ""
        if taken[tag, entry.task_key] < wanted[tag]:
            taken[tag, entry.task_key] += 1
            yield entry


def wake_waiters(connection: Connection, free_slots: Mapping[str, int]) -> int:
    """Wake runs for these numbers of free slots, by tag, and return their number."""
    queue_changes = QueueChanges()
    queue_changes.wake(find_waiters(connection, free_slots), connection.now)
    queue_changes.write(connection)
    return len(queue_changes.updated)


def wake_waiters_of_tags(connection: Connection, tags: Sequence[str]) -> int:
    """Lock the limits on these tags, wake runs for the slots that are free now, and return the number of runs.

    Call it in the transaction that frees slots. The lock prevents that a run starts to wait for a slot meanwhile.
    """
    if not tags:
        return 0
    limits = concurrency_limits.lock_limits(connection, sorted(tags))
    holders = concurrency_limits.slot_holders(connection, [each.id for each in limits.values()]) if limits else {}
    free = {tag: each.limit - len(holders[each.id]) for tag, each in limits.items()}
    return wake_waiters(connection, dict.fromkeys(tags, MAX_WOKEN_PER_KEY) | free)


def wake_overdue_waiters(connection: Connection, callers: Sequence[str]) -> list[int | Exception]:
    """Wake runs for all slots that are free now, and return the number of runs, once for each caller.

    A slot may be free although runs wait for it: the run that was woken for it has not been claimed or has ended.
    """
    woken = wake_waiters_of_tags(connection, queue.tags_with_waiting_runs(connection))
    return [woken] * len(callers)

"""Concurrency limits by tag: set, read, reset, delete."""

from collections.abc import Sequence
from dataclasses import dataclass

from db.connection import Connection
from db.records import ConcurrencyLimitRecord, ConcurrencySlotRecord
from db.runtime.ids import new_id
from db.statements import concurrency_limits, task_runs
from resolvers.errors import NotFound
from resolvers.queue.slot_waiters import MAX_WOKEN_PER_KEY, wake_waiters


@dataclass(frozen=True, slots=True)
class LimitWithSlots:
    """A limit and its slots that task runs hold, in the order in which they were acquired."""

    limit_record: ConcurrencyLimitRecord
    slots: list[ConcurrencySlotRecord]

    @property
    def id(self) -> str:
        return self.limit_record.id

    @property
    def created(self) -> str:
        return self.limit_record.created

    @property
    def updated(self) -> str:
        return self.limit_record.updated

    @property
    def tag(self) -> str:
        return self.limit_record.tag

    @property
    def limit(self) -> int:
        return self.limit_record.limit

    @property
    def free_slots(self) -> int:
        """Number of slots that no run holds; negative when more runs hold slots than the limit allows."""
        return self.limit - len(self.slots)


@dataclass(frozen=True, slots=True)
class LimitSetting:
    """A limit to set: how many runs with the tag may be RUNNING at a time."""

    tag: str
    limit: int


def set_limits(connection: Connection, settings: Sequence[LimitSetting]) -> list[LimitWithSlots | Exception]:
    """Create limits or change the existing limits of the same tags. Runs keep their slots when a limit is lowered."""
    by_tag = concurrency_limits.lock_limits(connection, [each.tag for each in settings])
    created: list[ConcurrencyLimitRecord] = []
    changed: list[ConcurrencyLimitRecord] = []
    for each in settings:
        record = by_tag.get(each.tag)
        if record is None:
            by_tag[each.tag] = ConcurrencyLimitRecord(
                new_id(connection.now), connection.now, connection.now, each.tag, each.limit
            )
            created.append(by_tag[each.tag])
        else:
            record.limit, record.updated = each.limit, connection.now
            changed.append(record)
    concurrency_limits.insert_limits(connection, created)
    concurrency_limits.update_limits(connection, changed)
    limits = _with_slots(connection, by_tag)
    wake_waiters(connection, {tag: each.free_slots for tag, each in limits.items()})
    return [limits[each.tag] for each in settings]


def delete_limits(connection: Connection, tags: Sequence[str]) -> list[str | Exception]:
    """Delete the limits of these tags and return their ids.

    Returns NotFound for a tag that has no limit, or whose limit an earlier item has deleted.
    """
    by_tag = concurrency_limits.lock_limits(connection, tags)
    concurrency_limits.delete_limits(connection, [record.id for record in by_tag.values()])
    wake_waiters(connection, dict.fromkeys(by_tag, MAX_WOKEN_PER_KEY))
    results: list[str | Exception] = []
    for tag in tags:
        record = by_tag.pop(tag, None)
        results.append(record.id if record else NotFound("tag", "concurrency limit", tag, by="tag"))
    return results


@dataclass(frozen=True, slots=True)
class LimitReset:
    """The only runs that hold slots of a limit after the reset."""

    tag: str
    task_run_ids: Sequence[str]


def reset_limits(connection: Connection, resets: Sequence[LimitReset]) -> list[LimitWithSlots | Exception]:
    """Replace the holders of the slots of each limit. A run that keeps its slot keeps the time of acquiring it.

    Returns NotFound for a tag without a limit and for a run that does not exist.
    """
    by_tag = concurrency_limits.lock_limits(connection, [each.tag for each in resets])
    run_ids = sorted({run_id for each in resets for run_id in each.task_run_ids})
    existing = task_runs.existing_task_runs(connection, run_ids) if run_ids else set[str]()
    initial = concurrency_limits.slot_holders(connection, [each.id for each in by_tag.values()]) if by_tag else {}
    holders = dict(initial)
    results: dict[int, LimitWithSlots | Exception] = {}
    applied: list[int] = []
    for index, each in enumerate(resets):
        missing = [position for position, run_id in enumerate(each.task_run_ids) if run_id not in existing]
        if each.tag not in by_tag:
            results[index] = NotFound("tag", "concurrency limit", each.tag, by="tag")
        elif missing:
            first = missing[0]
            results[index] = NotFound(f"taskRunIds.{first}", "task run", each.task_run_ids[first])
        else:
            holders[by_tag[each.tag].id] = set(each.task_run_ids)
            applied.append(index)
    _replace_holders(connection, initial, holders)
    limits = _with_slots(connection, by_tag)
    wake_waiters(connection, {resets[index].tag: limits[resets[index].tag].free_slots for index in applied})
    return [results[index] if index in results else limits[each.tag] for index, each in enumerate(resets)]


def _replace_holders(connection: Connection, initial: dict[str, set[str]], holders: dict[str, set[str]]) -> None:
    """Free the slots of runs that are no longer `holders`, and take slots for the new ones."""
    freed, taken = list[tuple[str, str]](), list[ConcurrencySlotRecord]()
    for limit_id, run_ids in holders.items():
        freed += [(limit_id, run_id) for run_id in initial[limit_id] - run_ids]
        taken += [ConcurrencySlotRecord(limit_id, run_id, connection.now) for run_id in run_ids - initial[limit_id]]
    concurrency_limits.delete_slots(connection, freed)
    concurrency_limits.insert_slots(connection, taken)


def read_limits(connection: Connection, tags: Sequence[str]) -> list[LimitWithSlots | None]:
    limits = _with_slots(connection, concurrency_limits.limits_by_tag(connection, tags))
    return [limits.get(tag) for tag in tags]


def limits_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, LimitWithSlots]:
    """Return the existing limits, by id."""
    found = {each.tag: each for each in concurrency_limits.limits_by_id(connection, ids).values()}
    return {limit.id: limit for limit in _with_slots(connection, found).values()}


def list_limits(connection: Connection) -> list[LimitWithSlots]:
    """Return all limits, sorted by tag."""
    return list(
        _with_slots(connection, {each.tag: each for each in concurrency_limits.all_limits(connection)}).values()
    )


def _with_slots(connection: Connection, limits: dict[str, ConcurrencyLimitRecord]) -> dict[str, LimitWithSlots]:
    slots = concurrency_limits.slots_of_limits(connection, [each.id for each in limits.values()]) if limits else {}
    return {tag: LimitWithSlots(each, slots[each.id]) for tag, each in limits.items()}


def count_waiting_runs(connection: Connection, tags: Sequence[str]) -> list[int]:
    """Return the number of queued runs that wait for a slot of each of these tags, leased ones included."""
    counts = concurrency_limits.count_waiting_runs(connection, tags)
    return [counts[tag] for tag in tags]

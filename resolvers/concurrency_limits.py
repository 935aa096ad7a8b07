"""Concurrency limits by tag: create, read, reset, delete."""

from collections.abc import Sequence
from dataclasses import dataclass

from db.connection import Connection
from db.records import ConcurrencyLimitRecord
from db.runtime.ids import new_id
from db.statements import concurrency_limits, task_runs
from db.statements.concurrency_limits import Slot
from resolvers.errors import Conflict, NotFound
from resolvers.queue.entries import make_slot_waiters_due


@dataclass(frozen=True, slots=True)
class LimitWithSlots:
    """A limit and the ids of the task runs that hold its slots, in ascending order."""

    limit_record: ConcurrencyLimitRecord
    active_slots: list[str]

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


@dataclass(frozen=True, slots=True)
class NewLimit:
    """A limit to set: how many runs with the tag may be RUNNING at a time."""

    tag: str
    limit: int


def create_limits(connection: Connection, new_limits: Sequence[NewLimit]) -> list[LimitWithSlots | Exception]:
    """Create limits or change the existing limits of the same tags. Runs keep their slots when a limit is lowered."""
    by_tag = concurrency_limits.lock_limits(connection, [each.tag for each in new_limits])
    created: list[ConcurrencyLimitRecord] = []
    changed: list[ConcurrencyLimitRecord] = []
    for each in new_limits:
        record = by_tag.get(each.tag)
        if record is None:
            by_tag[each.tag] = ConcurrencyLimitRecord(new_id(), connection.now, connection.now, each.tag, each.limit)
            created.append(by_tag[each.tag])
        else:
            record.limit, record.updated = each.limit, connection.now
            changed.append(record)
    concurrency_limits.insert_limits(connection, created)
    concurrency_limits.update_limits(connection, changed)
    make_slot_waiters_due(connection, [each.tag for each in changed])
    limits = _with_slots(connection, by_tag)
    return [limits[each.tag] for each in new_limits]


def delete_limits(connection: Connection, tags: Sequence[str]) -> list[str | Exception]:
    """Delete the limits of these tags and return their ids.

    Returns NotFound for a tag that has no limit, or whose limit an earlier item has deleted.
    """
    by_tag = concurrency_limits.lock_limits(connection, tags)
    concurrency_limits.delete_limits(connection, [record.id for record in by_tag.values()])
    make_slot_waiters_due(connection, list(by_tag))
    results: list[str | Exception] = []
    for tag in tags:
        record = by_tag.pop(tag, None)
        results.append(record.id if record else NotFound("concurrency limit", tag, by="tag"))
    return results


@dataclass(frozen=True, slots=True)
class LimitReset:
    """The only runs that hold slots of a limit after the reset."""

    tag: str
    active_slots: Sequence[str]


def reset_limits(connection: Connection, resets: Sequence[LimitReset]) -> list[LimitWithSlots | Exception]:
    """Replace the holders of the slots of each limit.

    Returns NotFound for a tag without a limit, and Conflict for a run that does not exist.
    """
    by_tag = concurrency_limits.lock_limits(connection, [each.tag for each in resets])
    run_ids = sorted({run_id for each in resets for run_id in each.active_slots})
    existing = task_runs.existing_task_runs(connection, run_ids) if run_ids else set[str]()
    results: dict[int, LimitWithSlots | Exception] = {}
    applied: list[int] = []
    for index, each in enumerate(resets):
        missing = [run_id for run_id in each.active_slots if run_id not in existing]
        if each.tag not in by_tag:
            results[index] = NotFound("concurrency limit", each.tag, by="tag")
        elif missing:
            results[index] = Conflict("activeSlots", "task run", missing[0])
        else:
            limit_id = by_tag[each.tag].id
            concurrency_limits.delete_slots_of_limits(connection, [limit_id])
            concurrency_limits.insert_slots(
                connection, [Slot(limit_id, run_id) for run_id in dict.fromkeys(each.active_slots)]
            )
            applied.append(index)
    make_slot_waiters_due(connection, [resets[index].tag for index in applied])
    limits = _with_slots(connection, by_tag)
    return [results[index] if index in results else limits[each.tag] for index, each in enumerate(resets)]


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
    holders = concurrency_limits.slot_holders(connection, [each.id for each in limits.values()]) if limits else {}
    return {tag: LimitWithSlots(each, sorted(holders[each.id])) for tag, each in limits.items()}

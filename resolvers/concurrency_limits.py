"""Concurrency limits by tag: create, read, reset, delete."""

from collections.abc import Sequence
from dataclasses import dataclass

from db.connection import Connection
from db.records import ConcurrencyLimitRecord
from db.runtime.ids import new_id
from db.statements import concurrency_limits, task_runs
from db.statements.concurrency_limits import Slot
from resolvers.errors import Conflict, NotFound
from resolvers.queue.entries import make_due_for_slots


@dataclass(frozen=True, slots=True)
class LimitWithSlots:
    """A limit, and the runs that hold its slots in the order of their ids."""

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
class WantedLimit:
    """How many runs with a tag are to run at a time."""

    tag: str
    limit: int


def create_limits(connection: Connection, wanted: Sequence[WantedLimit]) -> list[LimitWithSlots | Exception]:
    """Make the limits, or change those of the same tags; runs that hold slots keep them, even beyond a lower limit."""
    known = concurrency_limits.lock_limits(connection, [each.tag for each in wanted])
    made: list[ConcurrencyLimitRecord] = []
    changed: list[ConcurrencyLimitRecord] = []
    for each in wanted:
        record = known.get(each.tag)
        if record is None:
            known[each.tag] = ConcurrencyLimitRecord(new_id(), connection.now, connection.now, each.tag, each.limit)
            made.append(known[each.tag])
        else:
            record.limit, record.updated = each.limit, connection.now
            changed.append(record)
    concurrency_limits.insert_limits(connection, made)
    concurrency_limits.update_limits(connection, changed)
    make_due_for_slots(connection, [each.tag for each in changed])
    limits = _with_slots(connection, known)
    return [limits[each.tag] for each in wanted]


def delete_limits(connection: Connection, tags: Sequence[str]) -> list[str | Exception]:
    """Delete the limits, so that their tags are not limited; the ids that they had. NotFound for an unknown tag."""
    known = concurrency_limits.lock_limits(connection, tags)
    concurrency_limits.delete_limits(connection, [record.id for record in known.values()])
    make_due_for_slots(connection, list(known))
    results: list[str | Exception] = []
    for tag in tags:
        record = known.pop(tag, None)
        results.append(record.id if record else NotFound("concurrency limit", tag, by="tag"))
    return results


@dataclass(frozen=True, slots=True)
class Reset:
    """The runs that are to hold a limit's slots, and nobody else."""

    tag: str
    active_slots: Sequence[str]


def reset_limits(connection: Connection, resets: Sequence[Reset]) -> list[LimitWithSlots | Exception]:
    """Give the slots of each limit to the named runs alone. NotFound for an unknown tag; Conflict for an unknown run."""
    known = concurrency_limits.lock_limits(connection, [each.tag for each in resets])
    named = sorted({run_id for each in resets for run_id in each.active_slots})
    there = task_runs.existing_task_runs(connection, named) if named else set[str]()
    results: dict[int, LimitWithSlots | Exception] = {}
    done: list[int] = []
    for place, each in enumerate(resets):
        missing = [run_id for run_id in each.active_slots if run_id not in there]
        if each.tag not in known:
            results[place] = NotFound("concurrency limit", each.tag, by="tag")
        elif missing:
            results[place] = Conflict("activeSlots", "task run", missing[0])
        else:
            limit_id = known[each.tag].id
            concurrency_limits.free_limits(connection, [limit_id])
            concurrency_limits.take_slots(
                connection, [Slot(limit_id, run_id) for run_id in dict.fromkeys(each.active_slots)]
            )
            done.append(place)
    make_due_for_slots(connection, [resets[place].tag for place in done])
    limits = _with_slots(connection, known)
    return [results[place] if place in results else limits[each.tag] for place, each in enumerate(resets)]


def read_limits(connection: Connection, tags: Sequence[str]) -> list[LimitWithSlots | None]:
    limits = _with_slots(connection, concurrency_limits.limits_by_tag(connection, tags))
    return [limits.get(tag) for tag in tags]


def limits_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, LimitWithSlots]:
    """The limits that are there, by id."""
    found = {each.tag: each for each in concurrency_limits.limits_by_id(connection, ids).values()}
    return {limit.id: limit for limit in _with_slots(connection, found).values()}


def list_limits(connection: Connection) -> list[LimitWithSlots]:
    """Every limit, in the order of the tags."""
    return list(
        _with_slots(connection, {each.tag: each for each in concurrency_limits.all_limits(connection)}).values()
    )


def _with_slots(connection: Connection, limits: dict[str, ConcurrencyLimitRecord]) -> dict[str, LimitWithSlots]:
    holders = concurrency_limits.holders_of(connection, [each.id for each in limits.values()]) if limits else {}
    return {tag: LimitWithSlots(each, sorted(holders[each.id])) for tag, each in limits.items()}

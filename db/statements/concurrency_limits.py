"""Statements for concurrency limits and the slots that task runs hold."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, func, literal_column, select, update

from db.connection import Connection, Row
from db.enums import StateType
from db.records import ConcurrencyLimitRecord, ConcurrencySlotRecord
from db.row_mapping import insert_statement, record_columns, record_to_row
from db.sql.lists import is_among, is_key_among
from db.sql.statement import Statement
from db.sql.tags import unnest_tags
from db.tables import concurrency_limit, concurrency_slot, flow_run, queue_entry, task_run

_LIMITS = select(*record_columns(concurrency_limit, ConcurrencyLimitRecord))
_BY_TAG = Statement(_LIMITS.where(is_key_among(concurrency_limit.c.tag, "tags")).order_by(concurrency_limit.c.tag))
LIMIT_LOCK_SECONDS = 5
"""How long a transaction waits for a locked limit. All runs with the tag take turns, of several servers as well."""

_lock_by_tag = (
    _LIMITS.where(is_key_among(concurrency_limit.c.tag, "tags"))
    .order_by(concurrency_limit.c.tag)
    .with_for_update(key_share=True)
)
# Limits are locked last. PostgreSQL evaluates the subquery once, before it locks the first row.
_longer_lock_timeout = select(func.set_config("lock_timeout", f"{LIMIT_LOCK_SECONDS}s", literal_column("true")))
_LOCKED_BY_TAG = Statement(
    _lock_by_tag, postgresql=_lock_by_tag.where(_longer_lock_timeout.scalar_subquery().is_not(None))
)
_UNLOCKED_TAGS = Statement(
    select(concurrency_limit.c.tag)
    .where(is_key_among(concurrency_limit.c.tag, "tags"))
    .with_for_update(key_share=True, skip_locked=True)
)
_BY_ID = Statement(_LIMITS.where(is_among(concurrency_limit.c.id, "ids")))
_ALL = Statement(_LIMITS.order_by(concurrency_limit.c.tag))
_INSERT = insert_statement(concurrency_limit, ConcurrencyLimitRecord)
_UPDATE = Statement(
    update(concurrency_limit).where(concurrency_limit.c.id == bindparam("limit_id", required=True)),
    ["updated", "limit"],
)
_DELETE = Statement(delete(concurrency_limit).where(is_among(concurrency_limit.c.id, "ids")))

_SLOT_HOLDERS = Statement(
    select(concurrency_slot.c.limit_id, concurrency_slot.c.task_run_id)
    .where(is_key_among(concurrency_slot.c.limit_id, "limits"))
    .order_by(concurrency_slot.c.limit_id, concurrency_slot.c.task_run_id)
)
_SLOTS = Statement(
    select(*record_columns(concurrency_slot, ConcurrencySlotRecord))
    .where(is_key_among(concurrency_slot.c.limit_id, "limits"))
    .order_by(concurrency_slot.c.limit_id, concurrency_slot.c.acquired_at, concurrency_slot.c.task_run_id)
)
_INSERT_SLOT = insert_statement(concurrency_slot, ConcurrencySlotRecord)
_DELETE_SLOT = Statement(
    delete(concurrency_slot).where(
        concurrency_slot.c.limit_id == bindparam("of_limit", required=True),
        concurrency_slot.c.task_run_id == bindparam("of_run", required=True),
    )
)

_COUNT_WAITING = Statement(
    select(queue_entry.c.waits_for_tag, func.count())
    .where(is_among(queue_entry.c.waits_for_tag, "tags"))
    .group_by(queue_entry.c.waits_for_tag)
)

_each_tag = unnest_tags(task_run.c.tags)
_used_by_others = (
    select(func.count())
    .where(concurrency_slot.c.limit_id == concurrency_limit.c.id, concurrency_slot.c.task_run_id != task_run.c.id)
    .correlate(concurrency_limit, task_run)
    .scalar_subquery()
)
_LIMITS_OF_TASK_RUNS = Statement(
    select(task_run.c.id, concurrency_limit.c.id, concurrency_limit.c.tag, concurrency_limit.c.limit, _used_by_others)
    .select_from(task_run)
    .where(is_key_among(task_run.c.id, "ids"), concurrency_limit.c.tag == _each_tag.c.value)
    .order_by(task_run.c.id, concurrency_limit.c.tag)
    .distinct()
)

_held_tags = select(concurrency_limit.c.tag).distinct().join_from(concurrency_limit, concurrency_slot)
_LIMITED_TAGS = Statement(
    select(concurrency_limit.c.tag)
    .select_from(task_run)
    .where(is_key_among(task_run.c.id, "ids"), concurrency_limit.c.tag == _each_tag.c.value)
    .union(_held_tags.where(is_among(concurrency_slot.c.task_run_id, "ids")))
)
_held_tags_of_task_runs = _held_tags.join(task_run, task_run.c.id == concurrency_slot.c.task_run_id)
_TAGS_OF_FLOW_RUNS = Statement(_held_tags_of_task_runs.where(is_among(task_run.c.flow_run_id, "ids")))
_TAGS_OF_FLOWS = Statement(
    _held_tags_of_task_runs.join(flow_run, flow_run.c.id == task_run.c.flow_run_id).where(
        is_among(flow_run.c.flow_id, "ids")
    )
)
_TAGS_OF_DEPLOYMENTS = Statement(
    _held_tags_of_task_runs.join(flow_run, flow_run.c.id == task_run.c.flow_run_id).where(
        is_among(flow_run.c.deployment_id, "ids"), flow_run.c.state_type == StateType.SCHEDULED.value
    )
)


def limits_by_tag(connection: Connection, tags: Sequence[str]) -> dict[str, ConcurrencyLimitRecord]:
    """Return the limits on these tags by tag, in the order of the tags."""
    return _records_by_tag(connection.fetch(_BY_TAG, {"tags": list(tags)}))


def lock_limits(connection: Connection, tags: Sequence[str]) -> dict[str, ConcurrencyLimitRecord]:
    """Lock the limits on these tags and return them as `limits_by_tag` does.

    No other transaction changes these limits, or the holders of their slots, before this transaction ends.
    """
    return _records_by_tag(connection.fetch_locked(_LOCKED_BY_TAG, {"tags": list(tags)}))


def lock_unlocked_limits(connection: Connection, tags: Sequence[str]) -> set[str]:
    """Lock those limits on these tags that no other transaction has locked, and return their tags. Does not wait."""
    return {row[0] for row in connection.fetch(_UNLOCKED_TAGS, {"tags": list(tags)})}


def _records_by_tag(rows: Sequence[Row]) -> dict[str, ConcurrencyLimitRecord]:
    found = (ConcurrencyLimitRecord(*row) for row in rows)
    return {record.tag: record for record in found}


def limits_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, ConcurrencyLimitRecord]:
    """Return the existing limits by id."""
    return {row[0]: ConcurrencyLimitRecord(*row) for row in connection.fetch(_BY_ID, {"ids": list(ids)})}


def all_limits(connection: Connection) -> list[ConcurrencyLimitRecord]:
    """Return every limit, in the order of the tags."""
    return [ConcurrencyLimitRecord(*row) for row in connection.fetch(_ALL)]


def insert_limits(connection: Connection, records: Sequence[ConcurrencyLimitRecord]) -> None:
    connection.run_many(_INSERT, [record_to_row(record) for record in records])


def update_limits(connection: Connection, records: Sequence[ConcurrencyLimitRecord]) -> None:
    """Store the number of slots of each of these limits."""
    connection.run_many(
        _UPDATE, [{"limit_id": each.id, "updated": each.updated, "limit": each.limit} for each in records]
    )


def delete_limits(connection: Connection, ids: Sequence[str]) -> None:
    """Delete these limits together with their slots."""
    connection.run(_DELETE, {"ids": list(ids)})


def slot_holders(connection: Connection, limit_ids: Sequence[str]) -> dict[str, set[str]]:
    """Return the ids of the task runs that hold a slot of each of these limits, by limit id."""
    holders: dict[str, set[str]] = {limit_id: set() for limit_id in limit_ids}
    for limit_id, task_run_id in connection.fetch(_SLOT_HOLDERS, {"limits": list(limit_ids)}):
        holders[limit_id].add(task_run_id)
    return holders


def slots_of_limits(connection: Connection, limit_ids: Sequence[str]) -> dict[str, list[ConcurrencySlotRecord]]:
    """Return the slots of each of these limits, in the order in which they were acquired, by limit id."""
    slots: dict[str, list[ConcurrencySlotRecord]] = {limit_id: [] for limit_id in limit_ids}
    for row in connection.fetch(_SLOTS, {"limits": list(limit_ids)}):
        slots[row[0]].append(ConcurrencySlotRecord(*row))
    return slots


def insert_slots(connection: Connection, slots: Sequence[ConcurrencySlotRecord]) -> None:
    connection.run_many(_INSERT_SLOT, [record_to_row(each) for each in slots])


def delete_slots(connection: Connection, slots: Sequence[tuple[str, str]]) -> None:
    """Free slots, each given by the id of its limit and the id of its task run."""
    connection.run_many(_DELETE_SLOT, [{"of_limit": limit_id, "of_run": run_id} for limit_id, run_id in slots])


def count_waiting_runs(connection: Connection, tags: Sequence[str]) -> dict[str, int]:
    """Return the number of queued task runs that wait for a slot of each of these tags, leased ones included."""
    counts = dict.fromkeys(tags, 0)
    counts.update((tag, count) for tag, count in connection.fetch(_COUNT_WAITING, {"tags": list(tags)}))
    return counts


@dataclass(frozen=True, slots=True)
class LimitOfTaskRun:
    """A limit on one of the tags of a task run, with the number of its slots that other task runs hold."""

    task_run_id: str
    limit_id: str
    tag: str
    limit: int
    used_by_others: int


def limits_of_task_runs(connection: Connection, ids: Sequence[str]) -> dict[str, list[LimitOfTaskRun]]:
    """Return the limits on the tags of each of these task runs that has any, by id, in the order of the tags."""
    limits: dict[str, list[LimitOfTaskRun]] = {}
    for row in connection.fetch(_LIMITS_OF_TASK_RUNS, {"ids": list(ids)}):
        limits.setdefault(row[0], []).append(LimitOfTaskRun(*row))
    return limits


def limited_tags_of_task_runs(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Return the tags with a limit that these task runs have, or whose slots they hold."""
    return [row[0] for row in connection.fetch(_LIMITED_TAGS, {"ids": list(ids)})]


def tags_held_by_flow_runs(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Return the tags of the limits whose slots the task runs of these flow runs hold."""
    return [row[0] for row in connection.fetch(_TAGS_OF_FLOW_RUNS, {"ids": list(ids)})]


def tags_held_by_flows(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Return the tags of the limits whose slots the task runs of these flows hold."""
    return [row[0] for row in connection.fetch(_TAGS_OF_FLOWS, {"ids": list(ids)})]


def tags_held_by_scheduled_runs_of_deployments(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Return the tags of the limits whose slots the task runs of these deployments' SCHEDULED flow runs hold."""
    return [row[0] for row in connection.fetch(_TAGS_OF_DEPLOYMENTS, {"ids": list(ids)})]

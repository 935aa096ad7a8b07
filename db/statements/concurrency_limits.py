"""Statements about concurrency limits, by tag, and the slots that runs hold of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, select, update

from db.connection import Connection, Row
from db.records import ConcurrencyLimitRecord
from db.row_mapping import columns_of, insert_of, row_of
from db.sql.dialects import is_among, is_key_among
from db.sql.statement import Statement
from db.tables import concurrency_limit, concurrency_slot, flow_run, task_run

_LIMITS = select(*columns_of(concurrency_limit, ConcurrencyLimitRecord))
_BY_TAG = Statement(_LIMITS.where(is_key_among(concurrency_limit.c.tag, "tags")).order_by(concurrency_limit.c.tag))
_LOCKED_BY_TAG = Statement(
    _LIMITS.where(is_key_among(concurrency_limit.c.tag, "tags"))
    .order_by(concurrency_limit.c.tag)
    .with_for_update(key_share=True)
)
_BY_ID = Statement(_LIMITS.where(is_among(concurrency_limit.c.id, "ids")))
_ALL = Statement(_LIMITS.order_by(concurrency_limit.c.tag))
_INSERT = insert_of(concurrency_limit, ConcurrencyLimitRecord)
_UPDATE = Statement(
    update(concurrency_limit).where(concurrency_limit.c.id == bindparam("limit_id", required=True)),
    ["updated", "limit"],
)
_DELETE = Statement(delete(concurrency_limit).where(is_among(concurrency_limit.c.id, "ids")))

_HOLDERS = Statement(
    select(concurrency_slot.c.limit_id, concurrency_slot.c.task_run_id)
    .where(is_key_among(concurrency_slot.c.limit_id, "limits"))
    .order_by(concurrency_slot.c.limit_id, concurrency_slot.c.task_run_id)
)
_TAKE = Statement(concurrency_slot.insert(), ["limit_id", "task_run_id"])
_FREE = Statement(
    delete(concurrency_slot).where(
        concurrency_slot.c.limit_id == bindparam("of_limit", required=True),
        concurrency_slot.c.task_run_id == bindparam("of_run", required=True),
    )
)
_FREE_LIMITS = Statement(delete(concurrency_slot).where(is_among(concurrency_slot.c.limit_id, "limits")))


_holding = select(concurrency_limit.c.tag).distinct().join_from(concurrency_limit, concurrency_slot)
_TAGS_OF_TASK_RUNS = Statement(_holding.where(is_among(concurrency_slot.c.task_run_id, "ids")))
_of_flow_runs = _holding.join(task_run, task_run.c.id == concurrency_slot.c.task_run_id)
_TAGS_OF_FLOW_RUNS = Statement(_of_flow_runs.where(is_among(task_run.c.flow_run_id, "ids")))
_TAGS_OF_FLOWS = Statement(
    _of_flow_runs.join(flow_run, flow_run.c.id == task_run.c.flow_run_id).where(is_among(flow_run.c.flow_id, "ids"))
)


@dataclass(frozen=True, slots=True)
class Slot:
    """A run's place in a limit."""

    limit_id: str
    task_run_id: str


def limits_by_tag(connection: Connection, tags: Sequence[str]) -> dict[str, ConcurrencyLimitRecord]:
    """The limits on these tags, in the order of the tags."""
    return _by_tag(connection.fetch(_BY_TAG, {"tags": list(tags)}))


def lock_limits(connection: Connection, tags: Sequence[str]) -> dict[str, ConcurrencyLimitRecord]:
    """As `limits_by_tag`; nobody else changes these limits, or who holds their slots, before the transaction ends."""
    return _by_tag(connection.fetch_locked(_LOCKED_BY_TAG, {"tags": list(tags)}))


def _by_tag(rows: Sequence[Row]) -> dict[str, ConcurrencyLimitRecord]:
    found = (ConcurrencyLimitRecord(*row) for row in rows)
    return {record.tag: record for record in found}


def limits_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, ConcurrencyLimitRecord]:
    """The limits that are there, by id."""
    return {row[0]: ConcurrencyLimitRecord(*row) for row in connection.fetch(_BY_ID, {"ids": list(ids)})}


def all_limits(connection: Connection) -> list[ConcurrencyLimitRecord]:
    """Every limit, in the order of the tags."""
    return [ConcurrencyLimitRecord(*row) for row in connection.fetch(_ALL)]


def insert_limits(connection: Connection, records: Sequence[ConcurrencyLimitRecord]) -> None:
    connection.run_many(_INSERT, [row_of(record) for record in records])


def update_limits(connection: Connection, records: Sequence[ConcurrencyLimitRecord]) -> None:
    """Write how much these limits allow."""
    connection.run_many(
        _UPDATE, [{"limit_id": each.id, "updated": each.updated, "limit": each.limit} for each in records]
    )


def delete_limits(connection: Connection, ids: Sequence[str]) -> None:
    """Delete these limits with their slots."""
    connection.run(_DELETE, {"ids": list(ids)})


def holders_of(connection: Connection, limit_ids: Sequence[str]) -> dict[str, set[str]]:
    """The runs that hold a slot of each of these limits."""
    holders: dict[str, set[str]] = {limit_id: set() for limit_id in limit_ids}
    for limit_id, task_run_id in connection.fetch(_HOLDERS, {"limits": list(limit_ids)}):
        holders[limit_id].add(task_run_id)
    return holders


def take_slots(connection: Connection, slots: Sequence[Slot]) -> None:
    connection.run_many(_TAKE, [{"limit_id": each.limit_id, "task_run_id": each.task_run_id} for each in slots])


def free_slots(connection: Connection, slots: Sequence[Slot]) -> None:
    connection.run_many(_FREE, [{"of_limit": each.limit_id, "of_run": each.task_run_id} for each in slots])


def free_limits(connection: Connection, limit_ids: Sequence[str]) -> None:
    """Free all slots of these limits."""
    connection.run(_FREE_LIMITS, {"limits": list(limit_ids)})


def tags_held_by_task_runs(connection: Connection, ids: Sequence[str]) -> list[str]:
    """The tags of whose limits these task runs hold slots."""
    return [row[0] for row in connection.fetch(_TAGS_OF_TASK_RUNS, {"ids": list(ids)})]


def tags_held_by_flow_runs(connection: Connection, ids: Sequence[str]) -> list[str]:
    """The tags of whose limits the task runs of these flow runs hold slots."""
    return [row[0] for row in connection.fetch(_TAGS_OF_FLOW_RUNS, {"ids": list(ids)})]


def tags_held_by_flows(connection: Connection, ids: Sequence[str]) -> list[str]:
    """The tags of whose limits the task runs of these flows hold slots."""
    return [row[0] for row in connection.fetch(_TAGS_OF_FLOWS, {"ids": list(ids)})]

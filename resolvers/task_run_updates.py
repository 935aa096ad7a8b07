"""Updates of task runs: name, tags, metadata, priority and expiry."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from enum import Enum

from db.connection import Connection, DeadlineSet, WorkAvailable
from db.records import JsonText, QueueEntryRecord, TaskRunRecord, to_json
from db.statements import queue, task_runs
from resolvers.errors import BadInput, NotFound
from resolvers.names import generate_name
from resolvers.queue.entries import copy_run_fields
from resolvers.queue.slot_waiters import wake_waiters_of_tags
from resolvers.transitions.concurrency_slots import SLOT_HOLDING_STATES


class Unchanged(Enum):
    """Type of `UNCHANGED`."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED
"""Value of a field that an update does not change, where None is a value of the field."""


@dataclass(frozen=True, slots=True)
class TaskRunUpdate:
    """Changes to a task run. None keeps the name, the tags and the priority. An empty name becomes a generated one."""

    id: str
    name: str | None = None
    tags: Sequence[str] | None = None
    priority: int | None = None
    metadata: JsonText | Unchanged | None = UNCHANGED
    expires_at: str | Unchanged | None = UNCHANGED


def update_task_runs(connection: Connection, updates: Sequence[TaskRunUpdate]) -> list[TaskRunRecord | Exception]:
    """Update task runs, in order, and return them. `updated` is always set.

    Returns NotFound for an unknown id, and BadInput for an expiry that is not in the future or that the run cannot have.
    A run keeps the slots that it holds when its tags change; the new tags count when it next enters RUNNING.
    """
    ids = [update.id for update in updates]
    task_runs.lock_task_runs(connection, ids)
    found = task_runs.task_runs_by_id(connection, ids)
    entries = queue.queue_entries_by_run(connection, ids) if any(map(_concerns_queue, updates)) else {}
    changed, released_tags = dict[str, TaskRunRecord](), set[str]()
    results: list[TaskRunRecord | Exception] = []
    for update in updates:
        run = found.get(update.id)
        if run is None:
            results.append(NotFound("id", "task run", update.id))
            continue
        if (refusal := _refuse_expiry(run, update, connection.now)) is not None:
            results.append(refusal)
            continue
        released_tags |= _released_tags(run, update)
        _apply(run, update, connection.now)
        if isinstance(update.expires_at, str):
            connection.notify([DeadlineSet(update.expires_at)])
        changed[run.id] = run
        # A later update may change the same run, and each caller must see its own change.
        results.append(copy(run))
    task_runs.update_editable_columns(connection, list(changed.values()))
    _update_entries(connection, [(changed[id], entry) for id, entry in entries.items() if id in changed])
    wake_waiters_of_tags(connection, sorted(released_tags))
    return results


def _concerns_queue(update: TaskRunUpdate) -> bool:
    return update.tags is not None or update.priority is not None or update.expires_at is not UNCHANGED


def refuse_past_expiry(path: str, expires_at: str | None, now: str) -> BadInput | None:
    """Return the refusal of an expiry that is not in the future; None when it is, or when there is no expiry."""
    if expires_at is None or expires_at > now:
        return None
    return BadInput(path, f"must be in the future; got {expires_at}, and it is {now}.")


def _refuse_expiry(run: TaskRunRecord, update: TaskRunUpdate, now: str) -> BadInput | None:
    if not isinstance(update.expires_at, str):
        return None
    if run.flow_run_id is not None:
        return BadInput("input.expiresAt", "cannot be set for a task run of a flow run.")
    return refuse_past_expiry("input.expiresAt", update.expires_at, now)


def _released_tags(run: TaskRunRecord, update: TaskRunUpdate) -> set[str]:
    """Return the tags that the run loses without holding their slots. It may have been woken for one of these slots."""
    if update.tags is None or run.state_type in SLOT_HOLDING_STATES:
        return set()
    return set(run.tags) - set(update.tags)


def _apply(run: TaskRunRecord, update: TaskRunUpdate, now: str) -> None:
    run.updated = now
    if update.name is not None:
        run.name = update.name or generate_name()
    if update.tags is not None:
        holds_slots = run.state_type in SLOT_HOLDING_STATES
        run.slot_tags_json = to_json(sorted(run.limiting_tags)) if holds_slots else None
        run.tags_json = to_json(list(update.tags))
    if update.priority is not None:
        run.priority = update.priority
    if update.metadata is not UNCHANGED:
        run.metadata = update.metadata
    if update.expires_at is not UNCHANGED:
        run.expires_at = update.expires_at


def _update_entries(connection: Connection, queued_runs: Sequence[tuple[TaskRunRecord, QueueEntryRecord]]) -> None:
    """Copy the changes of queued runs to their entries. A run that loses the tag that it waits for is due again."""
    changed: list[QueueEntryRecord] = []
    for run, entry in queued_runs:
        is_changed = copy_run_fields(run, entry)
        if entry.lease_id is None and entry.waits_for_tag is not None and entry.waits_for_tag not in run.tags:
            entry.available_at, entry.waits_for_tag = min(entry.available_at, connection.now), None
            connection.notify([WorkAvailable(entry.task_key)])
            is_changed = True
        if is_changed:
            changed.append(entry)
    queue.update_queue_entries(connection, changed)

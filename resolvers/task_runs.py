"""Task runs: create, read, delete."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from db.connection import Connection, LeaseEnded, LeaseSettled, Row, TaskRunEnded
from db.enums import StateType
from db.query.filters import TASK_RUN_FIELDS, Filter, has_condition
from db.query.pagination import OLDEST_FIRST, PageWindow, read_page
from db.records import JsonText, QueueEntryRecord, StateRecord, TaskRunPolicy, TaskRunRecord, to_json
from db.runtime.ids import new_id
from db.runtime.timestamps import seconds_after
from db.statements import concurrency_limits, flow_runs, queue, states, task_runs
from resolvers.actor import request_actor
from resolvers.errors import BadInput, CreationRefused, NotFound, QueueFull, Refusal, deletion_results
from resolvers.names import generate_name
from resolvers.orchestration.policy import task_run_creation_policy
from resolvers.orchestration.transition import ProposedState
from resolvers.queue.capacity import QueueCapacity
from resolvers.queue.entries import entered_side
from resolvers.queue.slot_waiters import wake_waiters_of_tags
from resolvers.task_run_updates import refuse_past_expiry
from resolvers.trace_context import trace_parent
from resolvers.transitions.batch import TaskRunTransitions
from resolvers.transitions.unique_keys import UniqueKeyLedger

DEFAULT_STATE = ProposedState(StateType.PENDING, StateType.PENDING.default_name)
"""State of a run that is created without a state."""


@dataclass(frozen=True, slots=True)
class NewTaskRun:
    """A task run to create."""

    task_key: str
    dynamic_key: str
    flow_run_id: str | None = None
    name: str | None = None
    task_version: str | None = None
    cache_key: str | None = None
    cache_expires_at: str | None = None
    retry_policy: TaskRunPolicy = field(default_factory=TaskRunPolicy)
    tags: Sequence[str] = ()
    task_inputs: JsonText = "{}"
    parameters: JsonText | None = None
    state: ProposedState = DEFAULT_STATE
    trace_parent: str | None = field(default_factory=trace_parent.get)
    """`traceparent` of the request that creates the run."""
    actor: str | None = field(default_factory=request_actor.get)
    """The client that creates the run; None when the server creates it."""
    delay_seconds: float | None = None
    """Time from the creation to the scheduled time of the first state, which is SCHEDULED; None for no delay."""
    priority: int = 0
    expires_at: str | None = None
    timeout_seconds: float | None = None
    unique_key: str | None = None
    metadata: JsonText | None = None

    @property
    def key(self) -> task_runs.TaskRunKey:
        return self.flow_run_id, self.task_key, self.dynamic_key


@dataclass(frozen=True, slots=True)
class CreatedTaskRun:
    """The new task run, or the existing task run with the same keys."""

    task_run: TaskRunRecord
    created: bool


def create_task_runs(
    connection: Connection, new_runs: Sequence[NewTaskRun], capacity: QueueCapacity | None = None
) -> list[CreatedTaskRun | Exception]:
    """Create task runs, or return the existing task runs with the same keys unchanged.

    A run that has not ended and has the same unique key counts as existing too. The rules apply to the first state as to
    every other. Returns NotFound when the flow run does not exist, BadInput when the run has expired already, QueueFull
    when a queue has reached its limit, and CreationRefused when the rules do not accept the state. Without `capacity`,
    queues have no limit.
    """
    new_runs = [_with_delay(each, connection.now) for each in new_runs]
    by_key = task_runs.task_runs_by_key(connection, [each.key for each in new_runs])
    flow_run_ids = {each.flow_run_id for each in new_runs if each.flow_run_id is not None}
    existing = flow_runs.existing_flow_runs(connection, sorted(flow_run_ids)) if flow_run_ids else set[str]()
    results: list[CreatedTaskRun | Exception] = []
    records = [build_task_run(new, connection.now) for new in new_runs]
    # Only a run that is created as RUNNING can take slots.
    running = [run for run, new in zip(records, new_runs, strict=True) if new.state.type is StateType.RUNNING]
    transitions = TaskRunTransitions.load(connection, running, [new.state for new in new_runs])
    transitions.unique_keys = UniqueKeyLedger.load(connection, records)
    if capacity is not None:
        sides = [entered_side(run, new.state, None) for run, new in zip(records, new_runs, strict=True)]
        transitions.reservation = capacity.begin_reservation(connection, filter(None, sides), argument="taskKey")
    for index, new in enumerate(new_runs):
        if (run := by_key.get(new.key)) is not None:
            results.append(CreatedTaskRun(run, created=False))
        elif new.flow_run_id is not None and new.flow_run_id not in existing:
            results.append(NotFound("flowRunId", "flow run", new.flow_run_id))
        elif (holder := transitions.unique_keys.other_holder(records[index])) is not None:
            results.append(CreatedTaskRun(holder, created=False))
        elif (expired := refuse_past_expiry("expiresAt", new.expires_at, connection.now)) is not None:
            results.append(expired)
        else:
            run = records[index]
            policy = task_run_creation_policy(in_flow_run=new.flow_run_id is not None)
            try:
                decision, state = transitions.propose(
                    policy, run, new.state, flow_run=None, entry=None, lease_id=None, actor=new.actor
                )
            except QueueFull as refusal:
                results.append(refusal)
                continue
            if state is None:
                results.append(CreationRefused(decision.reason or ""))
                continue
            by_key[new.key] = run
            results.append(CreatedTaskRun(run, created=True))
    task_runs.insert_task_runs(connection, transitions.changed_runs)
    transitions.write_changes(connection)
    entries = {entry.task_run_id: entry for entry in transitions.queue_changes.inserted}
    for run in transitions.changed_runs:
        run.loaded_queue_entry = [entries[run.id]] if run.id in entries else []
    return results


def create_all_task_runs(
    connection: Connection, batches: Sequence[Sequence[NewTaskRun]], capacity: QueueCapacity | None = None
) -> list[list[CreatedTaskRun] | Exception]:
    """Create each batch of task runs atomically, as `create_task_runs` does. One refusal refuses its whole batch."""
    results: list[list[CreatedTaskRun] | Exception] = []
    for batch in batches:
        try:
            with connection.savepoint():
                results.append(_all_or_raise(create_task_runs(connection, batch, capacity)))
        except Refusal as refusal:
            results.append(refusal)
    return results


def _all_or_raise(results: list[CreatedTaskRun | Exception]) -> list[CreatedTaskRun]:
    created: list[CreatedTaskRun] = []
    for index, result in enumerate(results):
        if isinstance(result, Refusal):
            result.argument = f"{index}.{result.argument}"
        if isinstance(result, Exception):
            raise result
        created.append(result)
    return created


def _with_delay(new: NewTaskRun, now: str) -> NewTaskRun:
    """Set the scheduled time that the delay of the run results in."""
    if new.delay_seconds is None:
        return new
    details = replace(new.state.details, scheduled_time=seconds_after(now, new.delay_seconds))
    return replace(new, state=replace(new.state, details=details))


def build_task_run(new: NewTaskRun, now: str) -> TaskRunRecord:
    """Build the record of a task run that has no state yet."""
    delays = new.retry_policy.retry_delay_seconds
    return TaskRunRecord(
        id=new_id(now),
        created=now,
        updated=now,
        name=new.name or generate_name(),
        tags_json=to_json(list(new.tags)),
        state_id=None,
        state_type=None,
        state_name=None,
        state_timestamp=None,
        run_count=0,
        expected_start_time=None,
        next_scheduled_start_time=None,
        start_time=None,
        end_time=None,
        total_run_time_seconds=0.0,
        task_key=new.task_key,
        dynamic_key=new.dynamic_key,
        flow_run_id=new.flow_run_id,
        task_version=new.task_version,
        cache_key=new.cache_key,
        cache_expiration=new.cache_expires_at,
        retries=new.retry_policy.retries,
        retry_delay_seconds_json=None if delays is None else to_json(delays),
        retry_jitter_factor=new.retry_policy.retry_jitter_factor,
        task_inputs=new.task_inputs,
        parameters=new.parameters,
        flow_run_run_count=0,
        trace_parent=new.trace_parent,
        priority=new.priority,
        expires_at=new.expires_at,
        timeout_seconds=new.timeout_seconds,
        unique_key=new.unique_key,
        metadata=new.metadata,
    )


def delete_task_runs(connection: Connection, ids: Sequence[str]) -> list[str | Exception]:
    """Delete task runs with their states, queue entries, slots and cached results. Their leases end.

    Returns NotFound for an unknown id.
    """
    task_runs.lock_task_runs(connection, ids)
    existing = task_runs.existing_task_runs(connection, ids)
    leased = queue.queue_entries_by_run(connection, ids).values()
    # A deleted run frees its slots, or could have taken the slot that it was woken for.
    limited_tags = concurrency_limits.limited_tags_of_task_runs(connection, ids)
    task_runs.delete_task_runs(connection, ids)
    wake_waiters_of_tags(connection, limited_tags)
    for entry in leased:
        if entry.lease_id is not None:
            connection.notify([LeaseSettled(entry.lease_id), LeaseEnded(entry.lease_id)])
    connection.notify(TaskRunEnded(id) for id in existing)
    return deletion_results("task run", ids, existing)


@dataclass(frozen=True, slots=True)
class FilteredDeletion:
    """A request to delete the runs that match a filter, oldest first, at most `limit` of them."""

    filter: Filter
    limit: int


@dataclass(frozen=True, slots=True)
class FilteredDeletionResult:
    """Number of runs that were examined and deleted, and whether more runs match the filter."""

    matched: int
    deleted: int
    has_more: bool


def read_task_run_row(connection: Connection, id: str, paths: tuple[str, ...]) -> tuple[Row | None, str]:
    """Return the columns of `paths` for one task run, and the time of the read.

    The row is None if no task run has the id.
    """
    return task_runs.task_run_row(connection, id, paths), connection.now


def delete_filtered_task_runs(
    connection: Connection, deletions: Sequence[FilteredDeletion]
) -> list[FilteredDeletionResult | Exception]:
    """Delete the matching runs as `delete_task_runs` does.

    Returns BadInput for a filter without a condition, which would match every run.
    """
    results: list[FilteredDeletionResult | Exception] = []
    for deletion in deletions:
        try:
            ids, has_more = _find_deletable(connection, deletion)
        except BadInput as refusal:
            results.append(refusal)
            continue
        if ids:
            delete_task_runs(connection, ids)
        results.append(FilteredDeletionResult(len(ids), len(ids), has_more))
    return results


def count_deletions(connection: Connection, deletion: FilteredDeletion) -> FilteredDeletionResult:
    """Return the result of `delete_filtered_task_runs` without deleting anything.

    Raises BadInput for a filter without a condition.
    """
    ids, has_more = _find_deletable(connection, deletion)
    return FilteredDeletionResult(len(ids), 0, has_more)


def _find_deletable(connection: Connection, deletion: FilteredDeletion) -> tuple[list[str], bool]:
    """Return the ids of the runs to delete, and whether more runs match the filter."""
    if not has_condition(deletion.filter, TASK_RUN_FIELDS):
        raise BadInput(
            "filter", "must have at least one condition. To delete all task runs, use {id: {isNull: false}}."
        )
    window = PageWindow(deletion.limit)
    page = read_page(
        connection, task_runs.TASK_RUNS, deletion.filter, OLDEST_FIRST, window, selection=task_runs.NO_COLUMNS
    )
    return [id for _, id in page.rows], page.has_more


def read_task_runs(connection: Connection, ids: Sequence[str]) -> list[TaskRunRecord | None]:
    found = task_runs.task_runs_by_id(connection, ids)
    return [found.get(id) for id in ids]


def read_histories(connection: Connection, ids: Sequence[str]) -> list[list[StateRecord]]:
    """Return the states of each of these task runs, oldest first."""
    found = states.task_run_histories(connection, ids)
    return [found[id] for id in ids]


def read_queue_entries(connection: Connection, ids: Sequence[str]) -> list[QueueEntryRecord | None]:
    found = queue.queue_entries_by_run(connection, ids)
    return [found.get(id) for id in ids]

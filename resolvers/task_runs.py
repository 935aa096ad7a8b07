"""Task runs: create, read, rename, delete."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field

from db.connection import Connection, LeaseSettled, Row
from db.enums import StateType
from db.query.filters import TASK_RUN_FIELDS, Filter, has_condition
from db.query.pagination import OLDEST_FIRST, Window, read_page
from db.records import JsonText, QueueEntryRecord, StateRecord, TaskRunPolicy, TaskRunRecord, to_json
from db.runtime.ids import new_id
from db.statements import concurrency_limits, flow_runs, queue, states, task_runs
from resolvers.errors import BadInput, Conflict, CreationRefused, NotFound, QueueFull, Refusal, deletions
from resolvers.names import make_up_name
from resolvers.orchestration.policy import task_run_creation_policy
from resolvers.orchestration.transition import ProposedState
from resolvers.queue.capacity import QueueBounds
from resolvers.queue.entries import make_due_for_slots, side_joined
from resolvers.trace_context import trace_parent
from resolvers.transitions.batch import TaskRunMoves

FIRST_STATE = ProposedState(StateType.PENDING, StateType.PENDING.default_name)
"""The state of a run that is created without one."""


@dataclass(frozen=True, slots=True)
class NewTaskRun:
    """A task run that somebody wants to have."""

    task_key: str
    dynamic_key: str
    flow_run_id: str | None = None
    name: str | None = None
    task_version: str | None = None
    cache_key: str | None = None
    cache_expiration: str | None = None
    policy: TaskRunPolicy = field(default_factory=TaskRunPolicy)
    tags: Sequence[str] = ()
    task_inputs: JsonText = "{}"
    parameters: JsonText | None = None
    state: ProposedState = FIRST_STATE
    trace_parent: str | None = field(default_factory=trace_parent.get)
    """The span of the request that wants it."""

    @property
    def key(self) -> task_runs.TaskRunKey:
        return self.flow_run_id, self.task_key, self.dynamic_key


@dataclass(frozen=True, slots=True)
class CreatedTaskRun:
    """The run that has the keys asked for, and whether this call made it."""

    task_run: TaskRunRecord
    created: bool


def create_task_runs(
    connection: Connection, wanted: Sequence[NewTaskRun], bounds: QueueBounds | None = None
) -> list[CreatedTaskRun | Exception]:
    """Make the runs, or find those that have the same keys; of a known one nothing of the request is applied.

    The first state is orchestrated as any other. Conflict where the flow run is not there; QueueFull where a queue would
    go beyond its bounds.
    """
    known = task_runs.task_runs_by_key(connection, [each.key for each in wanted])
    named = {each.flow_run_id for each in wanted if each.flow_run_id is not None}
    existing = flow_runs.existing_flow_runs(connection, sorted(named)) if named else set[str]()
    results: list[CreatedTaskRun | Exception] = []
    blanks = [blank_task_run(new, connection.now) for new in wanted]
    # What does not run yet holds no slot, and asks for none.
    running = [run for run, new in zip(blanks, wanted, strict=True) if new.state.type is StateType.RUNNING]
    moves = TaskRunMoves.load(connection, running, [new.state for new in wanted])
    if bounds is not None:
        sides = [side_joined(run, new.state, None) for run, new in zip(blanks, wanted, strict=True)]
        moves.room = bounds.room(connection, filter(None, sides), argument="taskKey")
    for place, new in enumerate(wanted):
        if (run := known.get(new.key)) is not None:
            results.append(CreatedTaskRun(run, created=False))
        elif new.flow_run_id is not None and new.flow_run_id not in existing:
            results.append(Conflict("flowRunId", "flow run", new.flow_run_id))
        else:
            run = blanks[place]
            policy = task_run_creation_policy(in_flow_run=new.flow_run_id is not None)
            try:
                decision, state = moves.propose(policy, run, new.state, flow_run=None, entry=None, lease_id=None)
            except QueueFull as refusal:
                results.append(refusal)
                continue
            if state is None:
                results.append(CreationRefused(decision.reason or ""))
                continue
            known[new.key] = run
            results.append(CreatedTaskRun(run, created=True))
    task_runs.insert_task_runs(connection, moves.moved)
    moves.write_changes(connection)
    entries = {entry.task_run_id: entry for entry in moves.placements.inserted}
    for run in moves.moved:
        run.known_entry = [entries[run.id]] if run.id in entries else []
    return results


def create_all_task_runs(
    connection: Connection, batches: Sequence[Sequence[NewTaskRun]], bounds: QueueBounds | None = None
) -> list[list[CreatedTaskRun] | Exception]:
    """As `create_task_runs` for each batch, but all or nothing: one refusal refuses its whole batch."""
    results: list[list[CreatedTaskRun] | Exception] = []
    for batch in batches:
        try:
            with connection.savepoint():
                results.append(_all_or_raise(create_task_runs(connection, batch, bounds)))
        except Refusal as refusal:
            results.append(refusal)
    return results


def _all_or_raise(results: list[CreatedTaskRun | Exception]) -> list[CreatedTaskRun]:
    made: list[CreatedTaskRun] = []
    for place, result in enumerate(results):
        if isinstance(result, Refusal):
            result.argument = f"{place}.{result.argument}"
        if isinstance(result, Exception):
            raise result
        made.append(result)
    return made


def blank_task_run(new: NewTaskRun, now: str) -> TaskRunRecord:
    """The run as it is before its first state."""
    delays = new.policy.retry_delay_seconds
    return TaskRunRecord(
        id=new_id(),
        created=now,
        updated=now,
        name=new.name or make_up_name(),
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
        cache_expiration=new.cache_expiration,
        retries=new.policy.retries,
        retry_delay_seconds_json=None if delays is None else to_json(delays),
        retry_jitter_factor=new.policy.retry_jitter_factor,
        task_inputs=new.task_inputs,
        parameters=new.parameters,
        flow_run_run_count=0,
        trace_parent=new.trace_parent,
    )


@dataclass(frozen=True, slots=True)
class TaskRunUpdate:
    """What is to be different about a task run; None leaves it, an empty name makes up a fresh one."""

    id: str
    name: str | None


def update_task_runs(connection: Connection, updates: Sequence[TaskRunUpdate]) -> list[TaskRunRecord | Exception]:
    """The runs as they are then. `updated` moves even where nothing else does. NotFound for a run that is not there."""
    found = task_runs.task_runs_by_id(connection, [update.id for update in updates])
    results: list[TaskRunRecord | Exception] = []
    for update in updates:
        run = found.get(update.id)
        if run is None:
            results.append(NotFound("task run", update.id))
            continue
        run.updated = connection.now
        if update.name is not None:
            run.name = update.name or make_up_name()
        # A copy: the same run may be named again, and each caller is to see its own change.
        results.append(copy(run))
    # In this order, as all who change runs.
    task_runs.rename_task_runs(connection, [found[id] for id in sorted(found)])
    return results


def delete_task_runs(connection: Connection, ids: Sequence[str]) -> list[str | Exception]:
    """Delete the runs with all that is theirs; a lease on one is lost. NotFound for a run that is not there."""
    task_runs.lock_task_runs(connection, ids)
    there = task_runs.existing_task_runs(connection, ids)
    leased = queue.queue_entries_by_run(connection, ids).values()
    freed = concurrency_limits.tags_held_by_task_runs(connection, ids)
    task_runs.delete_task_runs(connection, ids)
    make_due_for_slots(connection, freed)
    connection.announce(LeaseSettled(entry.lease_id) for entry in leased if entry.lease_id is not None)
    return deletions("task run", ids, there)


@dataclass(frozen=True, slots=True)
class FilteredDeletion:
    """That the runs which a filter lets through are to be deleted, the oldest first, so many at most."""

    filter: Filter
    limit: int


@dataclass(frozen=True, slots=True)
class FilteredDeletionResult:
    """How many runs were deleted, and whether there are more that the filter lets through."""

    count: int
    has_more: bool


def read_task_run_row(connection: Connection, id: str, paths: tuple[str, ...]) -> tuple[Row | None, str]:
    """The columns that `paths` name of one run, None where none has this id; and when that was."""
    return task_runs.task_run_row(connection, id, paths), connection.now


def delete_filtered_task_runs(
    connection: Connection, deletions: Sequence[FilteredDeletion]
) -> list[FilteredDeletionResult | Exception]:
    """Delete the runs with all that is theirs. BadInput for a filter without a condition, which would delete all."""
    results: list[FilteredDeletionResult | Exception] = []
    for deletion in deletions:
        try:
            ids, result = _found(connection, deletion)
        except BadInput as refusal:
            results.append(refusal)
            continue
        if ids:
            delete_task_runs(connection, ids)
        results.append(result)
    return results


def count_deletions(connection: Connection, deletion: FilteredDeletion) -> FilteredDeletionResult:
    """What `delete_filtered_task_runs` would answer. Deletes nothing."""
    return _found(connection, deletion)[1]


def _found(connection: Connection, deletion: FilteredDeletion) -> tuple[list[str], FilteredDeletionResult]:
    if not has_condition(deletion.filter, TASK_RUN_FIELDS):
        raise BadInput("filter", "has no condition. To delete all task runs, say so: {id: {isNull: false}}.")
    window = Window(deletion.limit)
    page = read_page(
        connection, task_runs.TASK_RUNS, deletion.filter, OLDEST_FIRST, window, selection=task_runs.NO_COLUMNS
    )
    ids = [id for _, id in page.rows]
    return ids, FilteredDeletionResult(len(ids), page.goes_on)


def read_task_runs(connection: Connection, ids: Sequence[str]) -> list[TaskRunRecord | None]:
    found = task_runs.task_runs_by_id(connection, ids)
    return [found.get(id) for id in ids]


def read_histories(connection: Connection, ids: Sequence[str]) -> list[list[StateRecord]]:
    """The states that each of these task runs has had, oldest first."""
    found = states.task_run_histories(connection, ids)
    return [found[id] for id in ids]


def read_queue_entries(connection: Connection, ids: Sequence[str]) -> list[QueueEntryRecord | None]:
    found = queue.queue_entries_by_run(connection, ids)
    return [found.get(id) for id in ids]

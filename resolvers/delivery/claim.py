"""The claim: leases due runs to subscribers that have credit, in one transaction.

The waiting runs of a task key that have one priority and are on one side of its queue are a *group*.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from db.connection import Connection
from db.records import QueueEntryRecord, TaskRunRecord
from db.runtime.ids import new_id
from db.runtime.memory_budget import ReadTooLarge
from db.runtime.timestamps import seconds_after
from db.statements import queue, queue_pauses, task_runs
from db.statements.due_entries import due_entries, next_due_at
from resolvers.actor import request_actor
from resolvers.batch_size import limit_read_size
from resolvers.delivery.run_starts import StartCheck, end_without_delivery, start_runs
from resolvers.delivery.slot_check import SlotCheck
from resolvers.queue.entries import has_expired
from resolvers.queue.multi_queue import MultiQueue
from resolvers.queue.slot_waiters import wake_waiters

MAX_CLAIM_SIZE = 500
"""Maximum number of runs in one claim, because other writers wait for its transaction."""

LOOKAHEAD = 4
"""Number of runs that a claim reads of each group of a queue beyond the task key's share of the credit."""

MAX_READS = 3
"""Maximum number of times that a claim reads due runs."""

HOLD_BACK_SIZE = 100
"""Number of runs that a claim reads of each group of a queue after it has held runs back."""

Group = tuple[str, int, bool]
"""Task key, priority, and whether the runs are on the retry side."""

Assignments = list[tuple["Demand", QueueEntryRecord]]
"""Queued runs with the demands that they are assigned to."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Task keys and credit of one subscriber."""

    subscriber: int
    task_keys: frozenset[str]
    credit: int
    lease_seconds: float
    worker_name: str | None
    starts: bool = False
    """Whether the claim starts the runs: they are RUNNING when they are delivered."""
    actor: str | None = field(default_factory=request_actor.get)
    """The client whose request claims the runs. The states that start them have it."""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """The demands of all subscribers of this server that have credit."""

    demands: Sequence[Demand]
    key_order: Sequence[str]
    """All keys of the demands, in the order in which they are served."""
    acknowledge_seconds: float
    """Time limit for acknowledging a delivery, in seconds."""
    max_runs: int = MAX_CLAIM_SIZE
    """Maximum number of runs to claim."""
    consecutive_retries: Mapping[str, int] = field(default_factory=dict[str, int])
    """`consecutive_retries` of the last claim of each key."""
    reads_next_due: bool = True
    """Whether `Claim.next_due_at` is needed. Without it, the claim may take one statement less."""

    @property
    def starts(self) -> bool:
        """Whether the claim may start runs."""
        return any(demand.starts for demand in self.demands)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A claimed run and its lease, for one subscriber."""

    subscriber: int
    lease_id: str
    lease_expires_at: str
    attempt: int
    task_run: TaskRunRecord


@dataclass(frozen=True, slots=True)
class Claim:
    """Result of a claim."""

    deliveries: list[Delivery]
    """Deliveries in the order in which the runs were assigned."""
    consecutive_retries: dict[str, int]
    """For each key, the number of deliveries from its retry side since the last one from its scheduled side."""
    is_truncated: bool
    """Whether the claim reached `max_runs` while the demands had more credit."""
    next_due_at: dict[str, str]
    """Due time of the next waiting run of each key that has one. It may have passed. Empty unless it was requested.

    A key of which as many runs were claimed as could be read is assumed to have another one that is due.
    """
    is_contended: bool
    """Whether a due run was skipped, because another server may be claiming it or changing a limit on its tags."""
    held_back: int
    """Number of due runs that now wait for a concurrency slot, because a limit on their tags is full."""
    expired: int
    """Number of due runs that have expired. They are CANCELLED now."""
    has_more: bool
    """Whether more runs may be due that were not read, because too many before them were held back, completed or expired."""
    changed_ids: frozenset[str]
    """Ids of the runs whose states the claim has set: those that it has started, completed or cancelled."""


@dataclass(frozen=True, slots=True)
class _Assigned:
    """Result of assigning due runs to the demands of a claim."""

    assignments: Assignments
    multi_queue: MultiQueue
    """The due runs that were read and are left."""
    full_keys: list[str]
    """Keys of which no more runs were read: more may be due."""
    check: StartCheck
    held_back: int
    """As in `Claim`."""
    expired: int
    """As in `Claim`."""
    has_more: bool
    """As in `Claim`."""
    ended_ids: set[str]
    """Ids of the runs that have been completed or cancelled."""


class ClaimTooLarge(ReadTooLarge):
    """The runs that an exchange would claim exceed the read limit. A smaller claim may succeed."""


def claim_due_runs(connection: Connection, requests: Sequence[ClaimRequest]) -> list[Claim | Exception]:
    """Lease due runs to the demands, in round robin over the task keys and over the subscribers of each key.

    A new lease lasts for `acknowledge_seconds`. Acknowledging it extends it to the `lease_seconds` of its demand.
    For demands that start runs, the rules decide RUNNING for each run in the same transaction. Runs that do not start are
    not delivered, and neither are runs whose queue is paused. Runs that have expired are cancelled. No row that another
    transaction has locked delays the claim.
    """
    queue_pauses.lock_for_claim(connection)
    return [_claim(connection, request) for request in requests]


def _claim(connection: Connection, request: ClaimRequest) -> Claim:
    demanded = sum(demand.credit for demand in request.demands)
    credit = min(demanded, request.max_runs)
    expires_at = seconds_after(connection.now, request.acknowledge_seconds)
    assigned = _assign_due_runs(connection, request, credit)
    assignments, multi_queue = assigned.assignments, assigned.multi_queue
    with limit_read_size(connection, request.max_runs):
        runs = (
            task_runs.task_runs_by_id(connection, [entry.task_run_id for _, entry in assignments])
            if assignments
            else {}
        )
    _lease(connection, assignments, runs, expires_at)
    to_start = [(entry, runs[entry.task_run_id], demand.actor) for demand, entry in assignments if demand.starts]
    started = start_runs(connection, assigned.check, to_start)
    next_due_at = _next_due_at(connection, request, assigned) if request.reads_next_due else {}
    return Claim(
        deliveries=[
            Delivery(demand.subscriber, entry.lease_id or "", expires_at, entry.attempt, runs[entry.task_run_id])
            for demand, entry in assignments
            if not demand.starts or entry.task_run_id in started
        ],
        consecutive_retries=multi_queue.consecutive_retries,
        is_truncated=len(assignments) == credit < demanded,
        next_due_at=next_due_at,
        is_contended=not assigned.has_more
        and any(
            key in next_due_at and next_due_at[key] <= connection.now for key in _unsatisfied_keys(request, assignments)
        ),
        held_back=assigned.held_back,
        expired=assigned.expired,
        has_more=assigned.has_more,
        changed_ids=frozenset(assigned.ended_ids | started),
    )


def _lease(
    connection: Connection, assignments: Assignments, runs: Mapping[str, TaskRunRecord], expires_at: str
) -> None:
    """Lease the runs to their demands. The entries of runs to start are stored with their new states."""
    for demand, entry in assignments:
        entry.lease_id = new_id(connection.now, after=runs[entry.task_run_id].state_id)
        entry.lease_seconds, entry.lease_expires_at = demand.lease_seconds, expires_at
        entry.worker_name, entry.attempt = demand.worker_name, entry.attempt + 1
    queue.update_queue_entries(connection, [entry for demand, entry in assignments if not demand.starts])


def _assign_due_runs(connection: Connection, request: ClaimRequest, credit: int) -> _Assigned:
    """Assign due runs to the demands, and settle those that cannot be delivered.

    The result is the same as if all due runs had been read. Other servers skip the runs that are read, because they stay
    locked until the commit. Each group is therefore read only up to its key's share of the credit and LOOKAHEAD more.
    When all runs read from a group are assigned or not admitted, every group is read again up to the full credit, or up to
    HOLD_BACK_SIZE when runs were not admitted. After MAX_READS, the next claim continues, and runs of lower priority than
    an incomplete group wait for it.
    """
    keys = request.key_order
    per_group = min(credit, ceil(credit / len(keys)) + LOOKAHEAD)
    held_back = expired = reads = 0
    ended_ids: set[str] = set()
    while True:
        reads += 1
        due = _read_due_runs(connection, request, per_group)
        check = _check_due_runs(connection, request, due)
        multi_queue = MultiQueue.of(due, keys, request.consecutive_retries)
        assignments = assign_round_robin(
            multi_queue,
            request.demands,
            max_runs=credit,
            admits=lambda entry, demand, check=check: check.admits(entry, starts=demand.starts, actor=demand.actor),
        )
        _write_held_back(connection, check.slots)
        end_without_delivery(connection, check)
        held_back += len(check.slots.held_back)
        expired += len(check.expired)
        ended_ids.update(entry.task_run_id for entry in (*check.cached, *check.expired))
        not_admitted = check.not_admitted
        used = Counter(_group_of(entry) for entry in (*(entry for _, entry in assignments), *not_admitted))
        full_groups = [group for group, count in used.items() if count == per_group]
        may_have_more = bool(full_groups) and (bool(not_admitted) or per_group < credit)
        if may_have_more:
            assignments = _without_overtaking(assignments, full_groups)
        if reads == MAX_READS or len(assignments) == credit or not may_have_more:
            has_more = may_have_more and len(assignments) < credit and check.has_settled
            full_keys = list(dict.fromkeys(key for key, _, _ in full_groups))
            return _Assigned(assignments, multi_queue, full_keys, check, held_back, expired, has_more, ended_ids)
        # Runs that were skipped are read again.
        per_group = max(credit, HOLD_BACK_SIZE) + len(check.skipped) if not_admitted else credit


def _read_due_runs(connection: Connection, request: ClaimRequest, per_group: int) -> list[QueueEntryRecord]:
    due = due_entries(connection, request.key_order, per_group, locks_runs=request.starts)
    if request.starts or not any(has_expired(entry, connection.now) for entry in due):
        return due
    # The claim ends the expired runs, which it must lock for that.
    return due_entries(connection, request.key_order, per_group, locks_runs=True)


def _without_overtaking(assignments: Assignments, full_groups: Iterable[Group]) -> Assignments:
    """Drop the assignments of runs that have a lower priority than a group of their key of which more may be due."""
    highest: dict[str, int] = {}
    for key, priority, _ in full_groups:
        highest[key] = max(priority, highest.get(key, priority))
    return [each for each in assignments if each[1].priority >= highest.get(each[1].task_key, each[1].priority)]


def _check_due_runs(connection: Connection, request: ClaimRequest, due: Sequence[QueueEntryRecord]) -> StartCheck:
    if not request.starts:
        return StartCheck(SlotCheck.load(connection, due), connection.now)
    with limit_read_size(connection, request.max_runs):
        return StartCheck.load(connection, due)


def _write_held_back(connection: Connection, slots: SlotCheck) -> None:
    """Let the runs that were held back wait for a slot, and wake others for slots that those could not take."""
    queue.update_queue_entries(connection, slots.held_back)
    wake_waiters(connection, slots.free_slots)


def _group_of(entry: QueueEntryRecord) -> Group:
    return entry.task_key, entry.priority, entry.is_retry


def _next_due_at(connection: Connection, request: ClaimRequest, assigned: _Assigned) -> dict[str, str]:
    """Return when the next run of each key is due. The next claim skips keys without a due run."""
    known = assigned.multi_queue.next_due_at
    if len(assigned.assignments) > 1:
        # After a single run, the statement is better: usually nothing more is due, and the next claim would find nothing.
        known = dict.fromkeys(assigned.full_keys, connection.now) | known
    unknown = [key for key in request.key_order if key not in known]
    return known | next_due_at(connection, unknown) if unknown else known


def _unsatisfied_keys(request: ClaimRequest, assignments: Assignments) -> frozenset[str]:
    """Return the keys of the demands that have credit left."""
    served = Counter(demand.subscriber for demand, _ in assignments)
    return keys_of(demand for demand in request.demands if demand.credit > served[demand.subscriber])


def keys_of(demands: Iterable[Demand]) -> frozenset[str]:
    """Return the task keys that any of the demands has."""
    return frozenset[str]().union(*(demand.task_keys for demand in demands))


def assign_round_robin(
    multi_queue: MultiQueue,
    demands: Sequence[Demand],
    *,
    max_runs: int = MAX_CLAIM_SIZE,
    admits: Callable[[QueueEntryRecord, Demand], bool] = lambda _entry, _demand: True,
) -> Assignments:
    """Assign at most `max_runs` runs, in round robin over the task keys and over the subscribers of each key.

    Runs that `admits` does not accept for the demand whose turn it is are skipped.
    """
    assignments: Assignments = []
    waiting = deque(demand for demand in demands if demand.credit > 0)
    wanted_keys = keys_of(waiting)
    while waiting and len(assignments) < max_runs:
        entry = multi_queue.take(wanted_keys, lambda each: admits(each, _next_demand(waiting, each)))
        if entry is None:
            break
        demand = _next_demand(waiting, entry)
        waiting.remove(demand)
        if demand.credit > 1:
            waiting.append(replace(demand, credit=demand.credit - 1))
        else:
            wanted_keys = keys_of(waiting)
        assignments.append((demand, entry))
    return assignments


def _next_demand(waiting: Iterable[Demand], entry: QueueEntryRecord) -> Demand:
    return next(demand for demand in waiting if entry.task_key in demand.task_keys)

"""The claim: leases due runs to subscribers that have credit, in one transaction."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from db.connection import Connection
from db.records import QueueEntryRecord, TaskRunRecord
from db.runtime.ids import new_id
from db.runtime.timestamps import seconds_after
from db.statements import queue, task_runs
from resolvers.batch_size import limit_read_size
from resolvers.delivery.slot_check import SlotCheck
from resolvers.queue.multi_queue import MultiQueue
from resolvers.queue.slot_waiters import wake_waiters
from resolvers.queue.task_queue import Admits, admit_all

MAX_CLAIM_SIZE = 500
"""Maximum number of runs in one claim, because other writers wait for its transaction."""

LOOKAHEAD_PER_SIDE = 4
"""Number of runs that a claim reads on each side of a queue beyond the task key's share of the credit."""

MAX_READS = 3
"""Maximum number of times that a claim reads due runs."""

HOLD_BACK_SIZE = 100
"""Number of runs that a claim reads on each side of a queue after it has held runs back."""

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
    next_due_at: str | None
    """Due time of the next waiting run with credit for its key; None when no such run exists. It may have passed."""
    is_contended: bool
    """Whether a due run was skipped, because another server may be claiming it or changing a limit on its tags."""
    held_back: int
    """Number of due runs that now wait for a concurrency slot, because a limit on their tags is full."""


def claim_due_runs(connection: Connection, requests: Sequence[ClaimRequest]) -> list[Claim | Exception]:
    """Lease due runs to the demands, in round robin over the task keys and over the subscribers of each key.

    A new lease lasts for `acknowledge_seconds`. Acknowledging it extends it to the `lease_seconds` of its demand.
    """
    return [_claim(connection, request) for request in requests]


def _claim(connection: Connection, request: ClaimRequest) -> Claim:
    demanded = sum(demand.credit for demand in request.demands)
    credit = min(demanded, request.max_runs)
    expires_at = seconds_after(connection.now, request.acknowledge_seconds)
    multi_queue, assignments, held_back = _assign_due_runs(connection, request, credit)
    for demand, entry in assignments:
        entry.lease_id = new_id(connection.now)
        entry.lease_seconds, entry.lease_expires_at = demand.lease_seconds, expires_at
        entry.worker_name, entry.attempt = demand.worker_name, entry.attempt + 1
    queue.update_queue_entries(connection, [entry for _, entry in assignments])
    with limit_read_size(connection, request.max_runs):
        runs = (
            task_runs.task_runs_by_id(connection, [entry.task_run_id for _, entry in assignments])
            if assignments
            else {}
        )
    keys = _unsatisfied_keys(request, assignments)
    next_due_at = queue.next_due_at(connection, keys) if keys else None
    return Claim(
        deliveries=[
            Delivery(demand.subscriber, entry.lease_id or "", expires_at, entry.attempt, runs[entry.task_run_id])
            for demand, entry in assignments
        ],
        consecutive_retries=multi_queue.consecutive_retries,
        is_truncated=len(assignments) == credit < demanded,
        next_due_at=next_due_at,
        is_contended=next_due_at is not None and next_due_at <= connection.now,
        held_back=held_back,
    )


def _assign_due_runs(connection: Connection, request: ClaimRequest, credit: int) -> tuple[MultiQueue, Assignments, int]:
    """Assign due runs to the demands. Return the remaining queues, the assignments and the number of runs held back.

    The result is the same as if all due runs had been read. Other servers skip the runs that are read, because they stay
    locked until the commit. Each side of a queue is therefore read only up to its key's share of the credit and
    LOOKAHEAD_PER_SIDE more. When all runs read from a side are assigned or held back, every side is read again up to the
    full credit, or up to HOLD_BACK_SIZE when runs were held back. After MAX_READS, the next claim continues.
    """
    keys = request.key_order
    per_side = min(credit, ceil(credit / len(keys)) + LOOKAHEAD_PER_SIDE)
    held_back = reads = 0
    while True:
        reads += 1
        due = queue.due_entries(connection, keys, per_side)
        slots = SlotCheck.load(connection, due)
        multi_queue = MultiQueue.of(due, keys, request.consecutive_retries)
        assignments = assign_round_robin(multi_queue, request.demands, max_runs=credit, admits=slots.admits)
        _write_held_back(connection, slots)
        held_back += len(slots.held_back)
        used = Counter(_side_of(entry) for entry in (*(entry for _, entry in assignments), *slots.held_back))
        may_have_more = per_side in used.values() and (slots.held_back or per_side < credit)
        if reads == MAX_READS or len(assignments) == credit or not may_have_more:
            return multi_queue, assignments, held_back
        per_side = max(credit, HOLD_BACK_SIZE) if slots.held_back else credit


def _write_held_back(connection: Connection, slots: SlotCheck) -> None:
    """Let the runs that were held back wait for a slot, and wake others for slots that those could not take."""
    queue.update_queue_entries(connection, slots.held_back)
    wake_waiters(connection, dict.fromkeys(slots.free_tags, 1))


def _side_of(entry: QueueEntryRecord) -> tuple[str, bool]:
    return entry.task_key, entry.is_retry


def _unsatisfied_keys(request: ClaimRequest, assignments: Assignments) -> list[str]:
    """Return the keys of the demands that have credit left."""
    served = Counter(demand.subscriber for demand, _ in assignments)
    unsatisfied = (demand.task_keys for demand in request.demands if demand.credit > served[demand.subscriber])
    return sorted(frozenset[str]().union(*unsatisfied))


def assign_round_robin(
    multi_queue: MultiQueue,
    demands: Sequence[Demand],
    *,
    max_runs: int = MAX_CLAIM_SIZE,
    admits: Admits = admit_all,
) -> Assignments:
    """Assign at most `max_runs` runs, in round robin over the task keys and over the subscribers of each key.

    Runs that `admits` does not accept are skipped.
    """
    assignments: Assignments = []
    waiting = deque(demand for demand in demands if demand.credit > 0)
    while waiting and len(assignments) < max_runs:
        wanted_keys = frozenset[str]().union(*(demand.task_keys for demand in waiting))
        entry = multi_queue.take(wanted_keys, admits)
        if entry is None:
            break
        index = next(index for index, demand in enumerate(waiting) if entry.task_key in demand.task_keys)
        demand = waiting[index]
        del waiting[index]
        if demand.credit > 1:
            waiting.append(replace(demand, credit=demand.credit - 1))
        assignments.append((demand, entry))
    return assignments

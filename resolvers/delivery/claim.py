"""The claim: due runs become deliveries, each under a lease, for whoever has credit; all in one transaction."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from db.connection import Connection
from db.records import QueueEntryRecord, TaskRunRecord
from db.runtime.ids import new_id
from db.runtime.timestamps import seconds_after
from db.statements import queue, task_runs
from resolvers.batch_size import reading_portion
from resolvers.queue.multi_queue import MultiQueue

LARGEST_CLAIM = 500
"""Runs in one claim: other writers wait for its transaction."""

SPARE = 4
"""How many runs of each side of a key a claim looks at beyond the key's share of the credit."""

Dealt = list[tuple["Demand", QueueEntryRecord]]
"""Who gets which run."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one subscriber may still be given."""

    subscriber: int
    task_keys: frozenset[str]
    credit: int
    lease_seconds: float
    worker_name: str | None


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """The demands of all local subscribers."""

    demands: Sequence[Demand]
    keys_in_turn: Sequence[str]
    """Every key that is demanded; the first has the first turn."""
    acknowledge_seconds: float
    """How long a delivery may stay unacknowledged."""
    most: int = LARGEST_CLAIM
    """How many runs to claim at the most."""
    retries_in_a_row: Mapping[str, int] = field(default_factory=dict[str, int])
    """What the last claim said of it, by key."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A run on its way to a worker, and the lease that it is under."""

    subscriber: int
    lease_id: str
    lease_expires_at: str
    attempt: int
    task_run: TaskRunRecord


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim has brought."""

    deliveries: list[Delivery]
    """In the order in which the runs were chosen."""
    retries_in_a_row: dict[str, int]
    """For each key, how many of its retry side have gone out since the last of its scheduled side."""
    is_cut_short: bool
    """Whether there was credit for more than might be claimed at once."""
    next_due_at: str | None
    """When another run of these keys comes due; None where none waits, or no credit is left for it."""
    is_contended: bool
    """Whether a run is due already that was passed over, since another server may be claiming it."""


def claim_due_runs(connection: Connection, requests: Sequence[ClaimRequest]) -> list[Claim | Exception]:
    """Lease due runs to the demands: fair over the keys, and over the subscribers of a key.

    A lease runs for `acknowledge_seconds` first; acknowledging it gives it the time that its worker asked for.
    """
    return [_claim(connection, request) for request in requests]


def _claim(connection: Connection, request: ClaimRequest) -> Claim:
    demanded = sum(demand.credit for demand in request.demands)
    credit = min(demanded, request.most)
    expires_at = seconds_after(connection.now, request.acknowledge_seconds)
    multi_queue, dealt = _choose(connection, request, credit)
    for demand, entry in dealt:
        entry.lease_id = new_id()
        entry.lease_seconds, entry.lease_expires_at = demand.lease_seconds, expires_at
        entry.worker_name, entry.attempt = demand.worker_name, entry.attempt + 1
        entry.waits_for_slot = False
    queue.update_queue_entries(connection, [entry for _, entry in dealt])
    with reading_portion(connection, request.most):
        runs = task_runs.task_runs_by_id(connection, [entry.task_run_id for _, entry in dealt]) if dealt else {}
    keys = _wanted_still(request, dealt)
    next_due_at = queue.next_due_at(connection, keys) if keys else None
    return Claim(
        deliveries=[
            Delivery(demand.subscriber, entry.lease_id or "", expires_at, entry.attempt, runs[entry.task_run_id])
            for demand, entry in dealt
        ],
        retries_in_a_row=multi_queue.retries_in_a_row,
        is_cut_short=len(dealt) == credit < demanded,
        next_due_at=next_due_at,
        is_contended=next_due_at is not None and next_due_at <= connection.now,
    )


def _choose(connection: Connection, request: ClaimRequest, credit: int) -> tuple[MultiQueue, Dealt]:
    """Who gets which of the due runs, as if all of these had been looked at; and what the queues are like after that.

    What is looked at stays locked until the commit, so that other servers pass it over: that is each key's share of the
    credit and a little more, and all that the credit could take only where a key has come to the end of what was seen.
    """
    keys = request.keys_in_turn
    per_side = min(credit, ceil(credit / len(keys)) + SPARE)
    while True:
        due = queue.due_entries(connection, keys, per_side)
        multi_queue = MultiQueue.of(due, keys, request.retries_in_a_row)
        dealt = deal(multi_queue, request.demands, most=credit)
        if per_side == credit or per_side not in Counter(_side_of(entry) for _, entry in dealt).values():
            return multi_queue, dealt
        per_side = credit


def _side_of(entry: QueueEntryRecord) -> tuple[str, bool]:
    return entry.task_key, entry.is_retry


def _wanted_still(request: ClaimRequest, dealt: Dealt) -> list[str]:
    """The keys of the demands that have credit left."""
    served = Counter(demand.subscriber for demand, _ in dealt)
    hungry = (demand.task_keys for demand in request.demands if demand.credit > served[demand.subscriber])
    return sorted(frozenset[str]().union(*hungry))


def deal(multi_queue: MultiQueue, demands: Sequence[Demand], *, most: int = LARGEST_CLAIM) -> Dealt:
    """Who gets which of at most `most` runs: the keys take turns, and so do the subscribers that want a key."""
    dealt: Dealt = []
    line = deque(demand for demand in demands if demand.credit > 0)
    while line and len(dealt) < most:
        wanted = frozenset[str]().union(*(demand.task_keys for demand in line))
        entry = multi_queue.take(wanted)
        if entry is None:
            break
        place = next(place for place, demand in enumerate(line) if entry.task_key in demand.task_keys)
        demand = line[place]
        del line[place]
        if demand.credit > 1:
            line.append(replace(demand, credit=demand.credit - 1))
        dealt.append((demand, entry))
    return dealt

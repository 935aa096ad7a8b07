"""Where a change of state leaves a run in the queue. Decides; `Placements.write` carries a whole batch out at the end."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from db.connection import Connection, LeaseSettled, Notice, WorkWaits
from db.enums import TERMINAL, StateType
from db.records import QueueEntryRecord, StateRecord, TaskRunRecord
from db.runtime.timestamps import seconds_after
from db.statements import queue
from db.statements.queue_stats import Side
from resolvers.orchestration.transition import ProposedState

RETRY_STATES = {"AwaitingRetry", "AwaitingRedelivery"}
"""SCHEDULED states that a failure or a lost worker was turned into: such runs go to the retry side of their key."""


@dataclass(slots=True)
class Placements:
    """What a batch of changes does to the queue."""

    inserted: list[QueueEntryRecord] = field(default_factory=list[QueueEntryRecord])
    updated: list[QueueEntryRecord] = field(default_factory=list[QueueEntryRecord])
    deleted: list[str] = field(default_factory=list[str])
    notices: list[Notice] = field(default_factory=list[Notice])

    def follow(
        self, run: TaskRunRecord, state: StateRecord, entry: QueueEntryRecord | None, lease_id: str | None
    ) -> None:
        """Place `run`, whose new state is `state`, proposed under `lease_id` if under any; `entry` is its present place.

        SCHEDULED queues it, whoever had it. The holder of its lease keeps it until it ends. One that leaves SCHEDULED by
        anybody else's hand leaves the queue, unless a worker had taken it over before.
        """
        if run.flow_run_id is not None:
            return
        if is_to_be_queued(run, state):
            self._enqueue(run, state, entry)
        elif entry is None:
            return
        elif state.type in TERMINAL or not (entry.is_acknowledged or holds(entry, lease_id)):
            self.drop(entry)
        elif holds(entry, lease_id):
            self.keep(entry, state.timestamp, waits_for_slot=False)

    def keep(self, entry: QueueEntryRecord, now: str, *, waits_for_slot: bool) -> None:
        """The worker shows that it has the run: that is as good as an acknowledgement."""
        is_changed = entry.waits_for_slot != waits_for_slot
        entry.waits_for_slot = waits_for_slot
        if take_over(entry, now):
            self._settle(entry)
            is_changed = True
        if is_changed:
            self.updated.append(entry)

    def hasten(self, entries: Sequence[QueueEntryRecord], now: str) -> None:
        """Make these entries due now, since a slot that they wait for has become free."""
        placed = {entry.task_run_id for entry in (*self.inserted, *self.updated)} | set(self.deleted)
        for entry in entries:
            if entry.task_run_id not in placed:
                entry.available_at, entry.waits_for_slot = now, False
                self.updated.append(entry)
                self.notices.append(WorkWaits(entry.task_key))

    def put_back(self, entry: QueueEntryRecord, available_at: str) -> None:
        """End the lease and let the run wait again, at the head of its key once it is due.

        Whoever let the lease run out without a word is given no other run for it until it names the lease.
        """
        self.notices.append(put_back(entry))
        entry.available_at = available_at
        self.updated.append(entry)

    def drop(self, entry: QueueEntryRecord) -> None:
        """End the lease and take the run out of the queue."""
        self.deleted.append(entry.task_run_id)
        self._settle(entry)

    def write(self, connection: Connection) -> None:
        queue.insert_queue_entries(connection, self.inserted)
        queue.update_queue_entries(connection, self.updated)
        queue.delete_queue_entries(connection, self.deleted)
        connection.announce(self.notices)

    def _enqueue(self, run: TaskRunRecord, state: StateRecord, entry: QueueEntryRecord | None) -> None:
        available_at = run.next_scheduled_start_time or state.timestamp
        is_retry = goes_to_retry_side(state)
        if entry is None:
            self.inserted.append(
                QueueEntryRecord(
                    task_run_id=run.id,
                    task_key=run.task_key,
                    is_retry=is_retry,
                    available_at=available_at,
                    attempt=0,
                    lease_id=None,
                    lease_seconds=None,
                    lease_expires_at=None,
                    is_acknowledged=False,
                    worker_name=None,
                )
            )
        else:
            self._settle(entry)
            end_lease(entry)
            entry.available_at, entry.is_retry, entry.waits_for_slot = available_at, is_retry, False
            if state.name != "AwaitingRedelivery":
                entry.lapses = 0
            self.updated.append(entry)
        self.notices.append(WorkWaits(run.task_key))

    def _settle(self, entry: QueueEntryRecord) -> None:
        if entry.lease_id is not None:
            self.notices.append(LeaseSettled(entry.lease_id))


def is_to_be_queued(run: TaskRunRecord, state: StateRecord | ProposedState) -> bool:
    """Whether the run waits for a worker in this state."""
    # What stands for a subflow is carried out by it, and by no worker.
    stands_for_subflow = state.details.child_flow_run_id is not None
    return run.flow_run_id is None and state.type is StateType.SCHEDULED and not stands_for_subflow


def goes_to_retry_side(state: StateRecord | ProposedState) -> bool:
    return state.name in RETRY_STATES


def side_joined(run: TaskRunRecord, state: ProposedState, entry: QueueEntryRecord | None) -> Side | None:
    """The side of a queue that the run would wait on in this state, and does not wait on yet; None where none is."""
    if not is_to_be_queued(run, state):
        return None
    is_retry = goes_to_retry_side(state)
    waits_there = entry is not None and entry.lease_id is None and entry.is_retry == is_retry
    return None if waits_there else (run.task_key, is_retry)


MOST_HASTENED = 100
"""How many runs freed slots make due at a time: more than there are slots would only wait again."""


def make_due_for_slots(connection: Connection, tags: Sequence[str]) -> None:
    """Make due, within a transaction that has freed slots of these tags, the runs that wait for one."""
    if tags:
        placements = Placements()
        placements.hasten(queue.entries_waiting_for_slots(connection, tags, MOST_HASTENED), connection.now)
        placements.write(connection)


def holds(entry: QueueEntryRecord | None, lease_id: str | None) -> bool:
    """Whether `lease_id` is the lease that the run is under."""
    return lease_id is not None and entry is not None and entry.lease_id == lease_id


def take_over(entry: QueueEntryRecord, now: str) -> bool:
    """Acknowledge the lease: from `now` it runs for the time its worker asked for. Whether it was not acknowledged yet."""
    if entry.is_acknowledged:
        return False
    entry.is_acknowledged = True
    entry.lease_expires_at = seconds_after(now, entry.lease_seconds or 0)
    return True


def end_lease(entry: QueueEntryRecord) -> None:
    """Make the entry one that waits, under nobody's lease."""
    entry.lease_id = entry.lease_seconds = entry.lease_expires_at = entry.worker_name = None
    entry.is_acknowledged = False


def put_back(entry: QueueEntryRecord) -> WorkWaits:
    """End the lease and put the run at the head of its key: the retry side, due since it was."""
    end_lease(entry)
    entry.is_retry = True
    return WorkWaits(entry.task_key)

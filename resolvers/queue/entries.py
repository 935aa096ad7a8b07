"""Effects of state changes on queue entries. They are collected for a batch, and `QueueChanges.write` writes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from db.connection import Connection, LeaseSettled, Notification, WorkAvailable
from db.enums import TERMINAL, StateType
from db.records import QueueEntryRecord, StateRecord, TaskRunRecord
from db.runtime.timestamps import seconds_after
from db.statements import queue
from db.statements.queue_stats import Side
from resolvers.orchestration.transition import ProposedState

RETRY_STATES = {"AwaitingRetry", "AwaitingRedelivery"}
"""Names of SCHEDULED states that follow a failure or a lost worker. Runs in these states wait on the retry side."""


@dataclass(slots=True)
class QueueChanges:
    """The queue entries that a batch of changes inserts, updates and deletes, and the notifications about them."""

    inserted: list[QueueEntryRecord] = field(default_factory=list[QueueEntryRecord])
    updated: list[QueueEntryRecord] = field(default_factory=list[QueueEntryRecord])
    deleted: list[str] = field(default_factory=list[str])
    notifications: list[Notification] = field(default_factory=list[Notification])

    def apply_state(
        self, run: TaskRunRecord, state: StateRecord, entry: QueueEntryRecord | None, lease_id: str | None
    ) -> None:
        """Update the queue for `run`, which has entered `state`. `entry` is the current queue entry of the run.

        A SCHEDULED run is queued, and any lease on it ends. A run that enters another state under its own lease
        (`lease_id`) stays leased until it ends. A run that leaves SCHEDULED in any other way is removed from the queue,
        unless a worker has acknowledged it.
        """
        if run.flow_run_id is not None:
            return
        if waits_for_worker(run, state):
            self._enqueue(run, state, entry)
        elif entry is None:
            return
        elif state.type in TERMINAL or not (entry.is_acknowledged or is_leased_under(entry, lease_id)):
            self.remove(entry)
        elif is_leased_under(entry, lease_id):
            self.keep_leased(entry, state.timestamp, waits_for_tag=None)

    def keep_leased(self, entry: QueueEntryRecord, now: str, *, waits_for_tag: str | None) -> None:
        """Acknowledge the lease implicitly: its worker has shown that it received the run.

        `waits_for_tag`: the tag whose limit has no free slot for the run; None when the run does not wait for a slot.
        """
        is_changed = entry.waits_for_tag != waits_for_tag
        entry.waits_for_tag = waits_for_tag
        if acknowledge(entry, now):
            self._notify_lease_settled(entry)
            is_changed = True
        if is_changed:
            self.updated.append(entry)

    def wake(self, entries: Sequence[QueueEntryRecord], now: str) -> None:
        """Make entries due that wait for a slot. Skip entries that the batch already changes."""
        changed_ids = {entry.task_run_id for entry in (*self.inserted, *self.updated)} | set(self.deleted)
        for entry in entries:
            if entry.task_run_id not in changed_ids:
                # The due time decides the order: a run that has waited keeps its place.
                entry.available_at, entry.waits_for_tag = min(entry.available_at, now), None
                self.updated.append(entry)
                self.notifications.append(WorkAvailable(entry.task_key))

    def unleased_waiters(self) -> list[QueueEntryRecord]:
        """Return the entries that wait for a slot without a lease after this batch."""
        return [entry for entry in self.updated if entry.lease_id is None and entry.waits_for_slot]

    def requeue(self, entry: QueueEntryRecord, available_at: str) -> None:
        """End the lease and requeue the run on the retry side, due at `available_at`.

        Publishes no `LeaseSettled`: a worker that let its lease expire unacknowledged does not regain the credit until
        it names the lease in a request.
        """
        self.notifications.append(requeue(entry))
        entry.available_at = available_at
        self.updated.append(entry)

    def hold_back(self, entry: QueueEntryRecord, waits_for_tag: str | None) -> None:
        """End the lease of a run whose worker has received WAIT for a slot, and requeue it on the retry side at its place.

        The run waits for a slot of `waits_for_tag`. It is due when that is None.
        """
        self.notifications.append(requeue(entry))
        entry.waits_for_tag = waits_for_tag
        self.updated.append(entry)

    def remove(self, entry: QueueEntryRecord) -> None:
        """End the lease and remove the run from the queue."""
        self.deleted.append(entry.task_run_id)
        self._notify_lease_settled(entry)

    def write(self, connection: Connection) -> None:
        queue.insert_queue_entries(connection, self.inserted)
        queue.update_queue_entries(connection, self.updated)
        queue.delete_queue_entries(connection, self.deleted)
        connection.notify(self.notifications)

    def _enqueue(self, run: TaskRunRecord, state: StateRecord, entry: QueueEntryRecord | None) -> None:
        available_at = run.next_scheduled_start_time or state.timestamp
        is_retry = is_retry_state(state)
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
            self._notify_lease_settled(entry)
            end_lease(entry)
            entry.available_at, entry.is_retry, entry.waits_for_tag = available_at, is_retry, None
            if state.name != "AwaitingRedelivery":
                entry.lapses = 0
            self.updated.append(entry)
        self.notifications.append(WorkAvailable(run.task_key))

    def _notify_lease_settled(self, entry: QueueEntryRecord) -> None:
        if entry.lease_id is not None:
            self.notifications.append(LeaseSettled(entry.lease_id))


def waits_for_worker(run: TaskRunRecord, state: StateRecord | ProposedState) -> bool:
    """Return whether the run waits for a worker in this state."""
    # A task run that represents a subflow is executed by the subflow, not by a worker.
    represents_subflow = state.details.child_flow_run_id is not None
    return run.flow_run_id is None and state.type is StateType.SCHEDULED and not represents_subflow


def is_retry_state(state: StateRecord | ProposedState) -> bool:
    return state.name in RETRY_STATES


def entered_side(run: TaskRunRecord, state: ProposedState, entry: QueueEntryRecord | None) -> Side | None:
    """Return the side of a queue that the run would join by entering this state.

    None if the run would not wait for a worker, or already waits on that side.
    """
    if not waits_for_worker(run, state):
        return None
    is_retry = is_retry_state(state)
    is_waiting_there = entry is not None and entry.lease_id is None and entry.is_retry == is_retry
    return None if is_waiting_there else (run.task_key, is_retry)


def is_leased_under(entry: QueueEntryRecord | None, lease_id: str | None) -> bool:
    """Return whether the run is under the lease `lease_id`."""
    return lease_id is not None and entry is not None and entry.lease_id == lease_id


def acknowledge(entry: QueueEntryRecord, now: str) -> bool:
    """Acknowledge the lease, which then lasts `lease_seconds` from `now`. Return False if already acknowledged."""
    if entry.is_acknowledged:
        return False
    entry.is_acknowledged = True
    entry.lease_expires_at = seconds_after(now, entry.lease_seconds or 0)
    return True


def end_lease(entry: QueueEntryRecord) -> None:
    """Remove the lease from the entry, which then waits for a worker."""
    entry.lease_id = entry.lease_seconds = entry.lease_expires_at = entry.worker_name = None
    entry.is_acknowledged = False


def requeue(entry: QueueEntryRecord) -> WorkAvailable:
    """End the lease and requeue the run on the retry side. Its due time does not change."""
    end_lease(entry)
    entry.is_retry = True
    return WorkAvailable(entry.task_key)

"""Effects of state changes on queue entries. They are collected for a batch, and `QueueChanges.write` writes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from db.connection import (
    CancelRequested,
    Connection,
    DeadlineSet,
    LeaseEnded,
    LeaseSettled,
    Notification,
    WorkAvailable,
)
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
        self,
        run: TaskRunRecord,
        state: StateRecord,
        entry: QueueEntryRecord | None,
        lease_id: str | None,
        *,
        is_claim: bool = False,
    ) -> None:
        """Update the queue for `run`, which has entered `state`. `entry` is the current queue entry of the run.

        A SCHEDULED run is queued, and any lease on it ends. A run that enters another state under its own lease
        (`lease_id`) stays leased until it ends. A run that leaves SCHEDULED in any other way is removed from the queue,
        unless a worker has acknowledged it. With `is_claim`, the claim that has created the lease sets the state: the
        worker has not acknowledged the lease.
        """
        if run.flow_run_id is not None:
            return
        if run.start_time is None and run.expires_at is not None and state.type not in TERMINAL:
            self.notifications.append(DeadlineSet(run.expires_at))
        if waits_for_worker(run, state):
            self._enqueue(run, state, entry)
        elif entry is None:
            return
        elif state.type in TERMINAL or not (entry.is_acknowledged or is_leased_under(entry, lease_id)):
            self.remove(entry)
        else:
            is_changed = copy_run_fields(run, entry)
            if state.type is StateType.RUNNING and self._begin_time_limit(run, entry, state.timestamp):
                is_changed = True
            if is_leased_under(entry, lease_id) and not is_claim:
                self.keep_leased(entry, state.timestamp, waits_for_tag=None, is_changed=is_changed)
            elif is_changed or is_claim:
                self.updated.append(entry)
            if state.type is StateType.CANCELLING and entry.lease_id is not None:
                self.notifications.append(CancelRequested(entry.lease_id))
                if entry.times_out_at is not None:
                    # It may have passed while the run was PAUSED.
                    self.notifications.append(DeadlineSet(entry.times_out_at))

    def keep_leased(
        self, entry: QueueEntryRecord, now: str, *, waits_for_tag: str | None, is_changed: bool = False
    ) -> None:
        """Acknowledge the lease implicitly: its worker has shown that it received the run.

        `waits_for_tag`: the tag whose limit has no free slot for the run; None when the run does not wait for a slot.
        `is_changed`: whether the entry has changes to write.
        """
        is_changed = is_changed or entry.waits_for_tag != waits_for_tag
        entry.waits_for_tag = waits_for_tag
        if acknowledge(entry, now):
            self.notifications.append(LeaseSettled(entry.lease_id or ""))
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
        self.notifications += requeue(entry)
        entry.available_at = available_at
        self.updated.append(entry)

    def hold_back(self, entry: QueueEntryRecord, waits_for_tag: str | None) -> None:
        """End the lease of a run whose worker has received WAIT for a slot, and requeue it on the retry side at its place.

        The run waits for a slot of `waits_for_tag`. It is due when that is None.
        """
        self.notifications += requeue(entry)
        entry.waits_for_tag = waits_for_tag
        self.updated.append(entry)

    def remove(self, entry: QueueEntryRecord) -> None:
        """End the lease and remove the run from the queue."""
        self.deleted.append(entry.task_run_id)
        if entry.lease_id is not None:
            self.notifications += (LeaseSettled(entry.lease_id), LeaseEnded(entry.lease_id))

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
                    priority=run.priority,
                    expires_at=expiry_of(run),
                )
            )
        else:
            self._notify_requeued(entry, state.timestamp)
            end_lease(entry)
            copy_run_fields(run, entry)
            entry.available_at, entry.is_retry, entry.waits_for_tag = available_at, is_retry, None
            if state.name != "AwaitingRedelivery":
                entry.lapses = 0
            self.updated.append(entry)
        self.notifications.append(WorkAvailable(run.task_key))

    def _begin_time_limit(self, run: TaskRunRecord, entry: QueueEntryRecord, now: str) -> bool:
        """Let the time limit of the run begin unless it has begun under this lease. Return whether the entry has changed."""
        if run.timeout_seconds is None:
            return False
        is_new = entry.times_out_at is None
        entry.times_out_at = entry.times_out_at or seconds_after(now, run.timeout_seconds)
        self.notifications.append(DeadlineSet(entry.times_out_at))
        return is_new

    def _notify_requeued(self, entry: QueueEntryRecord, now: str) -> None:
        if entry.lease_id is None:
            return
        self.notifications.append(LeaseEnded(entry.lease_id))
        # As in `requeue`: an unacknowledged lease that has expired keeps its credit.
        if entry.is_acknowledged or (entry.lease_expires_at or "") > now:
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


def expiry_of(run: TaskRunRecord) -> str | None:
    """Return when the run expires; None when it does not, or has started."""
    return run.expires_at if run.start_time is None else None


def has_expired(entry: QueueEntryRecord, now: str) -> bool:
    """Return whether the run of the entry has expired at the time `now` without having started."""
    return entry.expires_at is not None and entry.expires_at <= now


def copy_run_fields(run: TaskRunRecord, entry: QueueEntryRecord) -> bool:
    """Copy the priority and the expiry of the run to its entry. Return whether the entry has changed."""
    before = entry.priority, entry.expires_at
    entry.priority, entry.expires_at = run.priority, expiry_of(run)
    return before != (entry.priority, entry.expires_at)


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
    entry.lease_id = entry.lease_seconds = entry.lease_expires_at = entry.worker_name = entry.times_out_at = None
    entry.is_acknowledged = False


def requeue(entry: QueueEntryRecord) -> list[Notification]:
    """End the lease and requeue the run on the retry side. Its due time does not change. Return the notifications."""
    notifications: list[Notification] = [WorkAvailable(entry.task_key)]
    if entry.lease_id is not None:
        notifications.append(LeaseEnded(entry.lease_id))
    end_lease(entry)
    entry.is_retry = True
    return notifications

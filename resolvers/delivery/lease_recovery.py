"""Recovery of runs from lost workers, and from workers that release them. The outcome depends on the state of the run."""

from collections import Counter
from collections.abc import Sequence

from db.connection import Connection
from db.enums import StateType
from db.records import QueueEntryRecord, StateDetails
from db.runtime.timestamps import seconds_after
from db.statements import queue, task_runs
from db.statements.task_runs import TaskRunFacts
from resolvers.orchestration.rules.task_runs.retry_failed_task_runs import next_retry
from resolvers.orchestration.transition import ProposedState
from resolvers.queue.entries import is_leased_under
from resolvers.transitions.batch import STARTABLE_STATES, TaskRunTransitions

REDELIVERY_DELAYS = (0.0, 5.0, 30.0, 120.0)
"""Seconds before a run is redelivered after its first, second, third and each later lost worker in a row."""

MAX_EXPIRED_DELIVERIES = len(REDELIVERY_DELAYS) + 1
"""Number of consecutive lost workers after which a run counts as their cause and becomes CRASHED."""


def recover_expired_leases(connection: Connection, task_run_ids: Sequence[str]) -> Counter[str]:
    """End the expired leases of these runs and return the number of leases by outcome.

    The outcomes are `unacknowledged` (the delivery was never acknowledged), `crashed` (the run became CRASHED) and
    `lapsed` (all others). Runs whose leases have not expired are skipped.

    An unacknowledged run is due at once. An acknowledged run changes according to its state:

    - SCHEDULED: it is due after a delay, which increases with each lost worker.
    - PENDING: it becomes SCHEDULED, with the same delay.
    - RUNNING: it is retried if it has retries left, and otherwise becomes CRASHED (`WorkerLost`).
    - CANCELLING: it becomes CANCELLED.

    An unacknowledged run that its claim has started is unconfirmed: no worker may have received it, so RUNNING becomes
    SCHEDULED, with the same delay, and does not count in `run_count`.

    After MAX_EXPIRED_DELIVERIES lost workers in a row, a SCHEDULED, PENDING or unconfirmed run becomes CRASHED
    (`Undeliverable`). A SCHEDULED or PENDING run whose worker has received WAIT for a slot is no sign of a lost worker: it
    waits for the slot.
    """
    facts_by_id = task_runs.task_run_facts(connection, [(id, None) for id in task_run_ids], include_large_columns=False)
    transitions = TaskRunTransitions.load(connection, [facts.run for facts in facts_by_id.values()], [])
    outcomes = Counter[str]()
    # Another server may have recovered a run, or its worker may have renewed the lease.
    expired = [each for each in facts_by_id.values() if _has_expired(each.queue_entry, connection.now)]
    _uncount_starts(connection, [each for each in expired if is_unconfirmed(each)])
    for facts in expired:
        entry = facts.queue_entry
        assert entry is not None
        if entry.is_acknowledged or is_unconfirmed(facts):
            _recover_after_expiry(transitions, facts)
            outcomes["crashed" if facts.run.state_type is StateType.CRASHED else "lapsed"] += 1
        else:
            # No worker has started the run, so it cannot be the cause: the delivery does not count as a lost worker.
            _recover(transitions, facts, connection.now)
            outcomes["unacknowledged"] += 1
    _write(connection, transitions)
    return outcomes


def recover_lost_connections(connection: Connection, lease_ids: Sequence[str]) -> list[bool | Exception]:
    """Recover the unacknowledged runs that workers were probably executing when their connections were lost.

    Return whether each run was recovered. Such a run may be the cause of the loss: it counts as a lost worker, as after an
    acknowledgement.
    """
    lost = _unacknowledged_runs(connection, lease_ids)
    transitions = TaskRunTransitions.load(connection, [facts.run for facts in lost.values()], [])
    _uncount_starts(connection, list(lost.values()))
    for facts in lost.values():
        _recover_after_expiry(transitions, facts)
    _write(connection, transitions)
    return [lease_id in lost for lease_id in lease_ids]


def recover_unconfirmed(connection: Connection, transitions: TaskRunTransitions, runs: Sequence[TaskRunFacts]) -> None:
    """Requeue runs that claims have started and that no worker has confirmed: their starts do not count as runs.

    Each counts as a lost worker, as when its lease expires. The caller writes the transitions.
    """
    _uncount_starts(connection, runs)
    for facts in runs:
        _recover_after_expiry(transitions, facts)


def release_unconfirmed(connection: Connection, lease_ids: Sequence[str]) -> list[bool | Exception]:
    """Requeue runs that claims have started under these leases and that no worker has confirmed, each due at once.

    RUNNING becomes SCHEDULED and does not count in `run_count`. The workers are not lost. Return whether each run was
    requeued.
    """
    released = _unacknowledged_runs(connection, lease_ids)
    requeue_released(connection, [(facts, 0.0) for facts in released.values()])
    return [lease_id in released for lease_id in lease_ids]


def _unacknowledged_runs(connection: Connection, lease_ids: Sequence[str]) -> dict[str, TaskRunFacts]:
    """Lock and return the runs under those of these leases that are held and not acknowledged, by lease id.

    The lease sweep recovers runs whose leases have expired.
    """
    runs = queue.task_run_ids_by_lease(connection, lease_ids)
    facts_by_id = task_runs.task_run_facts(
        connection, [(run_id, None) for run_id in runs.values()], include_large_columns=False
    )
    found: dict[str, TaskRunFacts] = {}
    for lease_id, run_id in runs.items():
        facts = facts_by_id.get(run_id)
        entry = facts.queue_entry if facts else None
        if facts is None or entry is None or not is_leased_under(entry, lease_id):
            continue
        if not entry.is_acknowledged and not _has_expired(entry, connection.now):
            found[lease_id] = facts
    return found


def requeue_released(connection: Connection, runs: Sequence[tuple[TaskRunFacts, float]]) -> None:
    """End the leases of these runs and requeue them, each due after its delay in seconds. Their workers are not lost.

    A run whose worker has received WAIT for a slot waits for the slot instead of the delay. The RUNNING states under the
    lease of a run that is RUNNING no longer count.
    """
    transitions = TaskRunTransitions.load(connection, [facts.run for facts, _ in runs], [])
    _uncount_starts(connection, [facts for facts, _ in runs])
    for facts, delay in runs:
        if _is_held_back(facts):
            _hold_back(transitions, facts)
            continue
        _recover(transitions, facts, seconds_after(connection.now, delay), is_lost=False)
    _write(connection, transitions)


def _has_expired(entry: QueueEntryRecord | None, now: str) -> bool:
    return entry is not None and entry.lease_expires_at is not None and entry.lease_expires_at <= now


def is_unconfirmed(facts: TaskRunFacts) -> bool:
    """Return whether the run's claim has started it, and its worker has not acknowledged the lease."""
    entry = facts.queue_entry
    return entry is not None and not entry.is_acknowledged and facts.run.state_type is StateType.RUNNING


def _uncount_starts(connection: Connection, requeued: Sequence[TaskRunFacts]) -> None:
    """Set the run count of each RUNNING run to its value before the first RUNNING under its lease."""
    running = [each for each in requeued if each.run.state_type is StateType.RUNNING]
    if not running:
        return
    lease_ids = {each.run.id: each.queue_entry.lease_id or "" for each in running if each.queue_entry}
    starts = task_runs.count_starts_under_leases(connection, lease_ids)
    for each in running:
        each.run.run_count = max(0, each.run.run_count - starts[each.run.id])


def _is_held_back(facts: TaskRunFacts) -> bool:
    """Return whether the worker has received WAIT for a slot, or ABORT for a limit of 0."""
    entry = facts.queue_entry
    return entry is not None and entry.waits_for_slot and facts.run.state_type in STARTABLE_STATES


def _hold_back(transitions: TaskRunTransitions, facts: TaskRunFacts) -> None:
    """End the lease. The run waits for a slot; it is due if slots are free by now. PENDING becomes SCHEDULED."""
    entry = facts.queue_entry
    assert entry is not None
    if facts.run.state_type is StateType.SCHEDULED:
        transitions.queue_changes.hold_back(entry, transitions.full_tag(facts.run))
        return
    available_at = entry.available_at
    _set_state(transitions, facts, _awaiting_redelivery(transitions.now))
    # The run keeps its place among the waiting runs.
    entry.available_at, entry.waits_for_tag = available_at, transitions.full_tag(facts.run)


def _awaiting_redelivery(due_at: str) -> ProposedState:
    return ProposedState(StateType.SCHEDULED, "AwaitingRedelivery", details=StateDetails(scheduled_time=due_at))


def _recover_after_expiry(transitions: TaskRunTransitions, facts: TaskRunFacts) -> None:
    """Count a lost worker, and requeue the run with a delay or set it to CRASHED, depending on the count."""
    entry = facts.queue_entry
    assert entry is not None
    if _is_held_back(facts):
        _hold_back(transitions, facts)
        return
    entry.lapses += 1
    has_not_begun = facts.run.state_type in STARTABLE_STATES or is_unconfirmed(facts)
    if entry.lapses >= MAX_EXPIRED_DELIVERIES and has_not_begun:
        message = (
            f"{entry.lapses} consecutive deliveries ended with a lost worker; the limit is {MAX_EXPIRED_DELIVERIES}."
        )
        _set_state(transitions, facts, ProposedState(StateType.CRASHED, "Undeliverable", message))
        return
    delay = REDELIVERY_DELAYS[min(entry.lapses, len(REDELIVERY_DELAYS)) - 1]
    _recover(transitions, facts, seconds_after(transitions.now, delay))


def _recover(transitions: TaskRunTransitions, facts: TaskRunFacts, due_at: str, *, is_lost: bool = True) -> None:
    entry, type = facts.queue_entry, facts.run.state_type
    assert entry is not None
    if type is StateType.SCHEDULED:
        transitions.pass_slots_on(facts.run)
        transitions.queue_changes.requeue(entry, max(due_at, facts.run.next_scheduled_start_time or due_at))
    elif type is StateType.PENDING or (type is StateType.RUNNING and (not is_lost or is_unconfirmed(facts))):
        _set_state(transitions, facts, _awaiting_redelivery(due_at))
    elif type is StateType.RUNNING:
        lost = ProposedState(
            StateType.CRASHED, "WorkerLost", "The worker's lease expired while the task run was RUNNING."
        )
        _set_state(transitions, facts, next_retry(facts.run, lost, transitions.now, transitions.chance()) or lost)
    elif type is StateType.CANCELLING:
        _set_state(transitions, facts, ProposedState(StateType.CANCELLED, StateType.CANCELLED.default_name))
    else:
        transitions.queue_changes.remove(entry)


def _set_state(transitions: TaskRunTransitions, facts: TaskRunFacts, state: ProposedState) -> None:
    """Set a state without applying rules, because no client proposed it."""
    transitions.propose((), facts.run, state, flow_run=None, entry=facts.queue_entry, lease_id=None)


def _write(connection: Connection, transitions: TaskRunTransitions) -> None:
    transitions.write_changes(connection)
    task_runs.update_current_states(connection, transitions.changed_runs)

"""Starts of runs in a claim: which due runs it can start, and their transitions to RUNNING in its transaction.

A claim that starts runs applies the rules itself. On PostgreSQL, it locks the runs, their queue entries and the limits on
their tags, and skips what another transaction has locked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from db.connection import Connection
from db.enums import StateType
from db.records import QueueEntryRecord, StateDetails, StateRecord, TaskRunRecord
from db.runtime.timestamps import seconds_after
from db.statements import concurrency_limits, result_cache, task_runs
from resolvers.delivery.slot_check import SlotCheck, read_limits
from resolvers.orchestration.policy import task_run_policy
from resolvers.orchestration.transition import ProposedState
from resolvers.queue.entries import end_lease, has_expired
from resolvers.transitions.batch import TaskRunTransitions
from resolvers.transitions.concurrency_slots import SlotLedger
from resolvers.transitions.unique_keys import UniqueKeyLedger

POSTPONED_SECONDS = 30.0
"""Time after which a run is due again whose start a rule has aborted without a reason to wait for."""


@dataclass(slots=True)
class StartCheck:
    """The due runs of a claim that can be delivered, and what the claim needs to start them."""

    slots: SlotCheck
    now: str
    """Time of the claim."""
    ledger: SlotLedger | None = None
    """The limits on the tags of the due runs; None for a claim that starts no runs."""
    cached_states: dict[str, StateRecord] = field(default_factory=dict[str, StateRecord])
    """Cached states by cache key."""
    cached: list[QueueEntryRecord] = field(default_factory=list[QueueEntryRecord])
    """Runs that were not admitted because their results are in the cache."""
    cached_for: dict[str, str | None] = field(default_factory=dict[str, str | None])
    """The actor that would have started each of them, by the run's id."""
    expired: list[QueueEntryRecord] = field(default_factory=list[QueueEntryRecord])
    """Runs that were not admitted because they have expired."""
    skipped: list[QueueEntryRecord] = field(default_factory=list[QueueEntryRecord])
    """Runs that were not admitted because another transaction has locked a limit on their tags. They stay due."""

    @classmethod
    def load(cls, connection: Connection, due: Sequence[QueueEntryRecord]) -> "StartCheck":
        """Read the cached results for these due runs, and lock and read the limits on their tags.

        Takes no statement for runs without tags and cache keys, one for cache keys, one for tags, and three more for
        limited tags.
        """
        cached_states = result_cache.cached_states(connection, [each.cache_key for each in due if each.cache_key])
        limits = read_limits(connection, due)
        tags = sorted({each.tag for of_run in limits.values() for each in of_run})
        if not tags:
            return cls(SlotCheck({}, set()), connection.now, SlotLedger({}, {}), cached_states)
        locked = concurrency_limits.lock_unlocked_limits(connection, tags)
        # A limit that was changed before it was locked is read again.
        ledger = SlotLedger.load_locked(connection, tags)
        current = {id: ledger.facts_for_tags(id, [each.tag for each in of_run]) for id, of_run in limits.items()}
        return cls(SlotCheck(current, locked), connection.now, ledger, cached_states)

    def admits(self, entry: QueueEntryRecord, *, starts: bool, actor: str | None) -> bool:
        """Return whether the run can be delivered. With `starts`, `actor` starts it too."""
        if has_expired(entry, self.now):
            self.expired.append(entry)
            return False
        if starts:
            if entry.cache_key in self.cached_states:
                # Before the slots, as in the policy: a cached result needs no slot.
                self.cached.append(entry)
                self.cached_for[entry.task_run_id] = actor
                return False
            if self.slots.has_unlocked_limit(entry):
                self.skipped.append(entry)
                return False
        return self.slots.admits(entry)

    @property
    def has_settled(self) -> bool:
        """Whether runs leave the due runs without being delivered."""
        return bool(self.slots.held_back or self.cached or self.expired)

    @property
    def not_admitted(self) -> list[QueueEntryRecord]:
        """Every run that was not admitted."""
        return [*self.slots.held_back, *self.cached, *self.expired, *self.skipped]


def end_without_delivery(connection: Connection, check: StartCheck) -> None:
    """Set runs with a cached result to COMPLETED (`Cached`) and expired runs to CANCELLED (`Expired`), by the rules.

    They leave the queue.
    """
    ending = [*check.cached, *check.expired]
    if not ending:
        return
    proposals: list[tuple[str, str | None]] = [(each.task_run_id, None) for each in ending]
    facts = task_runs.task_run_facts(connection, proposals, include_large_columns=False)
    ledger = check.ledger
    if ledger is None:
        # No slot is taken or freed, but other runs are woken for those that the runs could have taken.
        tags = sorted({tag for each in facts.values() for tag in each.run.tags})
        ledger = SlotLedger.load_locked(connection, tags) if tags else SlotLedger({}, {})
    transitions = _transitions(connection, check, ledger)
    for each in facts.values():
        _propose_start(transitions, each.run, each.queue_entry, check.cached_for.get(each.run.id))
    _write(connection, transitions)


def start_runs(
    connection: Connection, check: StartCheck, claimed: Sequence[tuple[QueueEntryRecord, TaskRunRecord, str | None]]
) -> set[str]:
    """Set these leased runs to RUNNING, by the rules, and return the ids of those that have started.

    Each run has its queue entry and the actor whose request claims it. Their leases stay unacknowledged. A run that a rule
    does not let start loses its lease.
    """
    if not claimed:
        return set()
    assert check.ledger is not None
    transitions = _transitions(connection, check, check.ledger)
    for entry, run, actor in claimed:
        _propose_start(transitions, run, entry, actor)
    _write(connection, transitions)
    return {run.id for _, run, _ in claimed if run.state_type is StateType.RUNNING}


def _transitions(connection: Connection, check: StartCheck, ledger: SlotLedger) -> TaskRunTransitions:
    # A run that starts has not ended: it holds its unique key already.
    return TaskRunTransitions(connection.now, connection.chance, ledger, check.cached_states, UniqueKeyLedger({}))


def _propose_start(
    transitions: TaskRunTransitions, run: TaskRunRecord, entry: QueueEntryRecord | None, actor: str | None
) -> None:
    assert entry is not None
    details = StateDetails(cache_key=run.cache_key)
    decision, _ = transitions.propose(
        task_run_policy(in_flow_run=False, forced=False),
        run,
        ProposedState(StateType.RUNNING, StateType.RUNNING.default_name, details=details),
        flow_run=None,
        entry=entry,
        lease_id=entry.lease_id,
        actor=actor,
        is_claim=True,
    )
    if decision.state is None:
        end_lease(entry)
        entry.attempt -= 1
        entry.available_at = seconds_after(transitions.now, decision.delay_seconds or POSTPONED_SECONDS)
        transitions.queue_changes.updated.append(entry)


def _write(connection: Connection, transitions: TaskRunTransitions) -> None:
    transitions.write_changes(connection)
    task_runs.update_current_states(connection, transitions.changed_runs)

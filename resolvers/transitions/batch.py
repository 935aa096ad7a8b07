"""Transitions of a batch of task runs: decides each of them, then writes the effects of all together."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from db.connection import Connection
from db.enums import StateType
from db.records import QueueEntryRecord, StateRecord, TaskRunRecord
from db.runtime.chance import Chance
from db.statements import queue, result_cache, states
from db.statements.result_cache import CacheRecord
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.policy import Policy
from resolvers.orchestration.transition import FlowRunFacts, ProposedState, Transition
from resolvers.queue.capacity import CapacityReservation
from resolvers.queue.entries import MAX_SLOT_WAITERS_PER_WAKE, QueueChanges, entered_side
from resolvers.transitions.concurrency_slots import SlotLedger
from resolvers.transitions.enter_state import enter_state


@dataclass(slots=True)
class TaskRunTransitions:
    """The transitions of one batch. Each sees the effects of earlier ones on shared slots and cached results."""

    now: str
    chance: Chance
    slots: SlotLedger
    cached_states: dict[str, StateRecord]
    reservation: CapacityReservation | None = None
    """Number of runs that may be added to the queues; None for no limit."""
    queue_changes: QueueChanges = field(default_factory=QueueChanges)
    changed_runs: list[TaskRunRecord] = field(default_factory=list[TaskRunRecord])
    cache_entries: list[CacheRecord] = field(default_factory=list[CacheRecord])

    @classmethod
    def load(
        cls, connection: Connection, runs: Iterable[TaskRunRecord], proposals: Iterable[ProposedState]
    ) -> "TaskRunTransitions":
        """Load the facts that the runs share, in at most three statements."""
        cache_keys = [each.details.cache_key for each in proposals if each.type is StateType.RUNNING]
        keys = [key for key in cache_keys if key]
        slots = SlotLedger.load(connection, runs)
        return cls(connection.now, connection.chance, slots, result_cache.cached_states(connection, keys))

    def propose(
        self,
        policy: Policy,
        run: TaskRunRecord,
        proposed: ProposedState,
        *,
        flow_run: FlowRunFacts | None,
        entry: QueueEntryRecord | None,
        lease_id: str | None,
    ) -> tuple[Decision, StateRecord | None]:
        """Decide a proposed state and apply the decision to `run`. Return the decision and the new state, if any.

        Raises QueueFull, with nothing changed, when the proposed state would queue the run and the queue has reached
        its limit. States that rules set instead are not limited.
        """
        held_lease_id = entry.lease_id if entry and (entry.lease_expires_at or "") > self.now else None
        decision = decide(
            policy,
            Transition(
                run=run,
                proposed=proposed,
                now=self.now,
                flow_run=flow_run,
                flow_run_run_count=run.flow_run_run_count,
                limits=self.slots.facts_for(run),
                cached=self.cached_states.get(proposed.details.cache_key or ""),
                chance=self.chance(),
                lease_id=lease_id,
                held_lease_id=held_lease_id,
            ),
        )
        if decision.state is None:
            if entry is not None and lease_id is not None and lease_id == held_lease_id:
                self.queue_changes.keep_leased(entry, self.now, waits_for_slot=decision.waits_for_slot)
            return decision, None
        if self.reservation is not None and (side := entered_side(run, proposed, entry)) is not None:
            self.reservation.reserve(side)
        state = self._apply_decision(run, decision, proposed.details.transition_id)
        self.queue_changes.apply_state(run, state, entry, lease_id)
        return decision, state

    def write_changes(self, connection: Connection) -> None:
        """Write all effects except those on the runs themselves, whose rows must exist already."""
        if freed := self.slots.freed_tags():
            self.queue_changes.make_due(
                queue.entries_waiting_for_slots(connection, freed, MAX_SLOT_WAITERS_PER_WAKE), self.now
            )
        # No read follows, so all of these statements can be sent to the database together.
        states.insert_task_run_states(connection, [run.state for run in self.changed_runs if run.state])
        self.slots.write(connection)
        result_cache.cache_states(connection, self.cache_entries)
        self.queue_changes.write(connection)

    def _apply_decision(self, run: TaskRunRecord, decision: Decision, transition_id: str | None) -> StateRecord:
        assert decision.state is not None
        effects = decision.effects
        if effects.run_count is not None:
            run.run_count = effects.run_count
        if effects.flow_run_run_count is not None:
            run.flow_run_run_count = effects.flow_run_run_count
        state = enter_state(run, decision.state, self.now, transition_id=transition_id)
        self.slots.apply_state(run, state.type, takes_slots=bool(effects.takes_slots))
        details = decision.state.details
        if effects.caches_result and details.cache_key:
            self.cache_entries.append(CacheRecord(state.id, details.cache_key, details.cache_expires_at, self.now))
            if details.cache_expires_at is None or details.cache_expires_at > self.now:
                self.cached_states[details.cache_key] = state
        self.changed_runs.append(run)
        return state

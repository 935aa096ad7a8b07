"""Transitions of a batch of task runs: decides each of them, then writes the effects of all together."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from db.connection import Connection
from db.enums import TERMINAL, StateType
from db.records import QueueEntryRecord, StateRecord, TaskRunRecord
from db.runtime.chance import Chance
from db.statements import result_cache, states
from db.statements.result_cache import CacheRecord
from resolvers.orchestration.decide import Decision, decide
from resolvers.orchestration.policy import Policy
from resolvers.orchestration.rules.task_runs.take_concurrency_slots import first_full_limit
from resolvers.orchestration.transition import FlowRunFacts, OrchestrationStatus, ProposedState, Transition
from resolvers.queue.capacity import CapacityReservation
from resolvers.queue.entries import QueueChanges, entered_side
from resolvers.queue.slot_waiters import find_waiters
from resolvers.transitions.concurrency_slots import SlotLedger
from resolvers.transitions.enter_state import enter_state
from resolvers.transitions.measurements import RunMeasurements
from resolvers.transitions.unique_keys import UniqueKeyLedger

STARTABLE_STATES = {StateType.SCHEDULED, StateType.PENDING}
"""State types of queued runs that can start, and that wait for a slot when none is free."""


@dataclass(slots=True)
class TaskRunTransitions:
    """The transitions of one batch. Each sees the effects of earlier ones on shared slots and cached results."""

    now: str
    chance: Chance
    slots: SlotLedger
    cached_states: dict[str, StateRecord]
    unique_keys: UniqueKeyLedger
    reservation: CapacityReservation | None = None
    """Number of runs that may be added to the queues; None for no limit."""
    queue_changes: QueueChanges = field(default_factory=QueueChanges)
    changed_runs: list[TaskRunRecord] = field(default_factory=list[TaskRunRecord])
    new_states: list[StateRecord] = field(default_factory=list[StateRecord])
    unused_tags: Counter[str] = field(default_factory=Counter[str])
    """Number of runs, by limited tag, that could have taken a slot and did not. Waiting runs are woken for these slots."""
    former_waiters: set[str] = field(default_factory=set[str])
    """Runs that waited for a slot before the batch changed their state."""
    cache_entries: list[CacheRecord] = field(default_factory=list[CacheRecord])
    measurements: RunMeasurements = field(default_factory=RunMeasurements)

    @classmethod
    def load(
        cls,
        connection: Connection,
        runs: Sequence[TaskRunRecord],
        proposals: Iterable[ProposedState],
        *,
        lock: bool = True,
    ) -> "TaskRunTransitions":
        """Load the facts that the runs share, in at most four statements. `lock`: false when nothing is written."""
        cache_keys = [each.details.cache_key for each in proposals if each.type is StateType.RUNNING]
        keys = [key for key in cache_keys if key]
        slots = SlotLedger.load(connection, runs, lock=lock)
        cached_states = result_cache.cached_states(connection, keys)
        unique_keys = UniqueKeyLedger.load(connection, [run for run in runs if run.state_type in TERMINAL])
        return cls(connection.now, connection.chance, slots, cached_states, unique_keys)

    def propose(
        self,
        policy: Policy,
        run: TaskRunRecord,
        proposed: ProposedState,
        *,
        flow_run: FlowRunFacts | None,
        entry: QueueEntryRecord | None,
        lease_id: str | None,
        actor: str | None = None,
        is_claim: bool = False,
    ) -> tuple[Decision, StateRecord | None]:
        """Decide a proposed state and apply the decision to `run`. Return the decision and the new state, if any.

        `actor`: the client that proposes the state; None when the server sets it.

        With `is_claim`, the claim that has created the lease `lease_id` proposes the state, and not the worker: the lease
        stays unacknowledged.

        Raises QueueFull, with nothing changed, when the proposed state would queue the run and the queue has reached
        its limit. States that rules set instead are not limited.
        """
        held_lease_id = entry.lease_id if entry and (entry.lease_expires_at or "") > self.now else None
        is_acknowledged = entry is not None and held_lease_id is not None and entry.is_acknowledged
        unique_key_holder = self.unique_keys.other_holder(run)
        has_worker = is_acknowledged or (lease_id is not None and lease_id == held_lease_id)
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
                has_worker=has_worker,
                unique_key_holder_id=None if unique_key_holder is None else unique_key_holder.id,
            ),
        )
        if decision.state is None:
            if entry is not None and lease_id is not None and lease_id == held_lease_id and not is_claim:
                self._keep_leased(run, entry, decision)
            return decision, None
        if self.reservation is not None and (side := entered_side(run, proposed, entry)) is not None:
            self.reservation.reserve(side)
        if entry is not None and entry.waits_for_slot:
            self.former_waiters.add(run.id)
        could_start = run.state_type in STARTABLE_STATES
        state_lease_id = None if entry is None else entry.lease_id
        state = self._apply_decision(run, decision, proposed.details.transition_id, actor, state_lease_id)
        self.changed_runs.append(run)
        last_state = state if has_worker else self._complete_cancellation(run, state, actor)
        # A RUNNING that is forced takes no slots.
        has_started = last_state.type is StateType.RUNNING and decision.effects.takes_slots
        if could_start and not has_started and last_state.type is not StateType.PENDING:
            self.pass_slots_on(run)
        self.queue_changes.apply_state(run, last_state, entry, lease_id, is_claim=is_claim)
        return decision, state

    def pass_slots_on(self, run: TaskRunRecord) -> None:
        """Let another run have the slots that this run could have taken, because it does not start now."""
        self.unused_tags.update([each.tag for each in self.slots.facts_for(run)])

    def full_tag(self, run: TaskRunRecord) -> str | None:
        """Return the first tag of the run whose limit has no free slot for it; None when the run could start."""
        limit = first_full_limit(self.slots.facts_for(run))
        return None if limit is None else limit.tag

    def write_changes(self, connection: Connection) -> None:
        """Write all effects except those on the runs themselves, whose rows must exist already."""
        self._wake_waiters(connection)
        # No read follows, so all of these statements can be sent to the database together.
        states.insert_task_run_states(connection, self.new_states)
        self.slots.write(connection)
        result_cache.cache_states(connection, self.cache_entries)
        self.queue_changes.write(connection)
        self.measurements.write(connection)

    def _keep_leased(self, run: TaskRunRecord, entry: QueueEntryRecord, decision: Decision) -> None:
        """Keep the lease of a run whose proposed state was not set, and note whether the run waits for a slot."""
        tag = decision.waits_for_tag if run.state_type in STARTABLE_STATES else None
        self.queue_changes.keep_leased(entry, self.now, waits_for_tag=tag)
        if tag is not None:
            self.pass_slots_on(run)

    def _complete_cancellation(self, run: TaskRunRecord, state: StateRecord, actor: str | None) -> StateRecord:
        """Set CANCELLED after a CANCELLING that was set by force, because no worker holds the run. Return the last state.

        Task runs of flow runs, and those that represent a subflow, are cancelled by the program that executes them.
        """
        is_in_background = run.flow_run_id is None and state.details.child_flow_run_id is None
        if state.type is not StateType.CANCELLING or not is_in_background:
            return state
        cancelled = ProposedState(StateType.CANCELLED, StateType.CANCELLED.default_name, state.message, state.data)
        return self._apply_decision(run, Decision(OrchestrationStatus.ACCEPT, cancelled), None, actor)

    def _wake_waiters(self, connection: Connection) -> None:
        """Make runs due for the slots that the batch has freed, and for those that its runs could have taken."""
        for entry in self.queue_changes.unleased_waiters():
            # A later change of the batch may have freed the slot, or the limit may be gone.
            free = self.slots.free_slots(entry.waits_for_tag or "")
            if free is None or free > 0:
                entry.waits_for_tag = None
        unused = {tag: min(count, self.slots.free_slots(tag) or 0) for tag, count in self.unused_tags.items()}
        free_slots = unused | self.slots.freed_slots()
        self.queue_changes.wake(find_waiters(connection, free_slots, except_runs=self.former_waiters), self.now)

    def _apply_decision(
        self,
        run: TaskRunRecord,
        decision: Decision,
        transition_id: str | None,
        actor: str | None,
        lease_id: str | None = None,
    ) -> StateRecord:
        assert decision.state is not None
        effects = decision.effects
        if effects.run_count is not None:
            run.run_count = effects.run_count
        if effects.flow_run_run_count is not None:
            run.flow_run_run_count = effects.flow_run_run_count
        previous, had_started = run.state_type, run.start_time is not None
        state = enter_state(run, decision.state, self.now, transition_id=transition_id, actor=actor, lease_id=lease_id)
        self.measurements.record(run, state, previous, had_started=had_started)
        self.slots.apply_state(run, state.type, takes_slots=bool(effects.takes_slots))
        self.unique_keys.apply_state(run)
        details = decision.state.details
        if effects.caches_result and details.cache_key:
            self.cache_entries.append(CacheRecord(state.id, details.cache_key, details.cache_expires_at, self.now))
            if details.cache_expires_at is None or details.cache_expires_at > self.now:
                self.cached_states[details.cache_key] = state
        self.new_states.append(state)
        return state
